"""The CloudFormation template: what AWS would refuse is found here, and its script is a script."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parent.parent / "examples" / "test6-cfn.yaml"
SCRIPT = re.compile(r"( +)- \|\n((?:\1  .*\n|\n)+)")


@pytest.mark.proves("example test6")
def test_cfn_lint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), "--format=json",
         "--non-zero-exit-code=informational", "--include-checks=I", "--template", str(TEMPLATE)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    found = [f"{each['Rule']['Id']}: {each['Message']}" for each in json.loads(done.stdout or "[]")]
    assert (found, done.returncode, done.stderr) == ([], 0, "")


def test_both_hosts_run_one_script_that_the_shell_can_read(tmp_path: Path) -> None:
    scripts = [match[2] for match in SCRIPT.finditer(TEMPLATE.read_text())]
    assert len(scripts) == 2
    plain = [re.sub(r"^ *#.*\n", "", script, flags=re.MULTILINE) for script in scripts]
    assert plain[0] == plain[1]
    # What CloudFormation fills in is one word each.
    script = tmp_path / "script"
    script.write_text(re.sub(r"\$\{\w+\}", "word", plain[0]))
    subprocess.run(["bash", "-n", script], check=True)
    assert "examples/test5-geneve-compose.yaml up -d" in plain[0]
