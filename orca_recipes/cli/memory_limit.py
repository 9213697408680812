"""Say where `ulimit -v` leaves a command too little: libraries answer that in many ways, and in none that helps."""

import errno
import os
import sys
from collections.abc import Iterator

from orca_recipes.errors import OutOfMemory

_LEAST_BYTES = 640 << 20
"""With less, numpy and polars cannot be imported: they end the process, or leave halves of modules."""

_SIGNS = (
    "annot allocate memory",
    "failed to map segment",
    "memory allocation of",
    "bad_alloc",
    "can't start new thread",
    "launch worker thread",
)
"""What Python, the loader of programs and libraries say where there is no memory."""


def require_memory() -> None:
    """Refuse to begin with too little; have polars be sparing where memory is limited. Raises: OutOfMemory."""
    limit = memory_limit()
    if limit is None:
        return
    if limit < _LEAST_BYTES:
        raise OutOfMemory(_sentence(limit))
    # Where polars 2.1's allocator cannot start its threads, it tries again and again, and prints a line each time.
    os.environ.setdefault("_RJEM_MALLOC_CONF", "background_thread:false")


def memory_limit() -> int | None:
    """Return how many bytes of memory this process may map, None where that is not limited."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY else soft


def without_memory(error: BaseException) -> str | None:
    """Return the sentence for an error that a limit of memory caused; None for any other."""
    limit = memory_limit()
    return _sentence(limit) if limit is not None and any(map(_is_sign, _causes(error))) else None


def _sentence(limit: int) -> str:
    return (
        f"this process may map {limit / 1e9:.3g} GB of memory (`ulimit -v`), and its libraries need more, most of them "
        "4 GB and more where there are many CPUs: raise the limit and run the same command again"
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_sign(error: BaseException) -> bool:
    is_told = isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)
    return is_told or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
