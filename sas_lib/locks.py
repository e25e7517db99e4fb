"""One process at a time in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"


@contextmanager
def held(folder: Path, refused: Exception) -> Iterator[None]:
    """Hold a folder, which is made where it is not there: two processes that write to it would
    be in each other's way. Where another process holds it, ``refused`` is raised.

    Raises:
        OSError: it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise refused from None
    try:
        yield
    finally:
        lock.release()
