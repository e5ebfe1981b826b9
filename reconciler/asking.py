"""What a running sidecar answers: `reconcile status` where one runs, and `reconcile metrics`."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from model.problems import printable
from reconciler.control import ask, fetch, instances, is_name

OK, FAILED, CHANGES = 0, 1, 2


def status(options: Namespace) -> int | None:
    """Let the running sidecar answer; return the exit code, None if there is none.

    Raises:
        OSError: there is one, and it does not answer.
    """
    answer = ask(_instance(options))
    if answer is None:
        return FAILED if options.check else None
    if options.check:
        # Where nothing declared runs, everything is as declared; so this is not "connected".
        healthy = all(link["state"] == "Ready" for link in answer["links"])
        known = answer["in_sync"] and not answer["data_plane_error"]
        return OK if healthy and known else FAILED
    if options.output == "json":
        print(json.dumps(answer, indent=2))
    else:
        _print(answer)
    return OK if answer["connected"] else CHANGES


def metrics(options: Namespace) -> int | None:
    """Print the metrics of the running sidecar; return the exit code, None if there is none.

    Raises:
        OSError: there is one, and it does not answer.
    """
    answer = fetch(_instance(options), "/metrics")
    if answer is None:
        return None
    print(answer.decode(), end="")
    return OK


def states(options: Namespace) -> dict[str, tuple[str, str]]:
    """Return state and message of each link by its key, as a running sidecar knows them.

    Empty where none runs, or it does not answer: the kernel can be looked at all the same.
    """
    try:
        answer = ask(_instance(options))
    except OSError:
        return {}
    return (
        {link["key"]: (link["state"], link["message"]) for link in answer["links"]}
        if answer
        else {}
    )


def _instance(options: Namespace) -> str:
    """Return whose sidecar is meant; where none is named and one runs here, it is that one.

    Raises:
        OSError: no sidecar can be called so.
    """
    named = (
        options.instance or options.compose_project or os.environ.get("COMPOSE_PROJECT_NAME", "")
    )
    if named and not is_name(named):
        raise OSError(f"--instance {named!r}: at most 64 printable characters without '/'")
    if named or options.network_file or options.compose_file:
        return named or "relink"
    running = instances()
    return running[0] if len(running) == 1 else "relink"


def _print(answer: Mapping[str, Any]) -> None:
    from reconciler.render import status_text, unmatched_text  # noqa: PLC0415 - a health check prints nothing

    engines = {name: state for name, state in answer["engines"].items() if state != "connected"}
    notes = [f"engine {name}: {state}" for name, state in engines.items()]
    notes += unmatched_text(answer["unmatched"])
    if answer["configuration_errors"]:
        notes.append("the configuration was changed and refused; the old one is in force:")
        notes += answer["configuration_errors"]
    if answer["data_plane_error"]:
        notes.append(answer["data_plane_error"])
    notes += [
        f"Relink failed {each['in_a_row']} times in a row: {each['scope']}: {each['reason']}"
        for each in answer["crashes"]
    ]
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    note = "".join(f"{printable(line)}\n" for line in notes)
    text = status_text(answer["links"], note, commands=answer["commands"], colour=colour)
    print(text, end="")
