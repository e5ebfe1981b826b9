"""The ledger: which feature of the language was proved in which environment, in this run.

A test says by `@pytest.mark.proves("link dummy")` what it proves when it passes; features.txt says
what there is to prove. A feature is proved when each test that says so has passed, in whichever
environment it can be run, on the files as they are now. Knows nothing of how tests run.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FEATURES = ROOT / "tests" / "features.txt"
DIRECTORY = ROOT / ".cache" / "ledger"
TABLE = ROOT / ".cache" / "ledger.txt"

Groups = Mapping[str, Sequence[str]]  # heading → features
Tests = Mapping[str, Mapping[str, bool]]  # feature → id of a test → whether it has passed
Proofs = Mapping[str, Tests]  # environment → its tests


def source(root: Path = ROOT) -> str:
    """Return the hash of all that is tested and that tests: each file, but prose and caches."""
    found = hashlib.sha256()
    for directory, inner, names in os.walk(root):
        inner[:] = sorted(d for d in inner if not d.startswith((".", "__")) and "egg-info" not in d)
        for path in (Path(directory, name) for name in sorted(names)):
            if path.suffix != ".md" and not path.name.startswith("."):
                found.update(f"{path.relative_to(root)} {path.stat().st_size} ".encode())
                found.update(path.read_bytes())
    return found.hexdigest()[:16]


def record(environment: str, tests: Tests, of: str, into: Path = DIRECTORY) -> None:
    """Add tests, those that could not be run there too, to what is recorded of an environment.

    What was recorded of another source than `of` is forgotten.
    """
    path = into / f"{environment}.json"
    before = recorded(of, into).get(environment, {})
    both = {
        name: {**before.get(name, {}), **tests.get(name, {})} for name in sorted({*before, *tests})
    }
    into.mkdir(parents=True, exist_ok=True)
    told = {"source": of, "at": time.strftime("%F %T %Z"), "tests": both}
    path.write_text(json.dumps(told, indent=1) + "\n")


def recorded(of: str, directory: Path = DIRECTORY) -> dict[str, Tests]:
    """Return what is recorded of each environment, for this source."""
    return {where: each["tests"] for where, each in _read(directory) if each["source"] == of}


def runs(of: str, directory: Path = DIRECTORY) -> list[str]:
    """Return, in words, when what is recorded was run, and what does not count."""
    return [
        f"{where}: {'run' if each['source'] == of else 'not counted, of other files,'} {each['at']}"
        for where, each in _read(directory)
    ]


def _read(directory: Path) -> list[tuple[str, Any]]:
    files = sorted(directory.glob("*.json"), key=lambda path: path.stem)
    blank = {"source": "", "at": "", "tests": {}}
    return [(path.stem, {**blank, **json.loads(path.read_text())}) for path in files]


def environments(name: str, proofs: Proofs) -> list[str]:
    """Return where tests of a feature have passed."""
    return [where for where, tests in proofs.items() if any(tests.get(name, {}).values())]


def missing(name: str, proofs: Proofs) -> list[str]:
    """Return the tests of a feature that have passed nowhere."""
    told = [one for tests in proofs.values() for one in tests.get(name, {}).items()]
    return sorted({test for test, _ in told} - {test for test, passed in told if passed})


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


def table(groups: Groups, proofs: Proofs) -> str:
    """Return the ledger for people: under each heading its features with their environments."""
    width = max((len(name) for names in groups.values() for name in names), default=0)
    lines = []
    for heading, names in groups.items():
        lines += ["", heading, *(_row(name, width, proofs) for name in names)]
    return "\n".join(lines[1:]) + "\n"


def _row(name: str, width: int, proofs: Proofs) -> str:
    return f"  {name:<{width}}  {'; '.join(environments(name, proofs)) or '-'}"


def faults(groups: Groups, proofs: Proofs) -> list[str]:
    """Return what is wrong: a feature that is not proved, a proof of what is no feature."""
    known = [name for names in groups.values() for name in names]
    tested = {name for tests in proofs.values() for name in tests}
    wrong = [f"{name}: no test was there to prove it" for name in known if name not in tested]
    wrong += [f"{name}: passed nowhere: {test}" for name in known for test in missing(name, proofs)]
    return wrong + [f"{name}: not in {FEATURES.name}" for name in sorted(tested - set(known))]


def main() -> int:
    """Print and write the ledger of this run; 1 if anything is wrong with it."""
    of = source()
    groups, proofs = parse(FEATURES.read_text()), recorded(of)
    text = table(groups, proofs) + "\n" + "".join(f"{line}\n" for line in runs(of))
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text(text)
    print(text)
    wrong = faults(groups, proofs)
    count = sum(map(len, groups.values()))
    print(*wrong, f"{count} features, {len(wrong)} faults", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
