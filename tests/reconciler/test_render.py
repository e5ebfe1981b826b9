"""Plans and status as people and programs read them, character by character."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any, get_args

import pytest

from model import ethtool, netem
from model.keys import HOST, SELF, Key, NsKey, link_key
from model.resources import (
    Address,
    Command,
    FieldChange,
    Link,
    NatTable,
    Neighbour,
    Offload,
    OvsBridge,
    OvsPort,
    Qdisc,
    Redirect,
    Resource,
    Route,
    Setting,
    Sysctl,
)
from model.rule import rule
from model.wanted import Obstacle
from reconciler.diff import Change
from reconciler.plan import Plan
from reconciler.render import (
    change_data,
    command_data,
    leaves,
    paint,
    plain,
    plan_json,
    plan_text,
    resource_data,
    status_data,
    status_text,
)
from reconciler.status import CommandStatus, LinkStatus

NS = NsKey("container", "node_5", "f" * 64)
INNER_KEY, OUTER_KEY = link_key(NS, "eth0"), link_key(SELF, "node_5-eth0")
INNER = Link(
    key=INNER_KEY, kind="veth", peer=OUTER_KEY, mac="c2:00:00:00:00:05", mtu=1500, up=True, group=7
)
OUTER = Link(key=OUTER_KEY, kind="veth", peer=INNER_KEY, mtu=1500, up=True, master="s1", group=7)
BRIDGE = Link(key=link_key(SELF, "s1"), kind="bridge", up=True, group=7)
ADDRESS = Address(key=Key(NS, "address", "eth0", "10.0.1.5/24"), ip="10.0.1.5/24")
OFFLOAD = Offload(key=Key(NS, "offload", "eth0"), features=(("tx", False),))
DEFAULT = Route(
    key=Key(NS, "route", "eth0", "0.0.0.0/0 metric 0 table 254"),
    family=4,
    dst="0.0.0.0/0",
    via="10.0.1.254",
)
WHY = "net.yaml:3:5 (service node, replica 5)"


def create(resource: Resource, **more: Any) -> Change:
    return Change(action="create", key=resource.key, after=resource, because=WHY, **more)


NEW_LINK = (
    replace(create(BRIDGE), because="net.yaml:3:5 (bridge s1)"),
    create(INNER, peer=OUTER),
    Change(action="modify", key=OFFLOAD.key, after=OFFLOAD, because=WHY,
           fields=(FieldChange("tx", None, after=False),)),
    create(ADDRESS),
    create(DEFAULT),
    create(OUTER),
)  # fmt: skip
DRIFT = Change(
    action="modify", key=INNER_KEY, before=replace(INNER, mtu=9000, up=False), after=INNER,
    because=WHY,
    fields=(FieldChange("mtu", 9000, 1500), FieldChange("up", before=False, after=True)),
)  # fmt: skip
GONE = Change(action="delete", key=OUTER_KEY, before=OUTER, because="not declared")
AWAY = Obstacle(link_key(NsKey("container", "node_3", "3"), "eth1"), "blocked", "is not there")


def test_nothing_to_do() -> None:
    assert plan_text(Plan()) == "Nothing to do: everything is as declared.\n"


def test_a_new_link_is_one_line() -> None:
    assert plan_text(Plan(NEW_LINK)) == (
        "# net.yaml:3:5 (bridge s1)\n"
        "  + self:s1            bridge\n"
        "# net.yaml:3:5 (service node, replica 5)\n"
        "  + node_5:eth0        veth 10.0.1.5/24 mac c2:00:00:00:00:05 mtu 1500"
        " <-> node_5-eth0 on s1\n"
        "  + node_5:eth0        route default via 10.0.1.254\n"
        "\n"
        "Plan: 3 to create, 0 to change, 0 to replace, 0 to delete.\n"
    )


def test_a_change_names_what_was_and_what_will_be() -> None:
    assert plan_text(Plan((DRIFT,))) == (
        "# net.yaml:3:5 (service node, replica 5)\n"
        "  ~ node_5:eth0        mtu 9000 -> 1500, up off -> on\n"
        "\n"
        "Plan: 0 to create, 1 to change, 0 to replace, 0 to delete.\n"
    )


def test_a_deletion_says_why() -> None:
    assert plan_text(Plan((DRIFT, GONE)), done=True) == (
        "# net.yaml:3:5 (service node, replica 5)\n"
        "  ~ node_5:eth0        mtu 9000 -> 1500, up off -> on\n"
        "\n"
        "  - self:node_5-eth0   veth on s1  not declared\n"
        "\n"
        "Done: 0 created, 1 changed, 0 replaced, 1 deleted.\n"
    )


def test_a_replacement() -> None:
    step = replace(NEW_LINK[1], action="replace", before=INNER, removes=(INNER, OUTER))
    text = plan_text(Plan((step,)))
    assert (
        "-/+ node_5:eth0        veth mac c2:00:00:00:00:05 mtu 1500 <-> node_5-eth0 on s1" in text
    )
    assert "1 to replace" in text


def test_obstacles_stand_apart() -> None:
    assert plan_text(Plan((), (AWAY,))) == (
        "  ! node_3:eth1          blocked: is not there\n"
        "\n"
        "Plan: 0 to create, 0 to change, 0 to replace, 0 to delete, 1 not possible.\n"
    )
    assert "\n\n  ! node_3:eth1" in plan_text(Plan((GONE,), (AWAY,)))


def test_what_failed_is_counted_apart_from_what_is_not_possible() -> None:
    counted = "Done: 0 created, 0 changed, 0 replaced, 0 deleted, 2 failed"
    assert plan_text(Plan(), done=True, failed=2) == f"{counted}.\n"
    told = plan_text(Plan((), (AWAY,)), done=True, failed=2)
    assert told.endswith(f"\n{counted}, 1 not possible.\n")


def test_what_is_added_to_a_link_that_is_there() -> None:
    more = Change(
        action="modify", key=OFFLOAD.key, before=OFFLOAD, after=OFFLOAD, because=WHY,
        fields=(FieldChange("tx", before=True, after=False),),
    )  # fmt: skip
    lines = plan_text(Plan((create(ADDRESS), more, create(OUTER)))).splitlines()
    assert lines[1:4] == [
        "  + node_5:eth0        address 10.0.1.5/24",
        "  ~ node_5:eth0        tx on -> off",
        "  + self:node_5-eth0   veth on s1",
    ]


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        (
            replace(DEFAULT, dst="10.0.0.0/8", via="", metric=5, table=9),
            "10.0.0.0/8 metric 5 table 9",
        ),
        (replace(DEFAULT, dst="::/0", family=6, metric=1024, via="fd00::1"), "default via fd00::1"),
        (replace(DEFAULT, dst="10.0.0.0/8", type="blackhole", via=""), "10.0.0.0/8 blackhole"),
    ],
)
def test_routes(resource: Route, line: str) -> None:
    assert f"node_5:eth0        route {line}\n" in plan_text(Plan((create(resource),)))


def test_a_route_without_an_interface() -> None:
    key = Key(NS, "route", "", "10.0.0.0/8 metric 0 table 254")
    hole = replace(DEFAULT, key=key, dst="10.0.0.0/8", via="", type="blackhole")
    text = plan_text(Plan((Change(action="delete", key=key, before=hole, because="not declared"),)))
    assert text.startswith("  - node_5             route 10.0.0.0/8 blackhole  not declared\n")


def test_an_offload_that_is_no_change_of_one() -> None:
    text = plan_text(Plan((create(OFFLOAD),)))
    assert "+ node_5:eth0        offload tx off" in text


def test_colours() -> None:
    assert paint("x", "32", colour=False) == "x"
    assert paint("x", "32", colour=True) == "\x1b[32mx\x1b[0m"
    coloured = plan_text(Plan(NEW_LINK, (AWAY,)), colour=True)
    assert "\x1b[32m  +\x1b[0m node_5:eth0" in coloured
    assert "\x1b[31;1m  !\x1b[0m" in coloured
    assert "\x1b[2m# net.yaml" in coloured


def test_a_plan_as_data() -> None:
    found = json.loads(plan_json(Plan((NEW_LINK[1], DRIFT, GONE), (AWAY,))))
    assert found["version"] == 1
    assert found["digest"] == Plan((NEW_LINK[1], DRIFT, GONE)).digest
    assert found["obstacles"] == [
        {"key": "node_3:eth1", "state": "blocked", "message": "is not there"}
    ]
    made, drift, gone = found["changes"]
    assert made["after"] == {
        "kind": "veth", "peer": "self:node_5-eth0", "mac": "c2:00:00:00:00:05", "mtu": 1500,
        "up": True, "group": 7,
    }  # fmt: skip
    assert (made["action"], made["type"], made["namespace"]) == ("create", "link", "node_5")
    assert (made["before"], made["fields"], made["removes"]) == (None, {}, [])
    assert drift["fields"] == {
        "mtu": {"before": 9000, "after": 1500},
        "up": {"before": False, "after": True},
    }
    assert (gone["action"], gone["after"], gone["because"]) == ("delete", None, "not declared")


def test_the_links_that_a_replacement_removes() -> None:
    step = replace(NEW_LINK[1], action="replace", removes=(INNER, OUTER))
    assert change_data(step)["removes"] == ["node_5:eth0", "self:node_5-eth0"]


def test_the_digest_is_of_the_steps_and_their_order() -> None:
    assert Plan(NEW_LINK).digest == Plan(NEW_LINK, (AWAY,)).digest
    assert Plan(NEW_LINK).digest != Plan(NEW_LINK[::-1]).digest
    assert Plan(NEW_LINK).digest != Plan((DRIFT,)).digest
    assert Plan().digest == Plan().digest


def test_leaves_name_what_differs_and_nothing_else() -> None:
    assert leaves(create(ADDRESS)) == {}
    step = replace(
        DRIFT, fields=(FieldChange("peer", None, INNER_KEY), FieldChange("mac", "", "x"))
    )
    assert leaves(step) == {
        "peer": {"before": None, "after": "node_5:eth0"},
        "mac": {"before": "", "after": "x"},
    }


def test_leaves_of_a_mapping() -> None:
    before, after = (("rx", True), ("tx", True)), (("tx", False), ("gro", True))
    found = leaves(replace(DRIFT, fields=(FieldChange("features", before, after),)))
    assert found == {
        "features.tx": {"before": True, "after": False},
        "features.rx": {"before": True, "after": None},
        "features.gro": {"before": None, "after": True},
    }


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (SELF, "self"),
        (INNER_KEY, "node_5:eth0"),
        ((("tx", False),), {"tx": False}),
        (7, 7),
        (None, None),
        (AWAY, str(AWAY)),
    ],
)
def test_plain_values(value: object, expected: object) -> None:
    assert plain(value) == expected


def test_what_is_only_observed_is_not_shown() -> None:
    assert resource_data(None) is None
    seen = replace(BRIDGE, index=7, alias=None)
    assert resource_data(seen) == {"kind": "bridge", "up": True, "group": 7}
    assert resource_data(OFFLOAD) == {"features": {"tx": False}}
    json.dumps(resource_data(DEFAULT))


READY = LinkStatus(INNER_KEY, "Ready", "", ("10.0.1.5/24", "fd00::5/64"), "s1", WHY)
WAITING = LinkStatus(AWAY.key, "Blocked", "needs self:s9", (), "", WHY)


def table(statuses: list[LinkStatus], note: str = "", *, colour: bool = False) -> str:
    return status_text(status_data(statuses)["links"], note, colour=colour)


def test_status_lines_up() -> None:
    assert table([READY, WAITING], "note\n") == (
        "LINK         STATE    BRIDGE  ADDRESSES\n"
        "node_3:eth1  Blocked  -       -                       needs self:s9\n"
        "node_5:eth0  Ready    s1      10.0.1.5/24 fd00::5/64\n"
        "\n"
        "1 of 2 ready\n"
        "note\n"
    )


def test_all_links_connected_is_said_only_when_it_is_true() -> None:
    assert table([READY]).endswith("\n\nAll links connected\n")
    assert "All links connected" not in table([READY, WAITING])
    assert table([]) == "No declared link matches a running container.\n"


def test_colours_do_not_move_columns() -> None:
    plain_text = table([READY, WAITING])
    coloured = table([READY, replace(WAITING, state="Conflict")], colour=True)
    assert "\x1b[32mReady" in coloured
    assert "\x1b[31mConflict" in coloured
    stripped = coloured
    for code in ("\x1b[32m", "\x1b[31m", "\x1b[1m", "\x1b[0m"):
        stripped = stripped.replace(code, "")
    assert [line.split()[0] for line in stripped.splitlines() if line] == [
        line.split()[0] for line in plain_text.splitlines() if line
    ]


def test_status_as_data() -> None:
    found = status_data([READY, WAITING], instance="lab")
    assert (found["version"], found["connected"], found["instance"]) == (1, False, "lab")
    assert [link["key"] for link in found["links"]] == ["node_3:eth1", "node_5:eth0"]
    assert found["links"][1] == {
        "key": "node_5:eth0", "container": NS.id, "state": "Ready", "message": "", "bridge": "s1",
        "addresses": ["10.0.1.5/24", "fd00::5/64"], "because": WHY,
    }  # fmt: skip
    assert status_data([READY])["connected"]
    assert not status_data([])["connected"]


# ------------------------------------------------------------------------- each kind of resource

LINES: list[tuple[Resource, str]] = [
    (Link(key=link_key(NS, "d0"), kind="dummy", mtu=1400), "node_5:d0          dummy mtu 1400"),
    (
        Link(key=link_key(NS, "v0"), kind="vlan", parent=link_key(HOST, "ens3"),
             settings=(("vlanid", 5),)),
        "node_5:v0          vlan vlanid 5 on host:ens3",
    ),
    (
        Link(key=link_key(SELF, "vxlan-7"), kind="vxlan", mtu=1450, master="s1",
             settings=(("learning", False), ("vni", 7))),
        "self:vxlan-7       vxlan learning off vni 7 mtu 1450 on s1",
    ),
    (
        Setting(key=Key(NS, "setting", "eth0", "ring"), values=(("rx", 512), ("tx", 256))),
        "node_5:eth0        ring rx 512 tx 256",
    ),
    (ethtool.call(INNER_KEY, ("--change", "msglvl", "a b")),
     "node_5:eth0        ethtool --change msglvl 'a b'"),
    (
        Qdisc(key=Key(NS, "qdisc", "eth0", "root"), netem=netem.parse("delay 40ms loss 1%")),
        "node_5:eth0        netem limit 1000 delay 40ms loss random 1%",
    ),
    (Qdisc(key=Key(NS, "qdisc", "eth0", "root"), netem=None, kind="tbf"), "node_5:eth0"),
    (
        Redirect(key=Key(SELF, "redirect", "node_5-eth0"), target=link_key(SELF, "far")),
        "self:node_5-eth0   patch to far",
    ),
    (Redirect(key=Key(SELF, "redirect", "a"), target=None), "self:a             patch to nothing"),
    (
        NatTable(key=Key(NS, "nat", "", "relink-1"), rules=("x",), summary=("a -> b", "c -> d")),
        "node_5             nat a -> b; c -> d",
    ),
    (
        Neighbour(key=Key(NS, "neighbour", "eth0", "10.0.1.9"), mac="02:00:00:00:00:09"),
        "node_5:eth0        neighbour 10.0.1.9 at 02:00:00:00:00:09",
    ),
    (
        rule(NS, 4, table=7, priority=100, mark=7),
        "node_5             rule ipv4 fwmark 0x7 table 7 priority 100",
    ),
    (
        Sysctl(key=Key(SELF, "sysctl", "", "net/ipv4/ip_forward"), value="1"),
        "self               net/ipv4/ip_forward 1",
    ),
    (
        OvsBridge(key=Key(SELF, "ovs-bridge", "s1"), datapath="netdev"),
        "self:s1            Open vSwitch bridge, netdev datapath",
    ),
    (
        OvsPort(key=Key(SELF, "ovs-port", "node_5-eth0"), bridge="s1"),
        "self:node_5-eth0   port of Open vSwitch bridge s1",
    ),
    (
        Command(key=Key(NS, "command", "", "0a0b0c0d"), argv=("sh", "-c", "echo 'a b'")),
        """node_5             run sh -c 'echo '"'"'a b'"'"''""",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("resource", "line"), LINES)
def test_each_resource_is_one_line(resource: Resource, line: str) -> None:
    assert plan_text(Plan((create(resource),))).splitlines()[1] == f"  + {line}"
    gone = Change(action="delete", key=resource.key, before=resource, because="not declared")
    assert plan_text(Plan((gone,))).splitlines()[0] == f"  - {line}  not declared"
    json.dumps(resource_data(resource))


def test_every_type_of_resource_has_its_line() -> None:
    told = {type(resource) for resource, _ in LINES} | {Address, Offload, Route}
    assert told == set(get_args(Resource))


def test_a_change_says_of_which_thing_on_an_interface() -> None:
    old, new = (netem.parse(f"delay {ms}ms") for ms in (40, 50))
    key = Key(NS, "qdisc", "eth0", "root")
    step = Change(
        action="modify", key=key, before=Qdisc(key=key, netem=old), after=Qdisc(key=key, netem=new),
        fields=(FieldChange("netem", old, new),), because=WHY,
    )  # fmt: skip
    line = "qdisc root netem limit 1000 delay 40ms -> limit 1000 delay 50ms"
    assert f"  ~ node_5:eth0        {line}\n" in plan_text(Plan((step,)))
    assert leaves(step) == {
        "netem": {"before": "limit 1000 delay 40ms", "after": "limit 1000 delay 50ms"}
    }


# -------------------------------------------------------------------------- details of a forward

THERE = (
    create(Neighbour(key=Key(SELF, "neighbour", "s1", "10.0.1.5"), mac="02:00:00:00:00:05")),
    create(Route(key=Key(SELF, "route", "s1", "10.0.1.5/32 metric 0 table 254"), family=4,
                 dst="10.0.1.5/32")),
    create(rule(NS, 4, table=7, priority=100, mark=7)),
    create(Route(key=Key(NS, "route", "eth0", "0.0.0.0/0 metric 0 table 7"), family=4,
                 dst="0.0.0.0/0", via="169.254.0.158", table=7)),
)  # fmt: skip


def test_the_way_of_a_forward_is_told_by_its_nat_entry_where_the_link_is_new() -> None:
    table = NatTable(key=Key(SELF, "nat", "", "relink-1"), rules=(), summary=("tcp 80 -> x:80",))
    text = plan_text(Plan((*NEW_LINK, create(table), *THERE)))
    assert "nat tcp 80 -> x:80" in text
    assert not [word for word in ("neighbour", "rule", "10.0.1.5/32", "table 7") if word in text]
    assert "Plan: 4 to create" in text


def test_the_way_of_a_forward_is_told_where_it_alone_is_mended() -> None:
    """A preview names whatever would be done."""
    for step in THERE:
        assert "Plan: 1 to create" in plan_text(Plan((step,)))
    assert "rule ipv4" in plan_text(Plan((*NEW_LINK, replace(THERE[2], because="another link"))))


def test_what_became_of_commands() -> None:
    states: tuple[tuple[str, int | None], ...] = (
        ("ended", 0), ("started", None), ("started", None), ("waiting", None),
    )  # fmt: skip
    statuses = [
        CommandStatus(Command(key=Key(NS, "command", "", str(n)), argv=("x",), code=code), state)  # type: ignore[arg-type]
        for n, (state, code) in enumerate(states)
    ]
    found = command_data(reversed(statuses), {statuses[1].command.key})
    assert [(each["state"], each["code"]) for each in found] == [
        ("ended", 0), ("running", None), ("started", None), ("waiting", None),
    ]  # fmt: skip
    assert found[0]["container"] == "node_5"
    assert found[0]["command"] == ["x"]
