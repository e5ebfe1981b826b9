"""How what tests start ends when it is told to."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def in_order() -> None:
    """Have SIGTERM end this process, and what it forks, as an exception does.

    Once: who cleans up is not to be interrupted by another.
    """

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, end)
