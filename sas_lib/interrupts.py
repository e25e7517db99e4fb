"""Ctrl-C at a time of our choosing."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def held_back_interrupt() -> Iterator[Callable[[], bool]]:
    """Hold a Ctrl-C back until it is asked for: half a step cannot be gone on with.

    A second Ctrl-C is not held back. Only a main thread gets signals.
    """
    pressed: list[int] = []

    def hold(signum: int, frame: object) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(signum)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, hold)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)
