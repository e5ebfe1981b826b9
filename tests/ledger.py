"""The ledger: which feature of the language was proved in which environment, in this run.

A test says by `@pytest.mark.proves("link dummy")` what it proves when it passes; features.txt says
what there is to prove. Knows nothing of how tests run.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FEATURES = ROOT / "tests" / "features.txt"
DIRECTORY = ROOT / ".cache" / "ledger"
TABLE = ROOT / ".cache" / "ledger.txt"

Groups = Mapping[str, Sequence[str]]  # heading → features
Proved = Mapping[str, Iterable[str]]  # feature → environments


def record(environment: str, tests: Mapping[str, Iterable[str]], into: Path = DIRECTORY) -> None:
    """Add what tests proved (feature → their ids) in an environment to what is recorded of it."""
    path = into / f"{environment}.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    names = sorted({*before, *tests})
    both = {name: sorted({*before.get(name, ()), *tests.get(name, ())}) for name in names}
    into.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(both, indent=1) + "\n")


def recorded(directory: Path = DIRECTORY) -> dict[str, list[str]]:
    """Return what was proved: feature → environments, sorted."""
    proved: dict[str, list[str]] = {}
    for path in sorted(directory.glob("*.json"), key=lambda path: path.stem):
        for name in json.loads(path.read_text()):
            proved.setdefault(name, []).append(path.stem)
    return proved


def parse(text: str) -> dict[str, list[str]]:
    """Return the groups of a list of features: `# heading`, then one feature a line.

    Raises:
        ValueError: a feature before any heading, or twice.
    """
    groups: dict[str, list[str]] = {}
    names: list[str] = []
    seen: set[str] = set()
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            names = groups.setdefault(line.removeprefix("#").strip(), [])
        elif line in seen or not groups:
            raise ValueError(f"{line}: {'twice' if line in seen else 'has no heading'}")
        else:
            seen.add(line)
            names.append(line)
    return groups


def table(groups: Groups, proved: Proved) -> str:
    """Return the ledger for people: under each heading its features with their environments."""
    width = max((len(name) for names in groups.values() for name in names), default=0)
    lines = []
    for heading, names in groups.items():
        lines += ["", heading, *(_row(name, width, proved) for name in names)]
    return "\n".join(lines[1:]) + "\n"


def _row(name: str, width: int, proved: Proved) -> str:
    return f"  {name:<{width}}  {'; '.join(proved.get(name, ())) or '-'}"


def faults(groups: Groups, proved: Proved) -> list[str]:
    """Return what is wrong: a feature proved nowhere, a proof of what is no feature."""
    known = [name for names in groups.values() for name in names]
    nowhere = [f"{name}: proved nowhere" for name in known if name not in proved]
    unknown = [
        f"{name}: proved, but not in {FEATURES.name}" for name in proved if name not in known
    ]
    return nowhere + sorted(unknown)


def main() -> int:
    """Print and write the ledger of this run; 1 if anything is wrong with it."""
    groups, proved = parse(FEATURES.read_text()), recorded()
    text = table(groups, proved)
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(text)
    print(text)
    wrong = faults(groups, proved)
    count = sum(map(len, groups.values()))
    print(*wrong, f"{count} features, {len(wrong)} faults", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
