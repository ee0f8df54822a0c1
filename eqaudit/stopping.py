"""Signals that end the command: one exception for all of them, so that everything is tidied up."""

from __future__ import annotations

import signal
import time
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_WISH_SECONDS = 1.0


class Stopper:
    """Raises KeyboardInterrupt, but not again at once: an impatient hand must not break off the tidying."""

    def __init__(self) -> None:
        self._deaf_until = 0.0

    def listen(self) -> None:
        """Take over Ctrl-C, SIGTERM and SIGHUP. What is ignored stays so: that is what ``nohup`` does."""
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._raise)

    def ignore(self) -> None:
        """Ignore them from now on: what is left is the end of the interpreter, which drops our handler."""
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now >= self._deaf_until:
            self._deaf_until = now + SAME_WISH_SECONDS
            raise KeyboardInterrupt
