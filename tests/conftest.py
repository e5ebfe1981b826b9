"""Settings of every test; what it needs of the kernel, proves (tests/ledger.py) and measures."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import ledger
from tests.lab import features, revision

# No deadline for a single example, since test machines are shared. Where every change is judged, by
# the same examples each time; elsewhere by new ones, which is how new faults are found.
settings.register_profile("relink", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("relink")

_LEFT_OUT = pytest.StashKey[dict[str, list[str]]]()  # test → what is amiss with this kernel
_MEASURED = pytest.StashKey[list[str]]()  # what tests measured, in words
_SOURCE = pytest.StashKey[str]()  # what is tested
_PROOFS = pytest.StashKey[dict[str, dict[str, dict[str, bool]]]]()  # as ledger.Proofs


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--measured", metavar="FILE", type=Path, help="add what was measured to it")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LEFT_OUT] = {}
    config.stash[_MEASURED] = []
    config.stash[_PROOFS] = defaultdict(lambda: defaultdict(dict))
    config.stash[_SOURCE] = ledger.source()


@pytest.hookimpl(trylast=True)  # when `-m` has chosen already
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out tests of another kernel than this; what they need has to be there on a guest's."""
    left_out = config.stash[_LEFT_OUT]
    for item in items:
        _tell_ledger(item, passed=False)  # until it has, here or on the kernel that it is for
        needs = [] if features.guest() else _words(item, "needs")
        try:
            amiss = [f"needs {name}" for name in needs if not features.has(name)]
            amiss += [f"lacks {name}" for name in _words(item, "lacks") if features.has(name)]
        except (ValueError, FileNotFoundError) as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None
        if item.get_closest_marker("qemu") and features.guest() != "qemu":
            amiss.append("qemu")
        if amiss:
            left_out[item.nodeid] = amiss
    if left_out:
        config.hook.pytest_deselected(items=[i for i in items if i.nodeid in left_out])
        items[:] = [i for i in items if i.nodeid not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and "CI" in os.environ:  # where every case is run
        assert isinstance(report.longrepr, tuple)
        report.outcome, report.longrepr = "failed", report.longrepr[-1]
    if call.when == "call" and report.outcome == "passed":
        _tell_ledger(item, passed=True)
    if call.when == "call":
        words = [str(said) for name, said in report.user_properties if name == "measured"]
        item.config.stash[_MEASURED] += [f"{item.name}: {said}" for said in words]
    return report


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say what was measured; it is printed at the end of the run."""
    return lambda words: record_property("measured", words)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.option.collectonly:
        return
    for where, tests in session.config.stash[_PROOFS].items():
        ledger.record(where, tests, session.config.stash[_SOURCE])


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash[_MEASURED]:
        terminalreporter.write_line(line)
    if file := config.option.measured:
        with file.open("a") as out:
            out.writelines(f"{line}\n" for line in (revision.line(), *config.stash[_MEASURED]))
    if left_out := config.stash[_LEFT_OUT]:
        names = ", ".join(sorted({each for amiss in left_out.values() for each in amiss}))
        terminalreporter.write_line(
            f"{len(left_out)} tests are for another kernel ({names}): "
            "run on a guest's by `scripts/test uml qemu`"
        )


def _tell_ledger(item: pytest.Item, *, passed: bool) -> None:
    engine = next((e for e in ("docker", "podman") if item.get_closest_marker(e)), "")
    where = f"{features.kernel()}, {engine}" if engine else features.kernel()
    for name in _words(item, "proves"):
        item.config.stash[_PROOFS][where][name][item.nodeid] = passed


def _words(item: pytest.Item, marker: str) -> list[str]:
    return [str(word) for mark in item.iter_markers(marker) for word in mark.args]
