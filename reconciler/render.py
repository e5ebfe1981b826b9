"""Plans and status for people and for programs: text and JSON, nothing decided here."""

from __future__ import annotations

import json
import shlex
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from model.forwarding import GATEWAYS
from model.keys import Key, NsKey
from model.netem import Netem, impairments
from model.netem import format as format_netem
from model.problems import printable
from model.resources import (
    Address,
    Command,
    EthtoolCall,
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
    Rule,
    Setting,
    Sysctl,
    link_of,
)
from reconciler.diff import Change
from reconciler.plan import Plan
from reconciler.status import CommandStatus, LinkStatus, all_connected

JSON_VERSION = 1
_SYMBOLS = {"create": "+", "modify": "~", "replace": "-/+", "delete": "-"}
_COLOURS = {"+": "32", "~": "33", "-/+": "35", "-": "31", "!": "31;1"}
_STATE_COLOURS = {"Ready": "32", "Pending": "33", "Backoff": "33", "Blocked": "33"}


def paint(text: str, code: str, *, colour: bool) -> str:
    """Return `text` in an ANSI colour, or as it is."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def plan_text(plan: Plan, *, done: bool = False, failed: int = 0, colour: bool = False) -> str:
    """Render a plan for people: grouped by the entry that wants it, one line for a link.

    `done` tells of what was carried out instead of what would be, and `failed` how many more
    changes were tried.
    """
    lines: list[str] = []
    counts = {"create": 0, "modify": 0, "replace": 0, "delete": 0}
    heading = ""
    for step, described in _folded(plan.steps):
        counts[step.action] += 1
        group = step.because if step.after is not None else ""
        if group != heading:
            heading = group
            lines.append(paint(f"# {printable(group)}", "2", colour=colour) if group else "")
        symbol = _SYMBOLS[step.action]
        mark = paint(f"{symbol:>3}", _COLOURS[symbol], colour=colour)
        reason = f"  {step.because}" if step.after is None else ""
        lines.append(f"{mark} {printable(described + reason)}".rstrip())
    if plan.obstacles and lines:
        lines.append("")
    for obstacle in plan.obstacles:
        mark = paint("  !", _COLOURS["!"], colour=colour)
        told = printable(f"{obstacle.key!s:<20} {obstacle.state}: {obstacle.message}")
        lines.append(f"{mark} {told}")
    if not plan.steps and not plan.obstacles and not failed:
        return "Nothing to do: everything is as declared.\n"
    words = {"create": "create", "modify": "change", "replace": "replace", "delete": "delete"}
    parts = [
        f"{counts[action]} {f'{word}d' if done else f'to {word}'}" for action, word in words.items()
    ]
    if failed:
        parts.append(f"{failed} failed")
    if plan.obstacles:
        parts.append(f"{len(plan.obstacles)} not possible")
    return (
        "\n".join([*lines, "", f"{'Done' if done else 'Plan'}: {', '.join(parts)}."]).lstrip("\n")
        + "\n"
    )


def _folded(steps: Iterable[Change]) -> Iterator[tuple[Change, str]]:
    """Yield steps with their text; what is born with a link is told in the link's line."""
    everything = list(steps)
    born: dict[Key, list[Change]] = {}
    for step in everything:
        link = link_of(step.key)
        if link is not None and step.after is not None:
            born.setdefault(link, []).append(step)
    made = {s.key: s for s in everything if s.key.type == "link" and s.peer is not None}
    outers = {s.peer.key for s in made.values() if s.peer}
    told = {
        step.key
        for key in made
        for step in born.get(key, ())
        if isinstance(step.after, Address | Offload)
    } | outers
    reasons = {step.because for step in made.values()}
    told |= {s.key for s in everything if s.because in reasons and _is_way_back(s)}
    # By entry rather than by phase: people read what a link becomes, not when.
    order = {because: n for n, because in enumerate(dict.fromkeys(s.because for s in everything))}
    for step in sorted(everything, key=lambda s: (s.after is None, order[s.because])):
        if step.key in told:
            continue
        if step.key in made:
            extra = [s.after for s in born[step.key] if isinstance(s.after, Address)]
            yield step, _new_link(step, [a.ip for a in extra])
        elif step.action == "modify":
            changes = ", ".join(f"{_leaf(f.name, f.before, f.after)}" for f in step.fields)
            yield step, f"{_subject(step.key)} {_told_apart(step.key)}{changes}"
        else:
            yield step, f"{_subject(step.key)} {_summary(step.after or step.before)}".rstrip()


def drift(steps: Iterable[Change], link: Key) -> tuple[str, ...]:
    """Say how the parts of a link differ from what is declared.

    A value that differs is written as in a plan: what is, an arrow, what is declared.
    """
    found = list(steps)
    if any(step.key == link and step.before is None for step in found):
        return ("not there",)
    return tuple(_differs(step, link) for step in found)


