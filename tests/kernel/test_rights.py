"""Which capabilities take what Docker's machine has no kernel for (docs/rights.md)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.lab import Lab

# (what, configuration, options, capabilities)
FEATURES = {
    "netem": ("links: [{container: a, bridge: s, netem: delay 1ms}]", (), "sys_admin,net_admin"),
    "geneve": (
        """{links: [{container: a, bridge: s}],
            tunnels: [{type: geneve, bridge: s, remote: 192.0.2.1, vni: 7}]}""",
        (), "sys_admin,net_admin",
    ),
    "dataplane host": (
        "links: [{container: a, bridge: s}]", ("--dataplane=host",),
        "sys_admin,net_admin,sys_ptrace",
    ),
}  # fmt: skip


@pytest.mark.needs("netem", "geneve")
@pytest.mark.parametrize("name", FEATURES)
def test_a_feature_takes_its_capabilities_and_no_other(lab: Lab, name: str) -> None:
    lab.add("a")
    text, options, rights = FEATURES[name]
    file = lab.config(text)
    names = rights.split(",")

    def once(have: list[str]) -> subprocess.CompletedProcess[str]:
        bounded = ",".join(["-all", *(f"+{each}" for each in have)])
        return subprocess.run(
            ["setpriv", f"--bounding-set={bounded}", sys.executable, "-m", "reconciler.cli",
             "--runtime=netns", "--instance", lab.instance, "--network-file", str(file), *options,
             "--once"],
            capture_output=True, text=True, check=False, timeout=60, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    for less in names:
        assert once([each for each in names if each != less]).returncode != 0, f"without {less}"
    done = once(names)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All links connected" in done.stdout
