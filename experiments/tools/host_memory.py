"""Keeps the memory of large temporary arrays in the process between steps on CPU.

XLA's CPU backend asks malloc for a step's temporaries at every call. Above 32 MB, the GNU C library
maps fresh pages each time and unmaps them afterwards, and touching them anew can cost as much as a
small network's step. It keeps them after `keep_large_blocks()`.
"""

import ctypes
import sys

# Of mallopt(3). One arena, because the others cannot hold blocks above 64 MB.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def keep_large_blocks() -> bool:
    """Tells the GNU C library to keep freed blocks below 1 GiB; False where there is none.

    For the main program to call before any work: it changes the whole process, whose memory then
    shrinks no more. `weighting` never calls it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, such as musl
        return False
    settings = ((_TRIM_THRESHOLD, 2**31 - 1), (_MMAP_THRESHOLD, 2**30), (_ARENA_MAX, 1))
    return all([mallopt(name, value) == 1 for name, value in settings])
