"""Keep freed memory for the next step, where the C library would give it back.

Not in a chapter. A training step on a CPU frees what it asked for, and glibc returns
the larger part of it to the system; the next step has it cleared again, page by page.
"""

import ctypes
import sys

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # M_... of malloc.h


def keep_freed_memory() -> None:
    """Have this process keep up to 1 GB of what it freed; on Linux with glibc only."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(TRIM_THRESHOLD, 2**30)
        mallopt(MMAP_THRESHOLD, 2**25)  # the most it takes
