"""jaxopt, imported when it is first needed: that takes about as long as importing jax."""

import warnings
from typing import Any

import jax


def import_jaxopt() -> Any:
    """The package; without its warning that it is no longer maintained.

    The first call may come while a function is traced; constants that jaxopt's modules make on
    import must not be recorded in that trace.
    """
    with warnings.catch_warnings(), jax.ensure_compile_time_eval():
        warnings.filterwarnings("ignore", message="JAXopt is no longer maintained")
        import jaxopt
    return jaxopt
