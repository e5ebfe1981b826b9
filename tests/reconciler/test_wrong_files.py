"""Every wrong file with every word that is said about it, and whether an editor sees it too.

Each file, or directory of files, in tests/golden/wrong is one wrong input. The `.txt` of the same
name holds the exit code of `reconcile --show-config`, what the schema for editors says (refuses,
accepts, or not read because it is no YAML), and the errors. RELINK_UPDATE_GOLDEN=1 writes these
anew; read what it wrote as somebody would who sees Relink for the first time.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft7Validator

from model.problems import ConfigError
from reconciler import schemas, yaml_nodes
from reconciler.cli import main
from reconciler.sources import Sources, load

WRONG = Path(__file__).parents[1] / "golden" / "wrong"
ENVIRONMENT = {"SET": "set", "EMPTY": "", "MTU": "9000"}

# What is better made than written: bytes that are no text, and what is too long to read.
MADE: dict[str, bytes] = {
    "made-latin-1.yaml": "links:\n  - {service: nöde, bridge: s1}\n".encode("latin-1"),
    "made-utf-16.yaml": "links: []\n".encode("utf-16"),
    "made-nul.yaml": b"links:\n  - {service: node, bridge: s\x001}\n",
    "made-control.yaml": b"links: []\nbridges:\n  - bridge: \x07bell\n",
    "made-escape.json": b'{"links": [{"service": "a\x1bb"}]}',
    "made-delete.json": b'{"links": [{"service": "a\x7fb"}]}',
    "made-lone-surrogate.json": b'{"links": [{"service": "\\ud800", "bridge": "s1"}]}',
    "made-nul.json": b"\0",
    "made-10000-brackets.yaml": b"[" * 10_000,
    "made-10000-closed-brackets.yaml": b"[" * 10_000 + b"]" * 10_000,
    "made-10000-braces.yaml": b"{a: " * 10_000,
    "made-10000-dashes.yaml": b"- " * 10_000,
    "made-10000-brackets.json": b"[" * 10_000 + b"]" * 10_000,
    "made-101-levels.yaml": b"links: " + b"[" * 101 + b"]" * 101,
    "made-alias-of-aliases.yaml": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (letter, letter, b", ".join([b"*%c" % (letter - 1)] * 9))
        for letter in range(ord("b"), ord("z"))
    ),
    "made-merge-of-merges.yaml": b"a: &a {x: 1}\n"
    + b"".join(
        b"%c: &%c {<<: [%s]}\n" % (letter, letter, b", ".join([b"*%c" % (letter - 1)] * 9))
        for letter in range(ord("b"), ord("z"))
    ),
    "made-long-key.yaml": b"links: []\n" + b"k" * 900 + b": 1\n",
    "made-long-key-twice.yaml": b"k" * 900 + b": 1\n" + b"k" * 900 + b": 1\n",
    "made-long-number.json": b'{"links": [{"service": "a", "bridge": "s1", "mtu": '
    + b"9" * 5000
    + b"}]}",
}


# What the schemas cannot see, and why: each is a case for `reconcile validate`.
ACCEPTED = {
    "another file may complete it": (
        "compose-service-link-no-bridge.compose.yaml", "forward-no-ip.yaml",
        "forward-of-a-link-that-is-down.yaml",
        "link-bridge-missing.yaml", "nat-family.yaml", "netem-mapping-together.yaml",
        "route-family-without-address.yaml", "route-without-any-address.yaml",
        "vlan-without-parent.yaml", "vlanid-missing.yaml",
    ),
    "it is between two entries": (
        "bridge-twice.yaml", "command-twice.yaml", "forward-ranges-overlap.yaml",
        "forward-same-port-twice.yaml", "ip-duplicate-on-bridge.yaml",
        "link-outer-dev-clash.yaml", "link-outer-dev-is-a-bridge.yaml", "merged-route-twice",
        "route-twice.yaml", "tunnel-same-port.yaml", "tunnel-same-twice.yaml", "ip-twice.yaml",
        "passthru-not-alone.yaml",
    ),
    "it takes arithmetic": (
        "ip-broadcast-address.yaml", "ip-multicast-6.yaml", "ip-multicast.yaml",
        "ip-network-address.yaml", "ip-unspecified.yaml", "ip-zero.yaml", "mtu-ipv6.yaml",
        "route-host-bits.yaml", "nat-own-address.yaml", "tunnel-remote-nowhere.yaml",
    ),
    "patterns know the words of a language, not how they go together": (
        "ethtool-second-of-list.yaml", "netem-bad-unit.yaml", "netem-in-list.yaml",
        "route-blackhole-via.yaml", "route-mixed-families.yaml", "route-onlink-alone.yaml",
        "route-other-dev.yaml", "route-scope-of-6.yaml", "route-word-twice.yaml",
        "tunnel-netem.yaml", "variable-nested-deep.yaml", "variable-unclosed-nested.yaml",
    ),
    "it depends on the environment": (
        "compose-variable-in-network.compose.yaml", "variable-message-of-variable.yaml",
        "variable-message.yaml", "variable-not-a-number.yaml", "variable-quoted-number.yaml",
        "variable-unset.yaml",
    ),
    "programs take no NUL, JSON does": ("command-nul.yaml",),
    "it is in the name of the file": ("suffix-none",),
    "JSON allows it, and it is read as YAML to keep the places": (
        "json-duplicate-key.json", "made-delete.json", "made-lone-surrogate.json",
    ),
}  # fmt: skip
WHY = {name: reason for reason, names in ACCEPTED.items() for name in names}


def cases() -> list[str]:
    return sorted([p.name for p in WRONG.iterdir() if p.suffix != ".txt"] + list(MADE))


@pytest.fixture
def files(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of one case, named as a user in their directory would."""
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    if name in MADE:
        path.write_bytes(MADE[name])
    elif (WRONG / name).is_dir():
        shutil.copytree(WRONG / name, path)
    else:
        shutil.copy(WRONG / name, path)
    return sorted(path.iterdir()) if path.is_dir() else [path]


