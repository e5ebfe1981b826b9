"""Reading, merging and checking configuration: what is legal, what is wrong, and how it is told.

The words for each wrong file are in test_wrong_files.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from model.declared import Config, LinkSpec
from model.problems import ConfigError
from reconciler.shape import schema, schema_text
from reconciler.sources import Loaded, Sources, load

ENVIRONMENT = {"SET": "set", "EMPTY": "", "MTU": "9000"}


def sources(*files: Path, environment: Mapping[str, str] = ENVIRONMENT) -> Sources:
    """Take files whose names hold `.compose.` as compose files, and the others as network files."""
    compose = tuple(str(f) for f in files if ".compose." in f.name)
    network = tuple(str(f) for f in files if ".compose." not in f.name)
    return Sources(network, compose, environment)


def loaded(directory: Path, *texts: str, **environment: str) -> Loaded:
    """Load texts as files: those with `services:` as compose files."""
    files = []
    for number, text in enumerate(texts):
        kind = "compose.yaml" if "services:" in text or "x-network:" in text else "yaml"
        files.append(directory / f"{number}.{kind}")
        files[-1].write_text(text, encoding="utf-8")
    return load(sources(*files, environment=environment))


def config(directory: Path, *texts: str, **environment: str) -> Config:
    return loaded(directory, *texts, **environment).config


def link(directory: Path, *texts: str, **environment: str) -> LinkSpec:
    (only,) = config(directory, *texts, **environment).links
    return only


def problems(wanted: Sources) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(wanted)
    return tuple(str(problem) for problem in caught.value.problems)


# ------------------------------------------------------------------------ what cannot be read


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert problems(sources(path)) == (f"{path}: cannot be read: No such file or directory",)


def test_a_directory_is_told(tmp_path: Path) -> None:
    path = tmp_path / "network.yaml"
    path.mkdir()
    assert problems(sources(path)) == (f"{path}: cannot be read: Is a directory",)


def test_all_unreadable_files_are_told_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.yaml" for n in range(3)]
    assert len(problems(sources(*paths))) == 3


# ------------------------------------------------------------------------------- what is legal


@pytest.mark.parametrize(
    "text",
    ["", "\n", "# only a comment\n", "---\n", "null\n", "{}\n", "links: []\n", "links:\n", "\ufeff",
     "links:\nbridges:\ntunnels:\ncommands:\n"],
)  # fmt: skip
def test_nothing_declared_is_an_empty_configuration(tmp_path: Path, text: str) -> None:
    assert config(tmp_path, text) == Config()


def test_no_file_at_all_is_an_empty_configuration() -> None:
    assert load(Sources((), (), {})).config == Config()


def test_an_empty_section_takes_no_links_of_another_file_away(tmp_path: Path) -> None:
    assert link(tmp_path, "links: [{service: a, bridge: s1}]", "links:").owner.name == "a"


def test_anchors_aliases_and_merge_keys(tmp_path: Path) -> None:
    text = """
    links:
      - &base {service: a, bridge: s1, mtu: 1400, ip: &ips [10.0.0.1/24]}
      - {<<: *base, dev: eth1, ip: 10.0.0.2/24}
      - {<<: [{mtu: 1300}, *base], dev: eth2, bridge: s2}
      - {service: a, bridge: s3, dev: eth3, ip: *ips}
    """
    found = {spec.dev: spec for spec in config(tmp_path, text).links}
    assert {dev: (s.bridge, s.mtu, *map(str, s.ips)) for dev, s in found.items()} == {
        "eth0": ("s1", 1400, "10.0.0.1/24"),
        "eth1": ("s1", 1400, "10.0.0.2/24"),
        "eth2": ("s2", 1300, "10.0.0.1/24"),
        "eth3": ("s3", None, "10.0.0.1/24"),
    }


def test_a_quoted_merge_key_is_a_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("'<<': {links: []}")
    (told,) = problems(sources(tmp_path / "a.yaml"))
    assert "unknown key '<<'" in told


def test_an_unquoted_mac_is_no_number_in_base_60(tmp_path: Path) -> None:
    assert link(tmp_path, "links: [{service: a, bridge: s1, mac: 10:20:30:40:50:51}]").mac == (
        "10:20:30:40:50:51"
    )


def test_no_and_on_are_words(tmp_path: Path) -> None:
    found = link(tmp_path, "links: [{service: no, bridge: on, dev: off}]")
    assert (found.owner.name, found.bridge, found.dev) == ("no", "on", "off")


def test_explicit_tags_are_obeyed(tmp_path: Path) -> None:
    found = link(tmp_path, 'links: [{service: !!str 7, bridge: s1, mtu: !!int "1500"}]')
    assert (found.owner.name, found.mtu) == ("7", 1500)


def test_tags_of_compose_are_passed_over(tmp_path: Path) -> None:
    text = """
    services:
      a:
        ports: !reset []
        x-network: {links: [{bridge: s1}]}
    """
    assert link(tmp_path, text).owner.name == "a"


def test_the_rest_of_a_compose_file_is_not_looked_at(tmp_path: Path) -> None:
    text = """
    version: "2.4"
    services:
      a: {image: "x:$1", command: "${HERE"}
      b:
    volumes: {v: {}}
    """
    assert config(tmp_path, text) == Config()


def test_json_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{\n\t"links": [\n\t\t{"service":"a","bridge":"s1"}]}')
    assert len(load(sources(path)).config.links) == 1


def test_suffixes_in_capitals(tmp_path: Path) -> None:
    for name in ("A.YML", "A.YAML", "A.JSON"):
        (tmp_path / name).write_text("{}")
        assert load(sources(tmp_path / name)).config == Config()


def test_a_hundred_levels_and_many_values_are_no_attack(tmp_path: Path) -> None:
    entry = "  - {service: s%d, bridge: b, ip: [10.%d.%d.1/30, 'fd00:%x::1/64']}\n"
    text = "links:\n" + "".join(entry % (n, n // 256, n % 256, n) for n in range(2000))
    assert len(config(tmp_path, text).links) == 2000


# ---------------------------------------------------------------------------- loading and merging


def test_x_network_of_the_file_then_of_each_service_then_network_files(tmp_path: Path) -> None:
    compose = """
    services:
      b: {x-network: {links: [{bridge: s2}], commands: [{command: x}]}}
      a: {x-network: {links: [{bridge: s3}]}}
    x-network: {links: [{service: top, bridge: s1}]}
    """
    network = "links: [{service: last, bridge: s4}]"
    found = config(tmp_path, network, compose)
    assert [(spec.bridge, spec.owner.name) for spec in found.links] == [
        ("s1", "top"),
        ("s2", "b"),
        ("s3", "a"),
        ("s4", "last"),
    ]
    assert [str(command.owner) for command in found.commands] == ["service b"]


def test_a_link_of_a_service_may_name_another_owner(tmp_path: Path) -> None:
    text = """
    services:
      a:
        x-network:
          links: [{container: other, bridge: s1}, {service: b, bridge: s1}, {bridge: s1}]
          commands: [{container: other, command: [x, y]}]
          bridges: [{bridge: s1, mode: linux}]
    """
    found = config(tmp_path, text)
    assert [str(spec.owner) for spec in found.links] == [
        "container other",
        "service b",
        "service a",
    ]
    assert [str(command.owner) for command in found.commands] == ["container other"]
    assert found.bridges[0].mode == "linux"


def test_several_compose_files_in_their_order(tmp_path: Path) -> None:
    one = "services: {a: {x-network: {links: [{bridge: s1, mtu: 1400}]}}}"
    two = "services: {a: {x-network: {links: [{mtu: 9000}]}}}"
    assert link(tmp_path, one, two).mtu == 9000
    assert link(tmp_path, two, one).mtu == 1400


def test_mappings_merge_lists_concatenate_later_scalars_win(tmp_path: Path) -> None:
    one = "links: [{service: a, bridge: s1, ip: [10.0.0.1/24], netem: delay 1ms, mtu: 1500}]"
    two = "links: [{service: a, ip: [10.0.1.1/24], netem: loss 1%}]"
    found = link(tmp_path, one, two)
    assert [str(ip) for ip in found.ips] == ["10.0.0.1/24", "10.0.1.1/24"]
    assert found.netem is not None
    assert (found.netem.delay, found.netem.loss is not None) == (0, True)
    assert (found.mtu, found.bridge) == (1500, "s1")


def test_netem_and_ethtool_lists_concatenate(tmp_path: Path) -> None:
    one = "links: [{service: a, bridge: s1, netem: [delay 1ms], ethtool: [--offload rx off]}]"
    two = "links: [{service: a, netem: [loss 1%], ethtool: [--offload tx on]}]"
    found = link(tmp_path, one, two)
    assert found.netem is not None
    assert found.ethtool is not None
    assert (found.netem.delay, found.netem.loss is not None) == (1_000_000, True)
    assert dict(found.ethtool.offloads) == {"rx": False, "tx": True}


def test_links_are_one_by_owner_and_dev(tmp_path: Path) -> None:
    text = """
    links:
      - {service: a, bridge: s1}
      - {container: a, bridge: s2}
      - {service: a, bridge: s3, dev: eth1}
      - {service: a, bridge: s4, dev: eth0}
      - {service: b, bridge: s5}
    """
    found = [(str(spec.owner), spec.dev, spec.bridge) for spec in config(tmp_path, text).links]
    assert found == [
        ("service a", "eth0", "s4"),
        ("container a", "eth0", "s2"),
        ("service a", "eth1", "s3"),
        ("service b", "eth0", "s5"),
    ]


def test_a_service_may_override_from_its_x_network(tmp_path: Path) -> None:
    compose = "services: {a: {x-network: {links: [{bridge: s1, netem: delay 9ms}]}}}"
    network = "links: [{service: a, netem: '', mtu: 1400}]"
    found = link(tmp_path, compose, network)
    assert (found.netem, found.mtu, found.bridge) == (None, 1400, "s1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$SET", "set"),
        ("${SET}", "set"),
        ("a${SET}b$SET", "asetbset"),
        ("$SET-x", "set-x"),
        ("${SET:-x}", "set"),
        ("${EMPTY:-x}", "x"),
        ("${EMPTY-x}y", "y"),
        ("${UNSET-x}", "x"),
        ("${UNSET:-x}", "x"),
        ("${UNSET:-${SET}}", "set"),
        ("${UNSET:-${ALSO:-$SET}}", "set"),
        ("${SET?no}", "set"),
        ("${SET:?no}", "set"),
        ("${EMPTY?no}x", "x"),
        ("${SET+x}", "x"),
        ("${SET:+x}", "x"),
        ("${EMPTY:+x}y", "y"),
        ("${EMPTY+x}", "x"),
        ("${UNSET+x}y", "y"),
        ("x$UNSET", "x"),
        ("x${UNSET}", "x"),
        ("$$SET", "$SET"),
        ("$$$$", "$$"),
        ("$${SET}", "${SET}"),
    ],
)
def test_variables(tmp_path: Path, text: str, expected: str) -> None:
    found = config(
        tmp_path, f"commands: [{{service: a, command: ['{text}']}}]", SET="set", EMPTY=""
    )
    assert found.commands[0].argv == (expected,)


def test_variables_in_every_string_and_numbers_stay_numbers(tmp_path: Path) -> None:
    text = """
    services:
      a:
        x-network:
          links: [{bridge: $BRIDGE, mtu: $MTU, ip: ["$IP/24"], route: "default via ${GW}"}]
    """
    found = link(tmp_path, text, BRIDGE="s7", MTU="9000", IP="10.0.0.1", GW="10.0.0.9")
    assert (found.bridge, found.mtu, str(found.ips[0])) == ("s7", 9000, "10.0.0.1/24")
    assert found.routes[0].via == "10.0.0.9"


def test_what_a_variable_holds_is_never_looked_into(tmp_path: Path) -> None:
    found = config(tmp_path, "commands: [{service: a, command: '$X'}]", X="${SET} $$ {")
    assert found.commands[0].argv == ("sh", "-c", "${SET} $$ {")


def test_variables_before_links_are_merged(tmp_path: Path) -> None:
    one = "links: [{service: $WHO, bridge: s1}]"
    two = "links: [{service: a, mtu: 1400}]"
    assert link(tmp_path, one, two, WHO="a").mtu == 1400


def test_the_document_is_what_was_merged(tmp_path: Path) -> None:
    found = loaded(tmp_path, "links: [{service: a, bridge: s1}]\nbridges: [{bridge: s2}]")
    assert found.document.bare() == {
        "links": [{"service": "a", "bridge": "s1"}],
        "bridges": [{"bridge": "s2"}],
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [("lab", "lab"), ("${PROJECT}", "mine"), ("${NONE:-other}", "other"), ("7", ""), ("[a]", "")],
)
def test_the_project_that_a_compose_file_names(tmp_path: Path, name: str, expected: str) -> None:
    found = loaded(tmp_path, f"name: {name}\nservices: {{}}", "services: {}", PROJECT="mine")
    assert found.project == expected


def test_paths_are_compose_files_then_network_files() -> None:
    assert Sources(("n",), ("c",), {}).paths() == ("c", "n")


# ----------------------------------------------------------------------------------- the schema


def test_the_shipped_schema_is_a_schema() -> None:
    assert schema() == json.loads(schema_text())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a usable schema: Expecting property name"),
        ("[]", "not a usable schema: not a mapping"),
        ("[" * 100_000, "not a usable schema: "),
        ('{"type": 7}', "not a usable schema: 7 is not valid"),
        ('{"type": "array"}', "this is a mapping, not a list"),
        ('{"maxProperties": 0}', "empty"),
        ('{"properties": {"links": {"maxItems": 0}}}', "'links'"),
        ('{"type": ["array", "null"]}', "this is a mapping, not a list or empty"),
        ('{"$ref": "#/nowhere"}', "not a usable schema: "),
        ('{"$ref": "http://localhost:1/schema.json"}', "not a usable schema: "),
        ('{"$ref": "#"}', "not a usable schema: "),
        ('{"$ref": "other.json"}', "not a usable schema: "),
        ('{"properties": {"links": {"$ref": "#"}}, "pattern": "["}', "not a usable schema: "),
    ],
)
def test_a_schema_of_ones_own_that_does_not_fit(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "schema.json").write_text(text)
    (tmp_path / "a.yaml").write_text("links: [{service: a, bridge: s1}]")
    wanted = Sources((str(tmp_path / "a.yaml"),), (), {}, str(tmp_path / "schema.json"))
    (told,) = problems(wanted)
    assert said in told


def test_a_missing_schema(tmp_path: Path) -> None:
    wanted = Sources((), (), {}, str(tmp_path / "none.json"))
    assert problems(wanted)[0].startswith(f"{tmp_path}/none.json: not a usable schema")


# ------------------------------------------------------------------------------------ whatever

WORDS = st.sampled_from(
    ["links", "bridges", "tunnels", "commands", "service", "container", "bridge", "dev", "ip",
     "mac", "mtu", "route", "nat", "netem", "mode", "vlanid", "forward", "ethtool", "base", "type",
     "vni", "remote", "command", "outer-dev", "x-network", "services", "<<", "veth", "vlan",
     "s1", "$X"]
)  # fmt: skip
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | WORDS
    | st.text(max_size=20)
    | st.sampled_from(["10.0.0.1/24", "default via 10.0.0.2", "delay 1ms", "1:2/tcp", "${X:-${Y}"])
)
STRUCTURES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=6)
    ),
    max_leaves=30,
)
ENTRY = st.dictionaries(WORDS, STRUCTURES, max_size=6)
DOCUMENT = STRUCTURES | st.dictionaries(
    st.sampled_from(["links", "bridges", "tunnels", "commands"]), st.lists(ENTRY, max_size=3)
)


def read_or_refused(directory: Path, content: bytes, *, lax: bool = False) -> None:
    (directory / "lax.json").write_text("{}")
    for name in ("any.yaml", "any.compose.yaml", "any.json"):
        path = directory / name
        path.write_bytes(content)
        wanted = sources(path)
        if lax:
            wanted = Sources(
                wanted.network_files, wanted.compose_files, {}, f"{directory}/lax.json"
            )
        try:
            found: object = load(wanted)
        except ConfigError as error:
            found = error
        assert isinstance(found, Loaded | ConfigError)
        if isinstance(found, ConfigError):
            assert found.problems
            assert all(p.place.file and p.message for p in found.problems)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("any")


@settings(deadline=None, max_examples=150)
@given(content=st.binary() | st.text().map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_read_or_refused(directory: Path, content: bytes) -> None:
    read_or_refused(directory, content)


@settings(deadline=None, max_examples=150)
@given(text=st.text("{}[]&*<:,-?|>!%@`'\"#\n\t ab1$~", max_size=60))
def test_any_punctuation_is_read_or_refused(directory: Path, text: str) -> None:
    read_or_refused(directory, text.encode())


@settings(deadline=None, max_examples=150)
@given(structure=DOCUMENT)
def test_any_structure_is_read_or_refused(directory: Path, structure: Any) -> None:
    text = yaml.safe_dump(structure, allow_unicode=True)
    read_or_refused(directory, text.encode("utf-8", "surrogatepass"))


@settings(deadline=None, max_examples=150)
@given(structure=DOCUMENT)
def test_any_structure_that_a_lax_schema_lets_pass(directory: Path, structure: Any) -> None:
    text = yaml.safe_dump(structure, allow_unicode=True)
    read_or_refused(directory, text.encode("utf-8", "surrogatepass"), lax=True)


@settings(deadline=None, max_examples=150)
@given(structure=DOCUMENT)
def test_any_json_is_read_or_refused(directory: Path, structure: Any) -> None:
    read_or_refused(directory, json.dumps(structure).encode())
