"""The words of the command line: every command and option, its help, and what is allowed."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from reconciler import __version__
from reconciler.parsers import Parser
from reconciler.programs import PROGRAMS

if TYPE_CHECKING:
    _Commands = argparse._SubParsersAction[Parser]  # noqa: SLF001 - it has no other name
    _Group = argparse._ArgumentGroup  # noqa: SLF001

_DESCRIPTION = """\
Keeps the network of containers exactly as declared. Runs until it is stopped."""

_EPILOG = """\
example:
  reconcile --compose-file compose.yaml --dry-run       what would change?
exit codes: 0 as declared; 1 an error; 2 something to do; 70 a fault of Relink"""

# Title of a group of options: what `--help` of the sidecar shows, the others are in --help-all.
_COMMANDS = "commands (reconcile COMMAND --help says more)"
_COMMON = "most used options (--help-all lists all)"
_LISTS = ("network_file", "compose_file", "runtime")
_DEFAULTS: dict[str, object] = {
    "network_file": [],
    "compose_file": [],
    "output": "text",
    "check": False,
    "docker_socket": "/var/run/docker.sock",
    "podman_socket": "/var/run/podman/podman.sock",
    "dataplane": "self",
    "on_exit": "clean",
    "default_mtu": 65535,
    "interval": 30.0,
}


def parser() -> Parser:
    """Return the parser of the whole command line, commands included."""
    whole = Parser(
        prog="reconcile",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        usage="reconcile [OPTIONS] [COMMAND]",
        brief=(_COMMANDS, _COMMON),
    )
    whole.add_argument("--version", action="version", version=f"relink {__version__}",
                       help="print the version, and exit")  # fmt: skip
    commands = whole.add_subparsers(
        title=_COMMANDS, dest="command", metavar="COMMAND", prog="reconcile"
    )
    common = whole.add_argument_group(_COMMON)
    _what(common, "")
    common.add_argument(
        "--dry-run", action="store_true", help="print what would change, and change nothing"
    )
    common.add_argument("--once", action="store_true", help="converge, verify, exit")
    what = whole.add_argument_group("what to read and print")
    _network_config(what, "", "the same as --network-file")
    _schema_of_ones_own(what)
    what.add_argument("--show-config", action="store_true", help="the same as show-config")
    _output(what)
    _where(whole.add_argument_group("where to look"), "")
    _how(whole.add_argument_group("how to make it so"))
    run = whole.add_argument_group("how to run")
    run.add_argument("--destroy", action="store_true", help="remove everything of this instance")
    run.add_argument(
        "--on-exit", choices=("clean", "keep"),
        help="remove all links on SIGTERM, or keep them (default: clean)",
    )  # fmt: skip
    run.add_argument(
        "--interval", type=_seconds, metavar="SECONDS",
        help="look at everything at least this often (default: 30)",
    )  # fmt: skip
    run.add_argument(
        "-v", "--verbose", action="store_true", default=bool(os.environ.get("VERBOSE")),
        help="log more (or set VERBOSE)",
    )  # fmt: skip
    for add in (_status, _metrics, _graph, _validate, _show_config, _schema, _completion, _man):
        add(commands)
    mode = os.environ.get("CONLINK_BRIDGE_MODE") or "auto"
    whole.set_defaults(**_DEFAULTS, default_bridge_mode=mode)
    return whole


def _command(
    commands: _Commands, name: str, does: str, *, description: str, epilog: str,
    words: str = "[OPTIONS]",
    brief: Sequence[str] | None = None,
) -> Parser:  # fmt: skip
    # Defaults are the whole parser's: one here would undo what was given before the command.
    return commands.add_parser(
        name, help=does, description=description, epilog=epilog, brief=brief,
        usage=f"reconcile {name} {words}",
        argument_default=argparse.SUPPRESS,
    )  # fmt: skip


def _status(commands: _Commands) -> None:
    show, more = "what to show", "what to read (--help-all lists more)"
    status = _command(
        commands, "status", "how each declared link is",
        description="Shows how each declared link is. A running sidecar answers; where none runs,\n"
        "give the files, and it looks itself.",
        epilog="example:\n  reconcile status --output json\n"
        "exit codes: 0 everything is as declared; 1 an error, or with --check it is not;\n"
        "            2 it is not",
        brief=(show, more),
    )  # fmt: skip
    group = status.add_argument_group(show)
    _output(group)
    group.add_argument(
        "--check",
        action="store_true",
        help="print nothing; the exit code tells (for health checks)",
    )
    files = status.add_argument_group(more)
    _what(files, _LATER)
    _network_config(files, _LATER, argparse.SUPPRESS)
    _schema_of_ones_own(status.add_argument_group("what to check against"))
    _where(status.add_argument_group("where to look"), _LATER)
    _how(status.add_argument_group("how it is made so"))


def _metrics(commands: _Commands) -> None:
    metrics = _command(
        commands, "metrics", "what the running sidecar has counted",
        description="Prints what the running sidecar has counted, as Prometheus reads it.",
        epilog="example:\n  reconcile metrics --instance lab\n"
        "exit codes: 0 printed; 1 no sidecar answers",
    )  # fmt: skip
    which = metrics.add_argument_group("which sidecar")
    _whose(which)


def _graph(commands: _Commands) -> None:
    show, more = "what to draw", "what to read (--help-all lists more)"
    graph = _command(
        commands, "graph", "draw what is declared; --live: how it is, too",
        description="Draws the network that is declared, and with --live how each link of it is.",
        epilog="example:\n  reconcile graph --compose-file compose.yaml --format svg > net.svg\n"
        "exit codes: 0 drawn; 1 an error; 2 --live: not everything is as declared",
        brief=(show, more),
    )  # fmt: skip
    group = graph.add_argument_group(show)
    group.add_argument(
        "--format", choices=_FORMATS, default="dot",
        help="dot or svg (of graphviz), mermaid, or json (default: dot)",
    )  # fmt: skip
    group.add_argument(
        "--live", action="store_true", default=False, help="look at the kernel, and show it"
    )
    files = graph.add_argument_group(more)
    _what(files, _LATER)
    _network_config(files, _LATER, argparse.SUPPRESS)
    _schema_of_ones_own(graph.add_argument_group("what to check against"))
    _where(graph.add_argument_group("where to look"), _LATER)
    _how(graph.add_argument_group("how it is made so"))


def _validate(commands: _Commands) -> None:
    validate = _command(
        commands, "validate", "check the configuration and touch nothing",
        description="Checks the configuration and touches nothing; needs no engine and no root.\n"
        "Every error is told at once, with file, line and column.",
        epilog="example:\n  reconcile validate --compose-file compose.yaml\n"
        "exit codes: 0 it is valid; 1 it is not",
    )  # fmt: skip
    _files(validate)


def _show_config(commands: _Commands) -> None:
    show = _command(
        commands, "show-config", "print the merged configuration as JSON",
        description="Prints the configuration as JSON: all files merged, variables replaced.",
        epilog="example:\n  reconcile show-config --compose-file a.yaml:b.yaml\n"
        "exit codes: 0 printed; 1 the configuration is wrong",
    )  # fmt: skip
    _files(show)


def _schema(commands: _Commands) -> None:
    schema = _command(
        commands, "schema", "print the JSON Schema, for editors",
        description="Prints the JSON Schema of network files, by which editors complete and\n"
        "check; docs/editors.md says how to set one up.",
        epilog="example:\n  reconcile schema > network.schema.json\nexit codes: 0",
    )  # fmt: skip
    schema.add_argument(
        "--compose",
        action="store_true",
        default=False,
        help="of compose files: of x-network, the rest is free",
    )


def _completion(commands: _Commands) -> None:
    completion = _command(
        commands, "completion", "print a script that completes words in a shell",
        words="SHELL [PROGRAM]",
        description="Prints a script that makes a shell complete commands, options and values.",
        epilog="example (bash; then for good: the same line in ~/.bashrc):\n"
        '  eval "$(reconcile completion bash)"\n'
        "exit codes: 0 printed; 1 an error",
    )  # fmt: skip
    completion.add_argument("shell", choices=("bash", "zsh", "fish"), metavar="SHELL",
                            help="bash, zsh or fish")  # fmt: skip
    _of_program(completion)


def _man(commands: _Commands) -> None:
    man = _command(
        commands, "man", "print the manual page",
        words="[PROGRAM]",
        description="Prints the manual page, in the language of man(7).",
        epilog="example:\n  reconcile man | man -l -\nexit codes: 0 printed; 1 an error",
    )  # fmt: skip
    _of_program(man)


def _of_program(command: Parser) -> None:
    programs = tuple(PROGRAMS)
    command.add_argument("program", nargs="?", default="reconcile", choices=programs,
                         metavar="PROGRAM",
                         help=f"{', '.join(programs)} (default: reconcile)")  # fmt: skip


_FILES = "what to read (each may be repeated, or a list with colons)"
_LATER = "later_"  # lists that stand after the command; `parse` puts them behind those before it


def _files(command: Parser) -> None:
    files = command.add_argument_group(_FILES)
    _what(files, _LATER)
    _network_config(files, _LATER, argparse.SUPPRESS)
    _schema_of_ones_own(files)


def _what(group: _Group, prefix: str) -> None:
    group.add_argument(
        "--compose-file", action="append", metavar="FILE", dest=f"{prefix}compose_file",
        help="compose file with x-network",
    )  # fmt: skip
    group.add_argument(
        "--network-file", action="append", metavar="FILE", dest=f"{prefix}network_file",
        help="network configuration, YAML or JSON",
    )  # fmt: skip


def _network_config(group: _Group, prefix: str, does: str) -> None:
    group.add_argument(
        "--network-config", action="append", metavar="FILE", dest=f"{prefix}network_file", help=does
    )


def _schema_of_ones_own(group: _Group) -> None:
    group.add_argument("--config-schema", metavar="FILE", help="check against this JSON Schema")


def _output(group: _Group) -> None:
    group.add_argument(
        "--output", choices=("text", "json"), help="of plans and status (default: text)"
    )


def _where(group: _Group, prefix: str) -> None:
    group.add_argument(
        "--runtime", action="append", choices=("docker", "podman", "netns"), metavar="NAME",
        dest=f"{prefix}runtime",
        help="docker, podman or netns (named network namespaces stand for containers); may be "
        "repeated (default: the engines whose sockets exist)",
    )  # fmt: skip
    group.add_argument(
        "--docker-socket", metavar="PATH", help=f"of Docker (default: {_DEFAULTS['docker_socket']})"
    )
    group.add_argument(
        "--podman-socket", metavar="PATH", help=f"of podman (default: {_DEFAULTS['podman_socket']})"
    )
    _whose(group)


def _whose(group: _Group) -> None:
    group.add_argument(
        "--compose-project", metavar="NAME",
        help="whose services are meant (default: that of the own container)",
    )  # fmt: skip
    group.add_argument(
        "--instance", metavar="NAME",
        help="whose links are ours (default: the compose project, else relink)",
    )  # fmt: skip


def _how(group: _Group) -> None:
    group.add_argument(
        "--dataplane", choices=("self", "pinned", "host"),
        help="namespace of switches and outer ends: the own one, a named one that outlives the "
        "sidecar, or the host's (default: self)",
    )  # fmt: skip
    group.add_argument(
        "--default-bridge-mode",
        choices=_MODES,
        help="of bridges that name none (default: auto, or CONLINK_BRIDGE_MODE)",
    )
    group.add_argument(
        "--default-mtu",
        type=_mtu,
        metavar="N",
        help="of links that name none, in bytes (default: 65535)",
    )
    group.add_argument(
        "--keep-veth-offload", action="store_true",
        help="leave tx checksum offload of veth links on",
    )  # fmt: skip


_FORMATS = ("dot", "mermaid", "svg", "json")
_MODES = ("auto", "linux", "ovs", "patch")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the words of a command line; options may stand before the command and after it."""
    whole = parser()
    options = whole.parse_args(arguments)
    for name in _LISTS:
        if later := getattr(options, _LATER + name, None):
            setattr(options, name, [*(getattr(options, name) or ()), *later])
    if options.default_bridge_mode not in _MODES:
        whole.error(f"CONLINK_BRIDGE_MODE must be one of {', '.join(_MODES)}")
    if sum((options.once, options.dry_run, options.destroy)) > 1 and not (
        options.dry_run and options.destroy
    ):
        whole.error("--once, --dry-run and --destroy are three ways to run; choose one")
    return options


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
