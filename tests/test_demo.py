"""`make demo` as a user without root runs it: in a user namespace, with no more than own rights."""

from __future__ import annotations

import os
import site
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
NOBODY = 65534
# The Makefile's own words, up to the shell that they end in.
_RECIPE = (ROOT / "Makefile").read_text().partition("\t@unshare ")[2].partition("\\\n")[0]
NAMESPACES = ["unshare", *_RECIPE.split()]


def _interpreter() -> list[str]:
    """Python as somebody else can start it: ours, or the system's where ours is root's alone."""
    if os.geteuid():
        return [sys.executable]
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    same = f"import sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for python in (sys.executable, "/usr/bin/python3"):
        words = ["sh", "-c", 'exec "$0" -c "$1"', python, same]
        ran = subprocess.run([*drop, *words], capture_output=True, check=False)
        if ran.returncode == 0:
            return [*drop, python]
    return [sys.executable]


@pytest.mark.kernel
def test_the_demo_shows_everything_without_root() -> None:
    *drop, python = _interpreter()
    prepare = "mount -t tmpfs tmpfs /run && mkdir -p /run/netns && ip link set lo up"
    packages = ":".join([str(ROOT), *site.getsitepackages()])
    done = subprocess.run(
        [*drop, *NAMESPACES, "sh", "-c", f"{prepare} && exec {python} -B {ROOT}/scripts/demo.py"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": packages, "TMPDIR": "/tmp"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("repaired after") == 5
    assert "Plan: 12 to create" in done.stdout
    assert "the same interface" in done.stdout
    assert "interfaces left, beside loopback: none" in done.stdout