def _differs(step: Change, link: Key) -> str:
    where = "" if step.key.dev in ("", link.dev) and step.key.ns == link.ns else f"{step.key.dev}: "
    if isinstance(step.after, NatTable):  # as a whole, and that of all links of its namespace
        return f"nat and forward in {step.key.ns} are others"
    if step.action == "modify":
        leaves = ", ".join(_leaf(f.name, f.before, f.after) for f in step.fields)
        return f"{where}{_told_apart(step.key)}{leaves}"
    words = {"create": "not there", "replace": "to be made anew", "delete": "to go"}
    if isinstance(step.after, Qdisc):  # as impairments are told of everywhere else in a picture
        return f"{where}netem {impairments(step.after.netem)} {words[step.action]}"
    return f"{where}{_summary(step.after or step.before) or step.key.type} {words[step.action]}"


def _is_way_back(step: Change) -> bool:
    """Tell whether a step is a detail of a forward, which its entry in the NAT table tells of."""
    match step.after:
        case Neighbour() | Rule():
            return True
        case Route():
            return step.after.via in GATEWAYS or step.key.ns.kind != "container"
    return False


def _leaf(name: str, before: object, after: object) -> str:
    return f"{name} {_value(before)} -> {_value(after)}"


def _value(value: object) -> str:
    if isinstance(value, Netem):
        return format_netem(value)
    if value is True or value is False:
        return "on" if value else "off"
    return "none" if value in (None, "") else str(value)


def _new_link(step: Change, addresses: list[str]) -> str:
    link, outer = step.after, step.peer
    if not isinstance(link, Link) or outer is None:
        return str(step.key)
    words = [f"{_subject(step.key)} {link.kind}", *addresses, f"mac {link.mac}", f"mtu {link.mtu}"]
    where = f" on {outer.master}" if outer.master else ""
    return f"{' '.join(words)} <-> {outer.key.dev}{where}"


def _subject(key: Key) -> str:
    dev = f"{key.ns}:{key.dev}" if key.dev else str(key.ns)
    return f"{dev:<18}"


def _told_apart(key: Key) -> str:
    """Name what changes where its fields do not say it: one of several things on an interface."""
    return "" if key.type in ("link", "offload") else f"{key.type} {key.detail}".rstrip() + " "


def _summary(resource: Resource | None) -> str:
    match resource:
        case Link(kind="bridge"):
            return "bridge"
        case Link():
            words = [resource.kind, *(f"{n} {_value(v)}" for n, v in resource.settings)]
            words += [f"mtu {resource.mtu}"] if resource.mtu and not resource.peer else []
            words += [f"on {resource.parent}"] if resource.parent else []
            words += [f"on {resource.master}"] if resource.master else []
            return " ".join(words)
        case Address():
            return f"address {resource.ip}"
        case Route():
            everywhere = resource.dst in ("0.0.0.0/0", "::/0")
            words = [f"route {'default' if everywhere else resource.dst}"]
            words += [resource.type] if resource.type != "unicast" else []
            words += [f"via {resource.via}"] if resource.via else []
            words += [f"metric {resource.metric}"] if resource.metric not in (0, 1024) else []
            words += [f"table {resource.table}"] if resource.table != 254 else []
            return " ".join(words)
        case Offload():
            return "offload " + " ".join(f"{n} {_value(v)}" for n, v in resource.features)
        case Setting():
            return resource.key.detail + "".join(f" {n} {v}" for n, v in resource.values)
        case EthtoolCall():
            return f"ethtool {shlex.join(resource.argv)}"
        case Qdisc(netem=Netem() as netem):
            return f"netem {format_netem(netem)}"
        case Redirect():
            return f"patch to {resource.target.dev if resource.target else 'nothing'}"
        case NatTable():
            return f"nat {'; '.join(resource.summary)}"
        case Neighbour():
            return f"neighbour {resource.key.detail} at {resource.mac}"
        case Rule():
            return f"rule {resource.key.detail}"
        case Sysctl():
            return f"{resource.key.detail} {resource.value}"
        case OvsBridge():
            return f"Open vSwitch bridge, {resource.datapath} datapath"
        case OvsPort():
            return f"port of Open vSwitch bridge {resource.bridge}"
        case Command():
            return f"run {shlex.join(resource.argv)}"
    return ""


def plan_json(plan: Plan) -> str:
    """Render a plan for programs; `version` changes when a field changes its meaning or goes."""
    document = {
        "version": JSON_VERSION,
        "digest": plan.digest,
        "changes": [change_data(step) for step in plan.steps],
        "obstacles": [
            {"key": str(o.key), "state": o.state, "message": o.message} for o in plan.obstacles
        ],
    }
    return json.dumps(document, indent=2) + "\n"


def change_data(step: Change) -> dict[str, Any]:
    """Return one change as plain data."""
    return {
        "action": step.action,
        "type": step.key.type,
        "namespace": str(step.key.ns),
        "key": str(step.key),
        "because": step.because,
        "before": resource_data(step.before),
        "after": resource_data(step.after),
        "fields": leaves(step),
        "removes": [str(link.key) for link in step.removes],
    }


