"""Random and fixed changes of image batches on the device, named by texts such as "crop:4+flip".

Images are [B, H, W, C], bytes in 0 .. 255 or floats in [0, 1]. Every image has a key of its own, so
image i is changed in the same way whatever the batch holds after it.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from experiments.tools.names import lookup


class Augmentation(NamedTuple):
    """What training and test images go through before the network reads them.

    Pure functions with static shapes, for `jit`, `vmap` and `scan`. Both return images of one shape
    and dtype, and the same key gives the same training images.
    """

    train: Callable[[Array, Array], Array]  # (key, images [B, H, W, C]) -> images
    test: Callable[[Array], Array]  # images [B, H, W, C] -> images
    spec: str


class _Step(NamedTuple):
    train: Callable[[Array, Array], Array]
    test: Callable[[Array], Array]


class _Kind(NamedTuple):
    make: Callable[..., _Step]  # () or, where it takes a value, (value)
    value: str | None  # how the value is called in messages
    read: Callable[[str], object] = str
    changes_range: bool = False  # whether the images are no longer bytes, or floats in [0, 1]
    reads_range: bool = False


STATISTICS = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of each channel over the training pixels, on the scale 0 .. 1.

CIFAR's are those of its 50,000 training images; ImageNet's are the ones torchvision's networks
were trained with.
"""


def parse_augmentation(spec: str) -> Augmentation:
    """Read a text of steps joined by "+", which are applied from left to right.

    - `none`: nothing.
    - `crop:P`: pad by P zeros on every side, cut the old size out at a random place. Test: nothing.
    - `random_crop:SIZE`: cut SIZE x SIZE out at a random place. Test: from the centre.
    - `flip`: left-right, half of the images. Test: nothing.
    - `flip_both`: left-right and up-down, each half of the images, independently. Test: nothing.
    - `shrink:K`: average K x K patches, for training and test.
    - `grey_world`: scale the channels of an image to a common mean, for training and test.
    - `standardize:SET`: subtract the channel means of SET and divide by their standard deviations
      (`STATISTICS`), for training and test.
    - `signed`: from 0 .. 255 (floats: 0 .. 1) to -1 .. 1, for training and test.

    The last two return floats, the others keep the dtype. Zeros are padded at the step's place: a
    `crop` before `standardize` pads with black, after it with the mean colour.

    Raises:
      ValueError: an unknown step, a value that is missing, surplus or wrong, or a step that needs
        the range 0 .. 255 after one that changes it. Sizes that do not fit the images are
        refused when the functions are traced.
    """
    if spec == "none":
        return Augmentation(lambda key, images: images, lambda images: images, spec)
    kinds = [
        lookup(part.partition(":")[0], AUGMENTATIONS, "augmentation") for part in spec.split("+")
    ]
    steps = [_make(kind, part) for kind, part in zip(kinds, spec.split("+"), strict=True)]
    for i, kind in enumerate(kinds):
        if kind.reads_range and any(earlier.changes_range for earlier in kinds[:i]):
            raise ValueError(f"{spec!r}: signed and standardize:SET come after grey_world, once")

    def train(key: Array, images: Array) -> Array:
        _check_images(spec, images)
        for i, step in enumerate(steps):
            images = step.train(jax.random.fold_in(key, i), images)
        return images

    def test(images: Array) -> Array:
        _check_images(spec, images)
        for step in steps:
            images = step.test(images)
        return images

    return Augmentation(train, test, spec)


def crop_offsets(key: Array, num_images: int, largest: tuple[int, int]) -> Array:
    """Draw a row and a column for every image, uniform on 0 .. `largest`: int32 [B, 2]."""

    def draw(key: Array) -> Array:
        return jax.random.randint(key, (2,), 0, jnp.array(largest) + 1)

    return jax.vmap(draw)(jax.random.split(key, num_images))


def coin_flips(key: Array, num_images: int, num_coins: int) -> Array:
    """Draw fair coins for every image: bool [B, num_coins]."""
    keys = jax.random.split(key, num_images)
    return jax.vmap(lambda key: jax.random.bernoulli(key, shape=(num_coins,)))(keys)


def _crop(padding: int) -> _Step:
    def train(key: Array, images: Array) -> Array:
        sides = (padding, padding)
        offsets = crop_offsets(key, len(images), (2 * padding, 2 * padding))
        return _cut(jnp.pad(images, ((0, 0), sides, sides, (0, 0))), offsets, images.shape[1:3])

    return _Step(train, lambda images: images)


