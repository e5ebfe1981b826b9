"""The commands that look at the world: preview, converge once, destroy, status, the sidecar."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shlex
import socket
import sys
import time
from argparse import Namespace
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from typing import Any

from actuators import planes
from actuators.requests import Request, Verdict
from actuators.transport import Answer, send
from model.facts import Facts
from model.keys import HOST, SELF, Key, NsKey
from model.problems import printable
from model.replicas import Container
from model.resources import Command
from model.wanted import Desired
from observers.chosen import default_runtimes
from observers.engine import Engine
from observers.namespaces import path_of
from observers.own import own_compose, own_container_id
from observers.runtimes import EngineUnavailableError, Runtime, delays
from reconciler.apply import Hands
from reconciler.console import Log
from reconciler.containers import Roster
from reconciler.control import AlreadyRunningError, is_name
from reconciler.passes import Pass, reason_of
from reconciler.passes import run as run_pass
from reconciler.plan import Plan
from reconciler.render import (
    command_data,
    paint,
    plan_json,
    plan_text,
    status_data,
    status_text,
    unmatched_text,
)
from reconciler.retries import Ledger
from reconciler.runs import Runs
from reconciler.sources import Loaded, Sources, States
from reconciler.status import LinkStatus, all_connected, judge, judge_commands
from reconciler.switches import Switches, auto_mode
from reconciler.teardown import tear_down
from reconciler.ways import ways

OK, FAILED, CHANGES = 0, 1, 2
_PASSES = 10  # of --once, until it gives up on what keeps failing
_FOR_GOOD = (Verdict.REFUSED, Verdict.UNSUPPORTED)


class CommandError(Exception):
    """The command cannot do its work; the message says why and what to do."""


def run(options: Namespace, loaded: Loaded, sources: Sources) -> int:
    """Run the chosen command; return the exit code.

    Raises:
        CommandError: it cannot do its work.
    """
    _raise_limits()
    runtimes = default_runtimes(
        options.docker_socket, options.podman_socket, "/run/netns", options.runtime
    )
    if not runtimes and not options.destroy:
        raise CommandError(
            f"no container engine: neither {options.docker_socket} nor {options.podman_socket} "
            "exists; start one, or give --runtime"
        )
    try:
        facts = _facts(options, loaded, runtimes)
        roster = Roster(loaded.config, facts)
        if options.command or options.once or options.dry_run or options.destroy:
            _list(roster, runtimes, must=not options.destroy)
        if options.command == "status":
            return _show_status(options, roster)
        if options.command == "graph":
            return _draw(options, roster)
        if options.destroy:
            return _destroy(options, roster)
        if options.dry_run:
            return _preview(options, _looked(roster).plan)
        planes_needed = facts.plane.kind == "pinned"
        if planes_needed:
            planes.create(path_of(facts.plane))
        return (
            _once(options, roster, runtimes)
            if options.once
            else _watch(options, sources, loaded.states, roster, runtimes)
        )
    except OSError as error:
        raise CommandError(_explain(error)) from error
    finally:
        for runtime in runtimes:
            runtime.close()


def _looked(roster: Roster) -> Pass:
    """Look at everything, and change nothing."""
    switches = Switches(may_start=False)
    try:
        return run_pass(roster.world(), hands=Hands(switches=switches))
    finally:
        switches.close()


def _explain(error: OSError) -> str:
    if isinstance(error, PermissionError) and not error.filename:  # setns, netlink
        return (
            "not allowed to work with network namespaces: run as root, in a container with "
            "cap_add [SYS_ADMIN, NET_ADMIN], or under `unshare -Urnm`"
        )
    return f"{error.filename or 'the data plane'}: {reason_of(error)}"


def _raise_limits() -> None:
    """Take the descriptors that we may have: a pass over a thousand containers opens a thousand."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _facts(options: Namespace, loaded: Loaded, runtimes: Sequence[Runtime]) -> Facts:
    """Find out which project is meant, and with it whose links are ours."""
    project = (
        options.compose_project or os.environ.get("COMPOSE_PROJECT_NAME", "") or loaded.project
    )
    workdir = ""
    if not options.compose_project and own_container_id():
        once = options.command or options.once or options.dry_run or options.destroy
        own = _own_container(runtimes, wait=not once)
        if own and own.project:
            project, workdir = own.project, own.workdir
    instance = options.instance or project or "relink"
    if not is_name(instance):
        raise CommandError(f"--instance {instance!r}: at most 64 printable characters without '/'")
    plane = {"self": SELF, "host": HOST, "pinned": NsKey("pinned", "pinned", instance)}
    auto, datapath = auto_mode(plane[options.dataplane])
    return Facts(
        instance=instance,
        plane=plane[options.dataplane],
        project=project,
        auto=auto,
        datapath=datapath,
        underlay=ways(plane[options.dataplane], loaded.config),
        workdir=workdir,
        bridge_mode=options.default_bridge_mode,
        mtu=options.default_mtu,
        keep_veth_offload=options.keep_veth_offload,
    )


