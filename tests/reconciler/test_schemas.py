"""The schemas for editors: complete, current, true to examples and to what the loader takes."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from jsonschema.validators import validator_for

from model.config import BASES, MODES
from model.declared import LinkSpec, TunnelSpec
from model.netem import Netem
from reconciler import schemas
from reconciler.shape import schema
from reconciler.sources import Sources, load
from reconciler.yaml_nodes import parse_yaml
from tests.kernel import netem_strings

ROOT = Path(__file__).parents[2]
DOCUMENTS = {"network.json": schemas.network, "compose.json": schemas.compose}
NETWORK, COMPOSE = Draft7Validator(schemas.network()), Draft7Validator(schemas.compose())


def read(text: str) -> Any:
    """Read YAML as Relink does, which is how editors read it: by YAML 1.2."""
    return parse_yaml(text, "text").bare()


def complaints(validator: Any, document: object) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


def accepted_by_both(directory: Path, link: dict[str, Any], **environment: str) -> None:
    """A network file with this one link: the loader takes it, and so does the schema."""
    file = directory / "net.yaml"
    file.write_text(yaml.safe_dump({"links": [link]}), encoding="utf-8")
    load(Sources((str(file),), (), environment))
    assert complaints(NETWORK, read(file.read_text(encoding="utf-8"))) == []


# --------------------------------------------------------------------------- complete and current


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_committed_copy_is_current(name: str) -> None:
    """`reconcile schema > docs/schema/network.json`, with --compose for compose.json."""
    made = schemas.text(DOCUMENTS[name]())
    assert (ROOT / "docs" / "schema" / name).read_text(encoding="utf-8") == made


@pytest.mark.parametrize("name", DOCUMENTS)
def test_it_is_a_schema_of_the_draft_that_it_names(name: str) -> None:
    made = DOCUMENTS[name]()
    assert validator_for(made) is Draft7Validator
    Draft7Validator.check_schema(made)


def keys(found: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every property of ours in a schema: each key that a person can write."""
    if isinstance(found, list):
        for each in found:
            yield from keys(each, where)
    if not isinstance(found, dict):
        return
    for name, each in found.items():
        if name == "properties":
            for key, value in each.items():
                if key != "services":
                    yield f"{where}.{key}", value
                yield from keys(value, f"{where}.{key}")
        elif name not in ("if", "then"):
            yield from keys(each, where)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_key_has_a_description_and_an_example(name: str) -> None:
    found = {key: value for key, value in keys(DOCUMENTS[name](), "") if value is not False}
    assert len(found) > 50
    bare = [
        key
        for key, value in found.items()
        if len(value.get("description", "")) < 10 or not value.get("examples")
    ]
    assert bare == []


def test_a_key_that_may_be_left_out_has_a_default_or_words_for_it() -> None:
    """Whoever hovers over a key learns what happens without it."""
    words = ("ithout", "not given", "needed", "exactly one", "instead of")
    silent = [
        f"{name}.{key}"
        for name, definition in schema()["$defs"].items()
        for key, value in definition.get("properties", {}).items()
        if key not in definition.get("required", ())
        and "default" not in value
        and not any(word in value["description"] for word in words)
    ]
    assert silent == []


def test_defaults_are_those_of_the_product(tmp_path: Path) -> None:
    definitions = schema()["$defs"]
    defaults = {
        name: {key: value["default"] for key, value in definition["properties"].items()
               if "default" in value}
        for name, definition in definitions.items() if "properties" in definition
    }  # fmt: skip
    of = {key: field.default for key, field in inspect.signature(LinkSpec).parameters.items()}
    link = defaults["link"]
    assert (link["type"], link["dev"], set(link["offset"]), tuple(link["per-replica"])) == (
        of["type"], of["dev"], of["offsets"], of["per_replica"],
    )  # fmt: skip
    of = {key: field.default for key, field in inspect.signature(TunnelSpec).parameters.items()}
    assert (defaults["tunnel"]["ttl"], defaults["tunnel"]["tos"]) == (of["ttl"], of["tos"])
    # An impairment that is declared as it is by default is no impairment.
    text = "links: [{service: a, bridge: s1, netem: %s}]"
    for key, value in defaults["impairments"].items():
        if key in ("gap", "ecn", "distribution"):
            continue  # they need others
        (tmp_path / "a.yaml").write_text(text % json.dumps({key: value}))
        (spec,) = load(Sources((str(tmp_path / "a.yaml"),), (), {})).config.links
        assert spec.netem == Netem(), key


# ---------------------------------------------------------------------------------- accepted


def compose_or_network(path: Path) -> Any:
    return COMPOSE if "services:" in path.read_text(encoding="utf-8") else NETWORK


