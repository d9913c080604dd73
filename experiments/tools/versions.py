"""The versions that numbers depend on."""

from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("jax", "jaxlib", "flax", "optax", "jaxopt", "numpy")


def package_versions() -> dict[str, str]:
    """The installed version of each of `PACKAGES`, or "not installed"."""
    return {name: _version(name) for name in PACKAGES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