def words(files: list[Path]) -> list[str]:
    """Take files whose names hold `.compose.` as compose files, and the others as network files."""
    kinds = ["--compose-file" if ".compose." in f.name else "--network-file" for f in files]
    return [word for kind, file in zip(kinds, files, strict=True) for word in (kind, str(file))]


def seen_in_an_editor(files: list[Path]) -> str:
    """Whether the schemas refuse one of the files; each is looked at alone, as editors do."""
    said: set[str] = set()
    for file in files:
        schema = schemas.compose() if ".compose." in file.name else schemas.network()
        try:
            text = file.read_text("utf-8-sig")
            if file.suffix == ".json":
                value = json.loads(text)
            else:
                value = yaml_nodes.parse_yaml(text, str(file)).bare()
            said.add("accepts" if Draft7Validator(schema).is_valid(value) else "refuses")
        except (ConfigError, ValueError, RecursionError):
            said.add("not read")
    return next(word for word in ("refuses", "not read", "accepts") if word in said)


@cache
def longest() -> float:
    """Return the CPU seconds that a plain file takes which has just too many values."""
    text = f"a: [{'x, ' * yaml_nodes._MOST_NODES}x]"
    started = time.process_time()
    with pytest.raises(ConfigError, match="more than 200000 values"):
        yaml_nodes.parse_yaml(text, "plain.yaml")
    return time.process_time() - started


@pytest.mark.parametrize("name", cases())
def test_every_problem_is_told_with_its_place(
    name: str,
    files: list[Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, value in ENVIRONMENT.items():
        monkeypatch.setenv(variable, value)
    started = time.process_time()

    code = main([*words(files), "--show-config"])

    took = time.process_time() - started
    assert took < 2 * longest(), "a small file takes longer than the largest plain one"
    out, err = capsys.readouterr()
    assert out == ""
    assert all(len(line) < 500 for line in err.splitlines())
    seen = seen_in_an_editor(files)
    why = f": {WHY.get(name, 'why?')}" if seen == "accepts" else ""
    text = f"exit code: {code}\nschema: {seen}{why}\n{err}"
    golden = WRONG / f"{name}.txt"
    if os.environ.get("RELINK_UPDATE_GOLDEN"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


def test_each_case_has_its_golden_and_each_golden_its_case() -> None:
    assert {p.name for p in WRONG.iterdir() if p.suffix == ".txt"} == {f"{n}.txt" for n in cases()}


def goldens() -> Iterator[tuple[str, list[str]]]:
    for name in cases():
        yield name, (WRONG / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def test_what_a_schema_can_see_it_refuses() -> None:
    """Nothing passes the schemas without a reason, and no reason outlives its case."""
    accepted = {name for name, lines in goldens() if lines[1].startswith("schema: accepts")}
    assert accepted == set(WHY)
    assert sum(lines[1] == "schema: refuses" for _name, lines in goldens()) >= 100


def test_every_message_names_a_place_and_ends_with_what_was_done() -> None:
    for name, (code, _schema, *told, end) in goldens():
        assert code == "exit code: 1", name
        assert end.endswith("nothing was changed."), name
        assert told, name
        for line in told:
            assert line.partition(": ")[0].startswith(name.split("/")[0]), line


@pytest.mark.parametrize("name", [n for n in MADE if n.endswith(".yaml")])
def test_without_libyaml_nothing_breaks_either(
    name: str, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(yaml.SafeLoader):
        yaml_implicit_resolvers = yaml_nodes._Loader.yaml_implicit_resolvers

    monkeypatch.setattr(yaml_nodes, "_Loader", Slow)
    with pytest.raises(ConfigError) as caught:
        load(Sources((str(files[0]),), (), ENVIRONMENT))
    (told,) = caught.value.problems
    assert str(told).startswith(f"{name}:")