def leaves(step: Change) -> dict[str, dict[str, Any]]:
    """Name what differs, leaf by leaf.

    DeepDiff names the leaves of what `!=` has found to differ; it is asked about nothing else.
    """
    if not step.fields:
        return {}
    from deepdiff import DeepDiff  # noqa: PLC0415 - 0.1 s that a plan without changes need not pay

    before = {f.name: plain(f.before) for f in step.fields}
    after = {f.name: plain(f.after) for f in step.fields}
    tree = DeepDiff(before, after, view="tree", ignore_type_in_groups=[])
    return {
        ".".join(str(part) for part in leaf.path(output_format="list")): {
            "before": None if leaf.t1.__class__.__name__ == "NotPresent" else leaf.t1,
            "after": None if leaf.t2.__class__.__name__ == "NotPresent" else leaf.t2,
        }
        for kind in tree.values()
        for leaf in kind
    }


def resource_data(resource: Resource | None) -> dict[str, Any] | None:
    """Return a resource as plain data, without what is neither declared nor told."""
    if resource is None:
        return None
    return {
        f.name: plain(value)
        for f in fields(resource)
        if f.name != "key" and f.compare and (value := getattr(resource, f.name)) not in (None, ())
    }


def plain(value: object) -> Any:
    """Return a value as JSON has it: keys by their text, tuples of pairs as mappings."""
    if isinstance(value, Key | NsKey):
        return str(value)
    if isinstance(value, Netem):
        return format_netem(value)
    if isinstance(value, tuple):
        pairs = all(isinstance(each, tuple) and len(each) == 2 for each in value)
        return dict(value) if pairs else [plain(each) for each in value]
    if is_dataclass(value):
        return str(value)
    return value


def status_text(
    links: Sequence[Mapping[str, Any]],
    note: str = "",
    *,
    commands: Sequence[Mapping[str, Any]] = (),
    colour: bool = False,
) -> str:
    """Render the `links` and `commands` of `status_data` as tables that line up."""
    if not links:
        lines = ["No declared link matches a running container."]
    else:
        rows = [["LINK", "STATE", "BRIDGE", "ADDRESSES", ""]]
        rows += [
            [
                link["key"],
                link["state"],
                link["bridge"] or "-",
                " ".join(link["addresses"]) or "-",
                link["message"],
            ]
            for link in links
        ]
        codes = [_STATE_COLOURS.get(link["state"], "31") for link in links]
        lines = _table(rows, codes, colour=colour)
        ready = sum(link["state"] == "Ready" for link in links)
        summary = "All links connected" if ready == len(links) else f"{ready} of {len(links)} ready"
        lines += ["", summary]
    if commands:
        rows = [["CONTAINER", "STATE", "CODE", "COMMAND"]]
        rows += [
            [
                each["container"],
                each["state"],
                "-" if each["code"] is None else str(each["code"]),
                shlex.join(each["command"]),
            ]
            for each in commands
        ]
        codes = [{None: "33", 0: "32"}.get(each["code"], "31") for each in commands]
        lines += ["", *_table(rows, codes, colour=colour)]
    return "\n".join(lines) + f"\n{note}"


def _table(rows: Sequence[Sequence[str]], codes: Sequence[str], *, colour: bool) -> list[str]:
    """Lay out rows, the first of which is the head; `codes` colour the second column."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in list(zip(*rows, strict=True))[:-1]]
    lines = []
    for row, code in zip(rows, ("1", *codes), strict=True):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        painted = 0 if row is rows[0] else 1
        padded[painted] = paint(padded[painted], code, colour=colour)
        lines.append("  ".join([*padded, row[-1]]).rstrip())
    return lines


def command_data(
    statuses: Iterable[CommandStatus], running: Container[Key] = ()
) -> list[dict[str, Any]]:
    """Return what became of commands as plain data."""
    return [
        {
            "container": str(status.command.key.ns),
            "command": list(status.command.argv),
            "state": "running"
            if status.state == "started" and status.command.key in running
            else status.state,
            "code": status.command.code,
        }
        for status in sorted(statuses, key=lambda status: status.command.key)
    ]


def unmatched_text(owners: Sequence[str]) -> list[str]:
    """Say whose containers do not run, if any: a name may be mistyped."""
    return [f"nothing runs that is {', '.join(map(printable, owners))}"] if owners else []


def status_data(statuses: Iterable[LinkStatus], **more: Any) -> dict[str, Any]:
    """Return status as plain data."""
    rows = sorted(statuses, key=lambda s: s.key)
    return {
        "version": JSON_VERSION,
        "connected": all_connected({s.key: s for s in rows}),
        **more,
        "links": [
            {
                "key": str(s.key),
                "container": s.key.ns.id,
                "state": s.state,
                "message": s.message,
                "bridge": s.bridge,
                "addresses": list(s.addresses),
                "because": s.because,
            }
            for s in rows
        ],
    }
