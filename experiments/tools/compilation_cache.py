"""Compiled programs kept on disk, so that the second start of an experiment compiles nothing."""

import os

import jax

from experiments.tools.cache import cache_dir


def use_compilation_cache() -> str:
    """Turns on JAX's persistent cache; returns its folder.

    It is `$JAX_COMPILATION_CACHE_DIR`, or `compiled` in the folder of cached datasets. Programs
    that compile in less than a fifth of a second are not worth a file, unless
    `$JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` says otherwise.
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if not folder:
        folder = str(cache_dir() / "compiled")
        jax.config.update("jax_compilation_cache_dir", folder)
        if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
            jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    return folder