def _random_crop(size: int) -> _Step:
    def margins(images: Array) -> tuple[int, int]:
        height, width = images.shape[1:3]
        if size > min(height, width):
            raise ValueError(
                f"random_crop:{size} needs images at least as large; got {images.shape}"
            )
        return height - size, width - size

    def train(key: Array, images: Array) -> Array:
        return _cut(images, crop_offsets(key, len(images), margins(images)), (size, size))

    def test(images: Array) -> Array:
        top, left = (margin // 2 for margin in margins(images))
        return images[:, top : top + size, left : left + size]

    return _Step(train, test)


def _cut(images: Array, offsets: Array, shape: tuple[int, ...]) -> Array:
    """Cut a window of `shape` out of every image, with its upper left corner at its offset."""

    def cut(image: Array, offset: Array) -> Array:
        return jax.lax.dynamic_slice(image, (*offset, 0), (*shape, image.shape[-1]))

    return jax.vmap(cut)(images, offsets)


def _flip(axes: tuple[int, ...]) -> _Step:
    def train(key: Array, images: Array) -> Array:
        coins = coin_flips(key, len(images), len(axes))
        for axis, coin in zip(axes, coins.T, strict=True):
            images = jnp.where(coin[:, None, None, None], jnp.flip(images, axis), images)
        return images

    return _Step(train, lambda images: images)


def _shrink(factor: int) -> _Step:
    def shrink(images: Array) -> Array:
        size, height, width, channels = images.shape
        if height % factor or width % factor:
            raise ValueError(f"shrink:{factor} must divide the images' sides; got {images.shape}")
        patches = images.reshape(size, height // factor, factor, width // factor, factor, channels)
        return _like(jnp.mean(patches, axis=(2, 4), dtype=_float(images)), images)

    return _fixed(shrink)


def _grey_world() -> _Step:
    """Colour constancy by the grey-world assumption (Buchsbaum, 1980).

    The likely meaning of the "colour normalization" of Santiago et al. (2021), who give no formula.
    A channel that is all zero stays so; bytes are cut off at 255.
    """

    def balance(images: Array) -> Array:
        means = jnp.mean(images, axis=(1, 2), keepdims=True, dtype=_float(images))
        scales = jnp.mean(means, axis=-1, keepdims=True) / jnp.where(means > 0, means, 1)
        return _like(images * scales, images)

    return _fixed(balance)


def _standardize(name: str) -> _Step:
    means, deviations = lookup(name, STATISTICS, "statistics")

    def standardize(images: Array) -> Array:
        if images.shape[-1] != len(means):
            raise ValueError(
                f"standardize:{name} needs images of {len(means)} channels; got {images.shape}"
            )
        images = _unit_range(images)
        shape = (1, 1, 1, len(means))
        mean = jnp.array(means, images.dtype).reshape(shape)
        return (images - mean) / jnp.array(deviations, images.dtype).reshape(shape)

    return _fixed(standardize)


def _signed() -> _Step:
    """The range in which the released code of Ren et al. (2018) reads MNIST."""
    return _fixed(lambda images: 2 * _unit_range(images) - 1)


def _fixed(change: Callable[[Array], Array]) -> _Step:
    return _Step(lambda key, images: change(images), change)


def _float(images: Array):
    return jnp.float32 if images.dtype == jnp.uint8 else images.dtype


def _unit_range(images: Array) -> Array:
    return images.astype(jnp.float32) / 255 if images.dtype == jnp.uint8 else images


def _like(values: Array, images: Array) -> Array:
    """Return values as bytes, rounded and cut off, where `images` are bytes."""
    if images.dtype != jnp.uint8:
        return values
    return jnp.clip(jnp.rint(values), 0, 255).astype(jnp.uint8)


def _check_images(spec: str, images: Array) -> None:
    if images.ndim != 4:
        raise ValueError(f"{spec!r} changes images of shape [B, H, W, C]; got {images.shape}")
    if images.dtype != jnp.uint8 and not jnp.issubdtype(images.dtype, jnp.floating):
        raise TypeError(f"{spec!r} changes images that are uint8 or floats; got {images.dtype}")


def _make(kind: _Kind, part: str) -> _Step:
    name, colon, text = part.partition(":")
    if kind.value is None:
        if colon:
            raise ValueError(f"{part!r} has too many values; {name} is written {name}")
        return kind.make()
    if not text:
        raise ValueError(f"{part!r} lacks its value; {name} is written {name}:{kind.value}")
    try:
        value = kind.read(text)
    except ValueError:
        raise ValueError(f"{text!r} in {part!r} is not a positive integer") from None
    return kind.make(value)


def _positive(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]*", text):
        raise ValueError
    return int(text)


AUGMENTATIONS = {
    "crop": _Kind(_crop, "P", _positive),
    "random_crop": _Kind(_random_crop, "SIZE", _positive),
    "flip": _Kind(lambda: _flip((2,)), None),
    "flip_both": _Kind(lambda: _flip((2, 1)), None),
    "shrink": _Kind(_shrink, "K", _positive),
    "grey_world": _Kind(_grey_world, None, reads_range=True),
    "standardize": _Kind(_standardize, "SET", changes_range=True, reads_range=True),
    "signed": _Kind(_signed, None, changes_range=True, reads_range=True),
}
