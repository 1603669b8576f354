"""How this process's C library keeps memory that was freed."""

import ctypes
import sys

# As <malloc.h> of the GNU C library numbers them; in bytes.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEPT_BYTES = 64 * 1024 * 1024
_OWN_MAPPING_BYTES = 4 * 1024 * 1024


def keep_for_requests() -> None:
    """Lets the C library keep what a request took for the next one; where it is another library, nothing.

    A request of half a megabyte takes several times as much while it is checked. By default the library gives all of
    it back to the system when it is answered, and every page of it is cleared again for the next: that was a fifth of
    the receiver's CPU. Blocks above 4 MiB, which batches and large bodies are, are still given back at once, which is
    what the default forgets after the first one.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _OWN_MAPPING_BYTES)
