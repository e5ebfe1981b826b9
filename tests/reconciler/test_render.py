"""Plans and status as people and programs read them, character by character."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from model.desired import Obstacle
from model.keys import SELF, Key, NsKey, link_key
from model.resources import Address, FieldChange, Link, Offload, Resource, Route
from reconciler.diff import Change
from reconciler.plan import Plan
from reconciler.render import (
    change_data,
    leaves,
    paint,
    plain,
    plan_json,
    plan_text,
    resource_data,
    status_data,
    status_text,
)
from reconciler.status import LinkStatus

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