EXAMPLES = sorted(p for p in (ROOT / "examples").rglob("*.yaml") if "cfn" not in p.name)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda p: str(p.relative_to(ROOT / "examples")))
def test_every_example_is_accepted(path: Path) -> None:
    assert complaints(compose_or_network(path), read(path.read_text(encoding="utf-8"))) == []


ASKED_FOR = {
    "NODE_NAME_1": "lab_node_1",
    "NODE_NAME_2": "lab_node_2",
    "NODE_ADDR": "10.0.1.1/24",
    "REMOTE": "192.0.2.7",
    "HOST_INTERFACE": "ens3",
    "NODE1_HOST_ADDRESS": "192.0.2.11/24",
    "NODE2_HOST_ADDRESS": "192.0.2.12/24",
}


def test_a_merged_configuration_is_accepted_too() -> None:
    """Whoever takes the printed schema for --config-schema checks what was merged by it."""
    for path in EXAMPLES:
        files = ((str(path),), ()) if compose_or_network(path) is NETWORK else ((), (str(path),))
        merged = load(Sources(*files, ASKED_FOR)).document.bare()
        assert complaints(NETWORK, merged) == [], path


@pytest.mark.parametrize("text", ["", "{}", "links:\n", "links: []\nbridges:\n"])
def test_nothing_declared_is_accepted(text: str) -> None:
    assert complaints(NETWORK, read(text)) == []
    assert complaints(COMPOSE, {"x-network": read(text), "services": {"a": None}}) == []


def test_the_rest_of_a_compose_file_is_free() -> None:
    text = """
    name: lab
    services:
      a: {image: x, deploy: {whatever: [1, {2: 3}]}, x-other: [1], links: [b]}
      b:
    networks: {n: {ipam: 7}}
    x-anything: links
    links: 7
    """
    assert complaints(COMPOSE, read(text)) == []


def test_in_a_service_a_link_names_no_owner_and_elsewhere_it_must() -> None:
    network = {"links": [{"bridge": "s1"}], "commands": [{"command": "x"}]}
    assert complaints(COMPOSE, {"services": {"a": {"x-network": network}}}) == []
    assert len(complaints(COMPOSE, {"x-network": network})) == 2
    assert len(complaints(NETWORK, network)) == 2


LINK = schema()["$defs"]["link"]["properties"]
NEEDS: dict[str, dict[str, Any]] = {
    "type": {"bridge": None, "outer-dev": "e0"},
    "container": {"service": None},
    "mode": {"type": "macvlan", "outer-dev": "e0", "bridge": None},
    "vlanid": {"type": "vlan", "outer-dev": "e0", "bridge": None},
    "base": {"type": "macvlan", "outer-dev": "e0", "bridge": None},
}


def link_with(key: str, value: object) -> dict[str, Any]:
    link = {"service": "a", "bridge": "s1", "ip": "10.0.1.9/24", **NEEDS.get(key, {}), key: value}
    return {key: value for key, value in link.items() if value is not None}


@pytest.mark.parametrize("key", LINK)
def test_each_example_of_a_key_of_links_is_what_the_loader_takes(key: str, tmp_path: Path) -> None:
    for example in LINK[key]["examples"]:
        accepted_by_both(tmp_path, link_with(key, example))


def test_so_are_those_of_the_others(tmp_path: Path) -> None:
    definitions = schema()["$defs"]
    whole = {"type": "vxlan", "bridge": "s1", "remote": "192.0.2.7", "vni": 7}
    sections = {
        "bridges": ("bridge", {"bridge": "s1"}),
        "tunnels": ("tunnel", whole),
        "commands": ("command", {"command": "x", "service": "a"}),
    }
    count = 0
    for section, (name, entry) in sections.items():
        for key, value in definitions[name]["properties"].items():
            for example in value["examples"]:
                given = {**entry, key: example}
                if key == "container":
                    del given["service"]
                if key == "remote" or ":" not in str(example):
                    given.pop("local", None) if key != "local" else None
                (tmp_path / "a.json").write_text(json.dumps({section: [given]}))
                load(Sources((str(tmp_path / "a.json"),), (), {}))
                assert complaints(NETWORK, {section: [given]}) == []
                count += 1
    assert count > 18


def test_each_impairment_is_what_the_loader_takes(tmp_path: Path) -> None:
    around = {"delay": "10ms", "jitter": "1ms", "loss": "1%", "reorder": "1%", "rate": "1mbit"}
    for key, value in schema()["$defs"]["impairments"]["properties"].items():
        for example in value["examples"]:
            whole = {**around, key: example}
            if str(example).count(" ") > 1:  # it has its jitter in it
                del whole["jitter"]
            accepted_by_both(tmp_path, link_with("netem", whole))


# --------------------------------------------------------------------------------- variables


