"""MNIST and two sets in its form: 60,000 training and 10,000 test images of ten classes."""

from experiments.data.sets.record import tfds_record

_FORM = {"num_classes": 10, "input_shape": (28, 28, 1)}

MNIST = tfds_record("mnist", "70,000 handwritten digits", "LeCun et al., 1998", **_FORM)

FASHION_MNIST = tfds_record(
    "fashion_mnist",
    "70,000 pieces of clothing",
    "Xiao et al., 2017",
    **_FORM,
    class_names=(
        *("T-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "boot"),
    ),
)

KMNIST = tfds_record(
    "kmnist", "70,000 cursive Japanese characters", "Clanuwat et al., 2018", **_FORM
)
