"""Each line of the examples' comments that is to be typed is typed by some test."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tools.site.comments import EXAMPLES, steps

# test6-cfn.yaml is typed at AWS; test2-network.yaml is part of test2-compose.yaml.
PLAYED = [
    *(path for path in sorted(EXAMPLES.glob("*.yaml")) if "test6" not in path.name),
    EXAMPLES / "test4-multiple/modes/base/compose.yaml",
]


@pytest.mark.parametrize("file", PLAYED, ids=lambda file: file.stem)
def test_every_command_begins_with_a_program_that_is_known(file: Path) -> None:
    assert bool(steps(file)) == (file.name != "test2-network.yaml")


def test_what_is_typed_with_two_engines_and_with_none_is_all_that_is_told() -> None:
    """The tests of this example each take their own part."""
    file = EXAMPLES / "test3-network.yaml"
    programs = (["docker"], ["podman"], ["ip", "export", "reconcile"])
    docker, podman, namespaces = (steps(file, names) for names in programs)
    assert docker
    assert podman
    assert namespaces
    assert [*docker, *podman, *namespaces] == steps(file)


def test_two_words_with_a_remark_behind_them_are_a_command_and_no_table() -> None:
    commands = [step.command for step in steps(EXAMPLES / "test9-compose.yaml")]
    assert commands[0] == "export BRIDGE_MODE=linux"
    assert len(commands) == 5


@pytest.mark.parametrize("file", PLAYED, ids=lambda file: file.stem)
def test_a_sidecar_that_dies_is_started_again(file: Path) -> None:
    services = yaml.safe_load(file.read_text()).get("services", {})
    for name, service in services.items():
        if "RELINK_IMAGE" in service.get("image", ""):
            assert service.get("restart") == "unless-stopped", name


OTHER = """\
# A picture, a table, and what is typed:
#
#     a --- b
#     |
#
#     ovs    a switch
#     patch  a wire
#
"""


@pytest.mark.parametrize("line", ["sh -c true", "NAME=value ip link", "dokcer ps"])
@pytest.mark.parametrize("before", ["", "#     ip link\n"])
def test_a_command_that_nobody_would_type_is_an_error(
    line: str, before: str, tmp_path: Path
) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(f"{OTHER}{before}#     {line}\n\nlinks: []\n")
    with pytest.raises(ValueError, match="begins with none of docker"):
        steps(file)
