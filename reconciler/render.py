"""Plans and status for people and for programs: text and JSON, nothing decided here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from model.keys import Key, NsKey
from model.resources import Address, Link, Offload, Resource, Route, link_of
from reconciler.diff import Change
from reconciler.plan import Plan
from reconciler.status import LinkStatus, all_connected

JSON_VERSION = 1
_SYMBOLS = {"create": "+", "modify": "~", "replace": "-/+", "delete": "-"}
_COLOURS = {"+": "32", "~": "33", "-/+": "35", "-": "31", "!": "31;1"}
_STATE_COLOURS = {"Ready": "32", "Pending": "33", "Backoff": "33", "Blocked": "33"}


def paint(text: str, code: str, *, colour: bool) -> str:
    """Return `text` in an ANSI colour, or as it is."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text


def plan_text(plan: Plan, *, done: bool = False, colour: bool = False) -> str:
    """Render a plan for people: grouped by the entry that wants it, one line for a link.

    `done` tells of what was carried out instead of what would be.
    """
    lines: list[str] = []
    counts = {"create": 0, "modify": 0, "replace": 0, "delete": 0}
    heading = ""
    for step, described in _folded(plan.steps):
        counts[step.action] += 1
        group = step.because if step.after is not None else ""
        if group != heading:
            heading = group
            lines.append(paint(f"# {group}", "2", colour=colour) if group else "")
        symbol = _SYMBOLS[step.action]
        mark = paint(f"{symbol:>3}", _COLOURS[symbol], colour=colour)
        reason = f"  {step.because}" if step.after is None else ""
        lines.append(f"{mark} {described}{reason}".rstrip())
    if plan.obstacles and lines:
        lines.append("")
    for obstacle in plan.obstacles:
        mark = paint("  !", _COLOURS["!"], colour=colour)
        lines.append(f"{mark} {obstacle.key!s:<20} {obstacle.state}: {obstacle.message}")
    if not plan.steps and not plan.obstacles:
        return "Nothing to do: everything is as declared.\n"
    words = {"create": "create", "modify": "change", "replace": "replace", "delete": "delete"}
    parts = [
        f"{counts[action]} {f'{word}d' if done else f'to {word}'}" for action, word in words.items()
    ]
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
            yield step, f"{_subject(step.key)} {changes}"
        else:
            yield step, f"{_subject(step.key)} {_summary(step.after or step.before)}".rstrip()


def _leaf(name: str, before: object, after: object) -> str:
    return f"{name} {_value(before)} -> {_value(after)}"


def _value(value: object) -> str:
    if value is True or value is False:
        return "on" if value else "off"
    return "none" if value in (None, "") else str(value)


def _new_link(step: Change, addresses: list[str]) -> str:
    link, outer = step.after, step.peer
    if not isinstance(link, Link) or outer is None:
        return str(step.key)
    words = [f"{_subject(step.key)} {link.kind}", *addresses, f"mac {link.mac}", f"mtu {link.mtu}"]
    return f"{' '.join(words)} <-> {outer.key.dev} on {outer.master}"


def _subject(key: Key) -> str:
    dev = f"{key.ns}:{key.dev}" if key.dev else str(key.ns)
    return f"{dev:<18}"


def _summary(resource: Resource | None) -> str:
    match resource:
        case Link(kind="bridge"):
            return "bridge"
        case Link():
            return resource.kind + (f" on {resource.master}" if resource.master else "")
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
        if f.name != "key" and f.compare and (value := getattr(resource, f.name)) is not None
    }


def plain(value: object) -> Any:
    """Return a value as JSON has it: keys by their text, tuples of pairs as mappings."""
    if isinstance(value, Key | NsKey):
        return str(value)
    if isinstance(value, tuple):
        return dict(value)
    if is_dataclass(value):
        return str(value)
    return value


def status_text(links: Sequence[Mapping[str, Any]], note: str = "", *, colour: bool = False) -> str:
    """Render the `links` of `status_data` as a table that lines up."""
    if not links:
        return f"No declared link matches a running container.\n{note}"
    cells = [("LINK", "STATE", "BRIDGE", "ADDRESSES", "")]
    cells += [
        (
            link["key"],
            link["state"],
            link["bridge"] or "-",
            " ".join(link["addresses"]) or "-",
            link["message"],
        )
        for link in links
    ]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    lines = []
    for number, row in enumerate(cells):
        padded = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
        code = "1" if number == 0 else _STATE_COLOURS.get(row[1], "31")
        padded[1 if number else 0] = paint(padded[1 if number else 0], code, colour=colour)
        lines.append("  ".join([*padded, row[4]]).rstrip())
    ready = sum(link["state"] == "Ready" for link in links)
    summary = "All links connected" if ready == len(links) else f"{ready} of {len(links)} ready"
    return "\n".join([*lines, "", summary]) + f"\n{note}"


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
