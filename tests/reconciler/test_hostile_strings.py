"""A hostile text in every field of the language: refused at its place, or taken as it is.

That no program ever gets one in another way than as one of its words is shown by
tests/kernel/test_hostile_strings.py.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from model.declared import Config
from model.desired import desired
from model.facts import Facts
from model.keys import SELF
from model.ownership import group_of
from model.problems import ConfigError
from model.replicas import Container
from model.snapshot import Snapshot
from reconciler.diff import diff
from reconciler.plan import plan
from reconciler.render import plan_json, plan_text
from reconciler.sources import Sources, load

HOSTILE = (
    "; touch PWNED", "$(touch PWNED)", "`touch PWNED`", "| touch PWNED", "& touch PWNED",
    "> PWNED", "x\ntouch PWNED", "x\r\ntouch PWNED", "a\0b", "\0", "'", '"', '"; touch PWNED; "',
    "\\", "../../PWNED", "/PWNED", "..", "-x", "--help", "-", "--", "*", "?", "~", "!", "#", "{}",
    "%s", "$HOME", "${HOME}", "$$", "x" * 10_000, "é", "\u202egnp.exe", "\u2028", "\U0001f310",
    "\x1b[2J", "\x7f", "\t", " ", "", "a b", "eth0;id", "${", "$", "0", "-1", "1e999", "NaN",
    "null", "true", "1" * 5_000, "\ufeff", "\ud800",
)  # fmt: skip
Put = Callable[[str], dict[str, Any]]


def _link(**more: Any) -> dict[str, Any]:
    return {"service": "a", "bridge": "s1", "ip": "10.0.0.1/24", **more}


def _in_link(key: str, before: str = "", *, listed: bool = False, **more: Any) -> Put:
    def put(text: str) -> dict[str, Any]:
        value = [before + text] if listed else before + text
        return {"links": [{**_link(), **more, key: value}]}

    return put


def _stacked(key: str, kind: str, **more: Any) -> Put:
    def put(text: str) -> dict[str, Any]:
        return {"links": [{"service": "a", "type": kind, "outer-dev": "up0", **more, key: text}]}

    return put


def _tunnel(key: str, kind: str = "vxlan") -> Put:
    def put(text: str) -> dict[str, Any]:
        whole = {"type": kind, "bridge": "s1", "remote": "192.0.2.1", "vni": 7, key: text}
        return {"tunnels": [whole]}

    return put


def _netem(key: str) -> Put:
    return lambda text: {"links": [_link(netem={key: text})]}


# Where a text can be written: every key of the language, in each of its forms.
FIELDS: dict[str, Put] = {
    **{f"link {key}": _in_link(key) for key in (
        "type", "service", "bridge", "outer-dev", "dev", "ip", "mac", "mtu", "route", "nat",
        "netem", "mode", "vlanid", "forward", "ethtool", "base", "offset", "per-replica",
    )},
    "link container": lambda text: {"links": [{"container": text, "bridge": "s1"}]},
    **{f"link {key} in a list": _in_link(key, listed=True)
       for key in ("ip", "route", "netem", "forward", "ethtool", "offset", "per-replica")},
    "ip after": _in_link("ip", "10.0.0.1/24"),
    "route after": _in_link("route", "10.9.0.0/16 via "),
    "route word": _in_link("route", "default via 10.0.0.9 "),
    "route dev": _in_link("route", "default dev "),
    "netem after": _in_link("netem", "delay 1ms "),
    "netem delay": _in_link("netem", "delay "),
    "netem distribution": _in_link("netem", "delay 5ms 1ms distribution "),
    "forward after": _in_link("forward", "80:80/tcp"),
    "nat after": _in_link("nat", "10.9.9.9"),
    "ethtool offload": _in_link("ethtool", "--offload "),
    "ethtool ring": _in_link("ethtool", "--set-ring rx "),
    "ethtool words": _in_link("ethtool", "--change msglvl "),
    **{f"netem mapping {key}": _netem(key) for key in (
        "limit", "delay", "jitter", "delay-correlation", "distribution", "loss",
        "loss-correlation", "ecn", "corrupt", "corrupt-correlation", "duplicate",
        "duplicate-correlation", "reorder", "reorder-correlation", "gap", "rate",
        "packet-overhead", "cell-size", "cell-overhead", "slot", "seed",
    )},
    "netem key": lambda text: {"links": [_link(netem={text: "1ms"})]},
    "key of a link": lambda text: {"links": [_link(**{text: "x"})]},
    "key above": lambda text: {text: []},
    **{f"{kind} {key}": _stacked(key, kind, **({"vlanid": 5} if kind == "vlan" else {}))
       for kind in ("vlan", "macvlan", "ipvlan") for key in ("outer-dev", "mode", "dev", "base")},
    **{f"per replica {key}": (lambda text, key=key: {  # type: ignore[misc]
        "links": [_link(**{"per-replica": [{key: text}]})]
    }) for key in ("ip", "dev", "bridge", "netem", "route", "mtu", "ethtool", "service", "x")},
    "bridge": lambda text: {"bridges": [{"bridge": text}]},
    "bridge mode": lambda text: {"bridges": [{"bridge": "s1", "mode": text}]},
    **{f"tunnel {key}": _tunnel(key) for key in (
        "type", "bridge", "remote", "vni", "port", "local", "ttl", "tos", "df", "mtu", "netem",
    )},
    "command service": lambda text: {"commands": [{"service": text, "command": ["true"]}]},
    "command container": lambda text: {"commands": [{"container": text, "command": ["true"]}]},
    "command": lambda text: {"commands": [{"service": "a", "command": text}]},
    "command program": lambda text: {"commands": [{"service": "a", "command": [text]}]},
    "command word": lambda text: {"commands": [{"service": "a", "command": ["echo", text]}]},
}  # fmt: skip
# What may be any text: it is compared with names, or handed over as one word.
FREE = re.compile(
    r"(link|command) (service|container)|command|command (program|word)|ethtool words"
)


@pytest.mark.parametrize("field", FIELDS)
def test_it_is_refused_at_its_place_or_taken_as_it_is(field: str, tmp_path: Path) -> None:
    taken = 0
    for number, text in enumerate(HOSTILE):
        written = text.replace("$", "$$")
        taken += _judge(field, text, FIELDS[field](written), tmp_path / f"{number}.json", {})
    if FREE.fullmatch(field):
        assert taken > 5, "of a field that takes any text"
    assert list(tmp_path.glob("**/*PWNED*")) == []


@pytest.mark.parametrize("field", [f for f in FIELDS if not f.startswith("key")])
def test_a_variable_is_no_other_way_in(field: str, tmp_path: Path) -> None:
    """What a variable holds is text too: not looked at again for variables, quotes or structure."""
    for number, text in enumerate(t for t in HOSTILE[::4] if "\0" not in t):
        file = tmp_path / f"{number}.json"
        _judge(field, text, FIELDS[field]("${X}"), file, {"X": text})


@pytest.mark.parametrize("text", HOSTILE)
def test_the_name_of_a_service_of_compose_is_text(text: str, tmp_path: Path) -> None:
    file = tmp_path / "compose.json"
    network = {"links": [{"bridge": "s1"}]}
    _write(file, {"services": {text.replace("$", "$$"): {"x-network": network}}})
    try:
        config = load(Sources((), (str(file),), {})).config
    except ConfigError as error:
        _assert_told(error, file)
    else:
        assert config.links[0].owner.name == text


def test_bytes_of_the_environment_that_are_no_text_are_refused(tmp_path: Path) -> None:
    for field in ("link service", "command word", "link dev"):
        file = tmp_path / "net.json"
        file.write_text(json.dumps(FIELDS[field]("${X}")))
        with pytest.raises(ConfigError) as caught:
            load(Sources((str(file),), (), {"X": os.fsdecode(b"a\xff")}))
        _assert_told(caught.value, file)


def _judge(
    field: str, text: str, document: dict[str, Any], file: Path, environment: dict[str, str]
) -> bool:
    """Tell whether the document was taken; fail where it was neither that nor refused in order."""
    _write(file, document)
    try:
        config = load(Sources((str(file),), (), environment)).config
    except ConfigError as error:
        _assert_told(error, file)
        assert FREE.fullmatch(field) is None or not text.strip() or not _is_plain(text, field)
        return False
    if FREE.fullmatch(field):
        words = shlex.split(text) if field.startswith("ethtool") else [text]
        assert set(words) <= {*_texts(config)}, f"{field}: {text!r} was changed"
    _converges(config)
    return True


def _write(file: Path, document: dict[str, Any]) -> None:
    # Pairs of surrogates are JSON's way to spell what is outside of UCS-2, and not YAML's.
    text = json.dumps(document, ensure_ascii=False)
    file.write_bytes(text.replace("\ud800", "\\ud800").encode())


def _is_plain(text: str, field: str) -> bool:
    """Tell whether a text is one that a free field has no reason to refuse."""
    if re.search("[\0\x7f\ud800\ufeff]", text):
        return False
    # Of ethtool words are split as a shell does, and nothing unprintable is let through.
    return not field.startswith("ethtool") or not re.search(r"[^ -~]|['\"\\]", text)


def _assert_told(error: ConfigError, file: Path) -> None:
    for problem in map(str, error.problems):
        assert re.match(rf"{re.escape(str(file))}:\d+:\d+: \S", problem), problem[:200]
        assert problem.isprintable(), f"reaches the terminal: {problem!r}"
        assert len(problem) < len(str(file)) + 800, problem[:1000]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif is_dataclass(value):
        for each in fields(value):
            yield from _texts(getattr(value, each.name))
    elif isinstance(value, tuple | frozenset):
        for one in value:
            yield from _texts(one)


def _converges(config: Config) -> None:
    """What is taken can be wanted, planned and shown, whatever it is."""
    owners = [entry.owner for entry in (*config.links, *config.commands)]
    containers = [
        Container(id="c" * 64, name=o.name if o.kind == "container" else "a-1", runtime="docker",
                  netns="/proc/1/ns/net", service=o.name if o.kind == "service" else "", number=1)
        for o in owners[:1]
    ]  # fmt: skip
    facts = Facts(instance="lab", plane=SELF)
    wanted = desired(config, containers, facts)
    made = plan(diff(wanted, Snapshot({}, {}, {}), group_of("lab")), wanted.obstacles)
    json.loads(plan_json(made))
    assert "\x1b" not in plan_text(made)
