"""The command line: words in, an exit code out. Imports only what the chosen command needs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from reconciler import __version__

if TYPE_CHECKING:
    from reconciler.sources import Loaded, Sources

OK, FAILED, CHANGES = 0, 1, 2
COMMANDS = ("status", "metrics", "graph", "validate", "show-config", "schema")
FORMATS = ("dot", "mermaid", "svg", "json")

_DESCRIPTION = """\
Keeps the network of containers exactly as declared.

Reads a network configuration, finds the running containers that it names, and makes the kernel
match: interfaces, addresses, routes, switches. Without a command it does so once and then whenever
something changes, until it is stopped."""

_EXAMPLES = """\
commands:
  (none)        the sidecar: converge, then watch
  status        how each declared link is; asks the running sidecar, or looks itself
  metrics       what the running sidecar has counted, in Prometheus' text format
  graph         draw what is declared; --live: how it is, too
  validate      check the configuration and touch nothing
  show-config   print the merged configuration as JSON
  schema        print the JSON Schema of the configuration

examples:
  reconcile --compose-file compose.yaml                keep it so
  reconcile --compose-file compose.yaml --dry-run      what would change?
  reconcile --network-file net.yaml --runtime netns --once
  reconcile --network-file net.yaml --destroy          take it all away again
  reconcile graph --network-file net.yaml --format svg > net.svg

exit codes:
  0   as declared; nothing to do; an orderly stop
  1   an error: in the words on the command line, the configuration, or while making it so;
      or something declared cannot be
  2   --dry-run: there is something to do; status, graph --live: not everything is as declared"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"reconcile: {message}\nTry 'reconcile --help'.", file=sys.stderr)
        sys.exit(FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="reconcile",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        usage="reconcile [OPTIONS] [COMMAND]",
    )
    parser.add_argument("command", nargs="?", choices=COMMANDS, metavar="COMMAND", help="see below")
    parser.add_argument("--version", action="version", version=f"relink {__version__}")
    what = parser.add_argument_group("what to read (each may be repeated, or a list with colons)")
    what.add_argument(
        "--network-file", "--network-config", action="append", default=[], metavar="FILE",
        help="network configuration, YAML or JSON",
    )  # fmt: skip
    what.add_argument(
        "--compose-file", action="append", default=[], metavar="FILE",
        help="compose file with x-network",
    )  # fmt: skip
    what.add_argument("--config-schema", metavar="FILE", help="check against this JSON Schema")
    what.add_argument("--show-config", action="store_true", help="the same as show-config")
    do = parser.add_argument_group("what to do")
    do.add_argument("--once", action="store_true", help="converge, verify, exit")
    do.add_argument(
        "--dry-run", action="store_true", help="print what would change, and change nothing"
    )
    do.add_argument("--destroy", action="store_true", help="remove everything of this instance")
    do.add_argument("--output", choices=("text", "json"), default="text", help="(default: text)")
    do.add_argument(
        "--check", action="store_true", help="status: print nothing; the exit code tells"
    )
    do.add_argument(
        "--format", choices=FORMATS,
        help="graph: dot or svg (of graphviz), mermaid, or json (default: dot)",
    )  # fmt: skip
    do.add_argument("--live", action="store_true", help="graph: look at the kernel, and show it")
    where = parser.add_argument_group("where to look")
    where.add_argument(
        "--runtime", action="append", choices=("docker", "podman", "netns"), metavar="NAME",
        help="docker, podman or netns (named network namespaces stand for containers); may be "
        "repeated (default: the engines whose sockets exist)",
    )  # fmt: skip
    where.add_argument(
        "--docker-socket", default="/var/run/docker.sock", metavar="PATH",
        help="(default: %(default)s)",
    )  # fmt: skip
    where.add_argument(
        "--podman-socket", default="/var/run/podman/podman.sock", metavar="PATH",
        help="(default: %(default)s)",
    )  # fmt: skip
    where.add_argument(
        "--compose-project", metavar="NAME",
        help="whose services are meant (default: that of the own container)",
    )  # fmt: skip
    where.add_argument(
        "--instance", metavar="NAME",
        help="whose links are ours (default: the compose project, else relink)",
    )  # fmt: skip
    how = parser.add_argument_group("how to make it so")
    how.add_argument(
        "--dataplane", choices=("self", "pinned", "host"), default="self",
        help="namespace of switches and outer ends: the own one, a named one that outlives the "
        "sidecar, or the host's (default: self)",
    )  # fmt: skip
    how.add_argument(
        "--on-exit", choices=("clean", "keep"), default="clean",
        help="remove all links on SIGTERM, or keep them (default: clean)",
    )  # fmt: skip
    how.add_argument(
        "--default-bridge-mode", choices=("auto", "linux", "ovs", "patch"),
        default=os.environ.get("CONLINK_BRIDGE_MODE") or "auto",
        help="(default: auto, or CONLINK_BRIDGE_MODE)",
    )  # fmt: skip
    how.add_argument(
        "--default-mtu", type=_mtu, default=65535, metavar="N", help="bytes (default: 65535)"
    )
    how.add_argument(
        "--keep-veth-offload", action="store_true",
        help="leave tx checksum offload of veth links on",
    )  # fmt: skip
    how.add_argument(
        "--interval", type=_seconds, default=30.0, metavar="SECONDS",
        help="look at everything at least this often (default: 30)",
    )  # fmt: skip
    how.add_argument(
        "-v", "--verbose", action="store_true", default=bool(os.environ.get("VERBOSE")),
        help="log more (or set VERBOSE)",
    )  # fmt: skip
    return parser


