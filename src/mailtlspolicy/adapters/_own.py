"""Which errors are this system's own want, and say nothing of whom it spoke to."""

from __future__ import annotations

import errno

# Descriptors of the process and of the system, memory, buffers; ports to connect from
_WANTS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL}


def is_own(error: BaseException | None) -> bool:
    """Whether an error, or what it was raised from, is a want of this system's."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _WANTS):
            return True
        error = error.__cause__ or error.__context__
    return False
