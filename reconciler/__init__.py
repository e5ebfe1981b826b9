"""Decides and drives: diff, plan, apply, loop, command line."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("relink")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

__date__ = "2026-11-24"  # of the manual pages: when the command line last changed