def _mtu(text: str) -> int:
    if text.isascii() and text.isdigit() and 68 <= int(text[:6]) <= 65535:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 68 to 65535")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0.1 <= seconds <= 86400:
        return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0.1 to 86400")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.default_bridge_mode not in ("auto", "linux", "ovs", "patch"):
        parser.error("CONLINK_BRIDGE_MODE must be one of auto, linux, ovs, patch")
    if sum((options.once, options.dry_run, options.destroy)) > 1 and not (
        options.dry_run and options.destroy
    ):
        parser.error("--once, --dry-run and --destroy are three ways to run; choose one")
    if (options.format or options.live) and options.command != "graph":
        parser.error("--format and --live are for the command graph")
    options.format = options.format or "dot"
    try:
        return _run(parser, options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `reconcile … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if options.command in ("status", "metrics"):
        from reconciler import asking  # noqa: PLC0415 - each command imports what it needs

        ask = asking.status if options.command == "status" else asking.metrics
        try:
            answered = ask(options)
        except OSError as error:
            parser.error(f"no answer from a sidecar: {error}")
        if answered is not None:
            return answered
        if options.command == "metrics":
            parser.error("no sidecar answers here; start one, or name it by --instance")
        if not (options.network_file or options.compose_file):
            parser.error("no sidecar runs here; give --compose-file or --network-file to look")
    from reconciler import sources  # noqa: PLC0415 - --help and --version need none of it

    if options.command == "schema":
        from reconciler import shape  # noqa: PLC0415

        print(shape.schema_text(), end="")
        return OK
    found = sources.Sources(
        tuple(part for each in options.network_file for part in each.split(":") if part),
        tuple(part for each in options.compose_file for part in each.split(":") if part),
        os.environ,
        options.config_schema,
    )
    needless = options.command == "status" or options.destroy
    if not found.paths() and not needless:
        parser.error("give --network-file or --compose-file: nothing says what to connect")
    from model.problems import ConfigError  # noqa: PLC0415

    try:
        loaded = sources.load(found)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        count = len(error.problems)
        told = f"{count} error{'s' * (count != 1)}"
        if not (options.destroy and (options.instance or options.compose_project)):
            print(f"{told}; nothing was changed.", file=sys.stderr)
            return FAILED
        print(f"{told}; what is there is removed all the same.", file=sys.stderr)
        loaded = sources.NOTHING
    if options.show_config or options.command == "show-config":
        print(json.dumps(loaded.document.bare(), indent=2))
        return OK
    if options.command == "validate":
        counts = [
            f"{len(entries)} {name if len(entries) > 1 else name[:-1]}"
            for name in ("links", "bridges", "tunnels", "commands")
            if (entries := getattr(loaded.config, name))
        ]
        print(f"Valid: {', '.join(counts) or 'nothing is declared'}.")
        return OK
    if options.command == "graph" and not options.live:
        from model import graph  # noqa: PLC0415
        from reconciler import drawing  # noqa: PLC0415

        mode = options.default_bridge_mode
        return drawing.show(graph.declared(loaded.config, loaded.replicas, mode), options.format)
    return _live(options, loaded, found)


def _live(options: argparse.Namespace, loaded: Loaded, found: Sources) -> int:
    """Run what looks at the world."""
    from reconciler import commands  # noqa: PLC0415

    try:
        return commands.run(options, loaded, found)
    except commands.CommandError as error:
        print(f"reconcile: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