def _own_container(runtimes: Sequence[Runtime], *, wait: bool) -> Container | None:
    """Ask the engines for the container that this process runs in.

    Whose links are ours follows from it, so that an engine which does not answer yet is waited for
    rather than guessed about.
    """
    for delay in delays():
        silent: list[str] = []
        for runtime in runtimes:
            try:
                if own := own_compose(runtime):
                    return own
            except EngineUnavailableError as error:
                silent.append(str(error))
        if not silent:
            return None
        if not wait:
            raise CommandError(f"not known whose links are ours: {silent[0]}")
        print(f"reconcile: waiting: {silent[0]}", file=sys.stderr)
        time.sleep(delay)
    return None


def _list(roster: Roster, runtimes: Sequence[Runtime], *, must: bool) -> None:
    for runtime in runtimes:
        try:
            roster.replace(runtime.name, runtime.list())
        except EngineUnavailableError as error:
            if must:
                raise CommandError(str(error)) from error
            print(f"reconcile: {error}", file=sys.stderr)


def _colour(stream: object) -> bool:
    isatty = getattr(stream, "isatty", lambda: False)
    return bool(isatty()) and "NO_COLOR" not in os.environ


def _preview(options: Namespace, plan: Plan) -> int:
    if options.output == "json":
        print(plan_json(plan), end="")
    else:
        print(plan_text(plan, colour=_colour(sys.stdout)), end="")
    if plan.steps:
        return CHANGES
    return FAILED if plan.obstacles else OK


def _destroy(options: Namespace, roster: Roster) -> int:
    switches = Switches(may_start=False)
    try:
        done = tear_down(roster.world(), preview=options.dry_run, switches=switches, forget=True)
        if not options.dry_run:
            switches.stop_daemons(roster.facts)
    finally:
        switches.close()
    if options.dry_run:
        return _preview(options, done.plan)
    failures = done.outcome.failures if done.outcome else ()
    for failure in failures:
        print(f"reconcile: {failure.key} is still there: {failure.message}", file=sys.stderr)
    print(f"Removed {len(done.plan.steps) - len(failures)} of {len(done.plan.steps)}.")
    return FAILED if failures else OK


