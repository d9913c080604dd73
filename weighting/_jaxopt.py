"""jaxopt, imported when it is first needed: that takes about as long as importing jax.

LOW's `solver="osqp"` alone needs it.
"""

import warnings
from typing import Any

import jax


def import_jaxopt() -> Any:
    """The package; without its warning that it is no longer maintained.

    The first call may come while a function is traced; constants that jaxopt's modules make on
    import must not be recorded in that trace.

    Raises:
      ImportError: it is not installed, or does not work with the installed jax.
    """
    with warnings.catch_warnings(), jax.ensure_compile_time_eval():
        warnings.filterwarnings("ignore", message="JAXopt is no longer maintained")
        try:
            import jaxopt
        except (ImportError, AttributeError) as error:  # not there, or uses what jax has dropped
            raise ImportError(
                f'solver="osqp" needs jaxopt, which cannot be imported ({error}); expected jaxopt '
                "0.8.5 and a jax that it works with; pip install jaxopt==0.8.5, or leave the "
                'solver at "projection", which is exact'
            ) from error
    return jaxopt
