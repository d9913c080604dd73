"""The versions that numbers depend on."""

from importlib.metadata import version

PACKAGES = ("jax", "jaxlib", "flax", "optax", "jaxopt", "numpy")


def package_versions() -> dict[str, str]:
    """The installed version of each of `PACKAGES`."""
    return {name: version(name) for name in PACKAGES}
