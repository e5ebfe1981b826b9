"""What is tried: for figures, which mean nothing without it."""

from __future__ import annotations

import subprocess
import time

from tests.lab import features


def commit() -> str:
    """Return the commit, and whether there is more than is in it."""
    words = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def line() -> str:
    """Return the commit, the day and the kernel, as words."""
    return f"Commit {commit()}, {time.strftime('%Y-%m-%d', time.gmtime())}, {features.kernel()}."