class _Progress:
    """Says how far a long piece of work is, on a terminal, once it has taken a second."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.shown = False
        self.tty = sys.stderr.isatty()

    def send(
        self, requests: Sequence[Request], sockets: Mapping[NsKey, socket.socket]
    ) -> list[Answer]:
        """Send requests in pieces, telling how many are done."""
        if not self.tty:
            return send(requests, sockets)
        answers: list[Answer] = []
        for at in range(0, len(requests), 200):
            answers += send(requests[at : at + 200], sockets)
            if time.monotonic() - self.started > 1:
                self.shown = True
                line = f"\r{len(answers)} of {len(requests)} operations"
                print(line, end="\x1b[K", file=sys.stderr, flush=True)
        return answers

    def end(self) -> None:
        if self.shown:
            print("\r", end="\x1b[K", file=sys.stderr, flush=True)


def _once(options: Namespace, roster: Roster, runtimes: Sequence[Runtime]) -> int:
    """Converge and verify: passes until one finds nothing to do, or nothing more succeeds."""
    ledger, progress, switches = Ledger(), _Progress(), Switches()
    executed: list[Plan] = []
    failed: list[str] = []

    def told(command: Command, line: str) -> None:
        # One write: print() writes a line and its end apart, and another thread's comes between.
        sys.stderr.write(f"{printable(f'{command.key.ns}: {line}')}\n")

    def ended(command: Command, code: int) -> None:
        if code:
            failed.append(f"{command.key.ns}: {shlex.join(command.argv)}: exit code {code}")

    runs = Runs({r.name: r.path for r in runtimes if isinstance(r, Engine)}, told, ended)

    def decide(plan: Plan, desired: Desired) -> Plan:
        return ledger.allow(plan, desired.resources, time.monotonic())

    hands = Hands(send=progress.send, switches=switches, start=runs.starter(roster.containers))
    for _ in range(_PASSES):
        runs.wait()
        done = run_pass(replace(roster.world(), ended=runs.ended), decide=decide, hands=hands)
        if done.outcome is None or not done.plan.steps:
            break
        steps = done.outcome.done
        executed.append(replace(done.plan, steps=steps, obstacles=()))
        ledger.note(done.plan, done.outcome, lambda _key: True, time.monotonic())
        failed_for_good = [f.verdict in _FOR_GOOD for f in done.outcome.failures if not f.needed]
        if not steps and failed_for_good and all(failed_for_good):
            break
        due = ledger.next_due()
        if due is not None:
            time.sleep(max(0.0, min(due - time.monotonic(), 1.0)))
        elif not steps:
            break
    progress.end()
    switches.close()
    # What was held back because another change failed is part of that failure.
    failing = (ledger.entries.get(step.key) for step in done.plan.steps)
    tried = sum(1 for entry in failing if entry and entry.failures)
    code = _report_once(options, judge(done, ledger), executed, done, tried)
    for words in unmatched_text(roster.unmatched()):
        print(words, file=sys.stderr)
    for words in failed:
        print(printable(words), file=sys.stderr)
    return FAILED if failed else code


def _report_once(
    options: Namespace,
    statuses: Mapping[Key, LinkStatus],
    executed: Sequence[Plan],
    last: Pass,
    failed: int,
) -> int:
    steps = tuple(step for plan in executed for step in plan.steps)
    whole = Plan(steps, last.plan.obstacles)
    bad = [s for s in statuses.values() if s.state != "Ready"]
    if options.output == "json":
        print(plan_json(whole), end="")
    else:
        if whole.steps or whole.obstacles or failed or not bad:
            text = plan_text(whole, done=True, failed=failed, colour=_colour(sys.stdout))
            print(text, end="")
        for status in bad:
            words = printable(f"{status.key}: {status.state}: {status.message}")
            print(words, file=sys.stderr)
        if all_connected(statuses):
            print("All links connected")
    return FAILED if bad or last.plan.obstacles else OK


def _show_status(options: Namespace, roster: Roster) -> int:
    done = _looked(roster)
    statuses = list(judge(done).values())
    commands = command_data(judge_commands(done).values())
    data = status_data(statuses, commands=commands, unmatched=roster.unmatched())
    if options.output == "json":
        print(json.dumps(data, indent=2))
    else:
        colour = _colour(sys.stdout)
        notes = [
            *unmatched_text(data["unmatched"]),
            paint("(no sidecar runs here; looked just now)", "2", colour=colour),
        ]
        note = "".join(f"{line}\n" for line in notes)
        text = status_text(data["links"], note, commands=data["commands"], colour=colour)
        print(text, end="")
    return OK if all(s.state == "Ready" for s in statuses) else CHANGES


def _draw(options: Namespace, roster: Roster) -> int:
    from model.graph import live  # noqa: PLC0415 - the sidecar draws nothing
    from reconciler.asking import states  # noqa: PLC0415
    from reconciler.drawing import show  # noqa: PLC0415
    from reconciler.sights import sights  # noqa: PLC0415

    seen = sights(_looked(roster), states(options))
    graph = live(roster.config, roster.containers.values(), roster.facts, seen)
    if failed := show(graph, options.format):
        return failed
    return OK if all(s.state == "Ready" for s in seen.values()) else CHANGES


def _watch(
    options: Namespace,
    sources: Sources,
    states: States,
    roster: Roster,
    runtimes: Sequence[Runtime],
) -> int:
    from reconciler.loop import Settings, Sidecar  # noqa: PLC0415 - the others need no loop

    _log_to_stderr(verbose=options.verbose)
    settings = Settings(sources, states, options.interval, options.on_exit == "keep")
    try:
        return asyncio.run(Sidecar(settings, roster, runtimes).run())
    except AlreadyRunningError as error:
        raise CommandError(str(error)) from error


def _printable_values(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Make a text of other people's, as what a command prints, one that moves no cursor."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value)
    return event


def _count_lost(
    logger: Log, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Tell with the first line that is read again how many before it were not."""
    return {**event, "lines_lost": logger.lost} if logger.lost else event


def _log_to_stderr(*, verbose: bool) -> None:
    """Log for people on a terminal, as one JSON object a line elsewhere."""
    import logging  # noqa: PLC0415

    import structlog  # noqa: PLC0415

    terminal = sys.stderr.isatty()
    renderer = (
        structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)
        if terminal
        else structlog.processors.JSONRenderer()
    )
    log = Log(sys.stderr)
    structlog.configure(
        processors=[
            _count_lost,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=not terminal),
            *([_printable_values] if terminal else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if verbose else logging.INFO
        ),
        logger_factory=lambda *_: log,
    )