def with_variable(example: Any) -> Any:
    """Return the example with its first scalar taken from a variable, and that scalar."""
    if isinstance(example, list):
        inner, held = with_variable(example[0])
        return [inner, *example[1:]], held
    if isinstance(example, dict):
        key = next(iter(example))
        inner, held = with_variable(example[key])
        return {**example, key: inner}, held
    return "${HELD}", example


@pytest.mark.parametrize("key", LINK)
def test_wherever_the_loader_takes_a_variable_the_schema_does(key: str, tmp_path: Path) -> None:
    for example in LINK[key]["examples"]:
        written, held = with_variable(example)
        accepted_by_both(tmp_path, link_with(key, written), HELD=str(held))


@pytest.mark.parametrize(
    "written",
    ["$HELD", "${HELD}", "${HELD:-x}", "${HELD-${OTHER}}", "${HELD?no}", "${NO:-s1}", "${NO+x}s1",
     "a${HELD}b", "a$$b", "${HELD:?no, ${NO}}", "${HELD:+s2}", "${HELD:-a $ b}"],
)  # fmt: skip
def test_every_form_of_a_variable_is_accepted(written: str, tmp_path: Path) -> None:
    accepted_by_both(tmp_path, link_with("bridge", written), HELD="s1")


def test_a_variable_may_choose_the_kind_of_link(tmp_path: Path) -> None:
    for kind in BASES:
        keys = {"veth": {"bridge": "s1"}, "dummy": {}, "vlan": {"outer-dev": "e", "vlanid": 5}}
        link = {"service": "a", "type": "${HELD}", **keys.get(kind, {"outer-dev": "e"})}
        if kind in MODES:
            link["mode"] = "${MODE}"
        accepted_by_both(tmp_path, link, HELD=kind, MODE=MODES.get(kind, ("",))[0])


# ----------------------------------------------------- whatever the loader takes, by chance

interfaces = st.one_of(
    st.builds("{}/{}".format, st.ip_addresses(v=4), st.integers(0, 32)),
    st.builds("{}/{}".format, st.ip_addresses(v=6), st.integers(0, 128)),
    st.ip_addresses().map(str),
)
ports = st.integers(1, 65535)
routes = st.builds(
    lambda kind, network, words: f"{kind}{network} {' '.join(words)}",
    st.sampled_from(["", "unicast ", "blackhole ", "local ", "-4 "]),
    st.one_of(st.just("default"), st.ip_addresses(v=4).map(lambda ip: f"{ip}/32"),
              st.ip_addresses(v=6).map(str)),
    st.lists(st.sampled_from(
        ["via 10.0.0.1", "via inet6 fd00::1", "src 10.0.0.2", "metric 5", "priority 4294967295",
         "table main", "table 7", "scope link", "scope 253", "mtu 1400", "advmss 1360", "onlink",
         "dev eth0"]), max_size=4),
)  # fmt: skip
macs = st.from_regex(r"[0-9a-fA-F][048c]([:-][0-9a-fA-F]{2}){5}", fullmatch=True)
ethtools = st.sampled_from(
    ["--offload rx off", "-K tx on sg off", "--set-ring rx 512", "-C rx-usecs 3", "-s speed 100",
     "--features  tso  off ", "-L combined 2", "--set-eee eee on"]
)  # fmt: skip


@given(
    key_and_value=st.one_of(
        st.tuples(st.just("ip"), interfaces),
        st.tuples(st.just("mac"), macs),
        st.tuples(st.just("nat"), st.ip_addresses().map(str)),
        st.tuples(st.just("route"), routes),
        st.tuples(st.just("ethtool"), ethtools),
        st.tuples(st.just("forward"), st.builds("{}:{}/tcp".format, ports, ports)),
        st.tuples(st.just("dev"), st.from_regex(r"[!-#&-.0-9;-~]{1,15}", fullmatch=True)),
        st.tuples(st.just("netem"), st.integers().map(lambda n: netem_strings.options(Random(n)))),
    )
)
def test_what_the_loader_takes_by_chance_the_schema_takes(key_and_value: tuple[str, str]) -> None:
    from model.config import parse
    from model.document import Node, mapping
    from model.problems import NOWHERE, ConfigError

    key, value = key_and_value
    link = {"service": "a", "bridge": "s1", "ip": ["10.0.0.9/24", "fd00::9/64"], key: value}
    nodes = {
        name: Node(tuple(Node(v, NOWHERE) for v in each), NOWHERE) if isinstance(each, list)
        else Node(each, NOWHERE) for name, each in link.items()
    }  # fmt: skip
    try:
        parse(mapping(NOWHERE, {"links": Node((mapping(NOWHERE, nodes),), NOWHERE)}))
    except ConfigError:
        return
    if value not in ("all", "default", "lo", ".", ".."):
        assert complaints(NETWORK, {"links": [link]}) == []
