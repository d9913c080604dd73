"""CIFAR: 50,000 training and 10,000 test photographs of 32 x 32 pixels."""

from experiments.data.sets.record import tfds_record

_SHAPE = (32, 32, 3)

CIFAR10 = tfds_record(
    "cifar10",
    "60,000 photographs of animals and vehicles",
    "Krizhevsky, 2009",
    num_classes=10,
    input_shape=_SHAPE,
    class_names=(
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
)

CIFAR100 = tfds_record(
    "cifar100",
    "60,000 photographs of things, 600 of a class",
    "Krizhevsky, 2009",
    num_classes=100,
    input_shape=_SHAPE,
)
