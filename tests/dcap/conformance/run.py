# SPDX-License-Identifier: Apache-2.0
"""Run the conformance suite against any verifier of DCAP quotes, and print who errs where.

    python tests/dcap/conformance/run.py [--keep DIR] [--only TEXT] [--all] -- COMMAND...

COMMAND is called as `COMMAND verify quote.bin collateral.json root_ca.der` and answers by its
exit code: 0 accepted, 1 refused, 2 unusable input (which also refuses evidence that can't be
read). {} in a word of COMMAND becomes the case's folder. The cases are of this moment, for
verifiers that ask the clock. With --keep they stay in a folder, one each, with an expected.json;
without a command they are only written. The exit code is 1 if a genuine case was refused, or
another accepted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # run as a script, it finds its siblings

from tests.dcap.conformance.cases import FORMAT, Case
from tests.dcap.conformance.suite import CASES
from tests.dcap.issuing import Evidence

__all__ = ["Outcome", "main", "outcomes", "write_case"]

_FILES = ("quote.bin", "collateral.json", "root_ca.der")
_DEADLINE = 60
_REFUSED, _UNUSABLE = 1, 2


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verifier made of a case."""

    case: Case
    exit_code: int
    said: str

    @property
    def right(self) -> bool:
        """Whether the verifier accepted what is genuine, or refused what is not."""
        if self.case.genuine:
            return self.exit_code == 0
        return self.exit_code == _REFUSED or (
            self.exit_code == _UNUSABLE and self.case.reason == FORMAT
        )

    @property
    def word(self) -> str:
        """What happened, in a word."""
        if self.right:
            return "ok"
        if self.exit_code == 0:
            return "ACCEPTED"
        return "refused" if self.exit_code == _REFUSED else f"exit {self.exit_code}"


def write_case(case: Case, folder: Path, now: datetime) -> None:
    """Write a case's files to a folder, and those of what comes before it to `before` in it."""
    folder.mkdir(parents=True, exist_ok=True)
    _write(case.evidence(now), folder)
    before = case.evidence_before(now)
    if before is not None:
        (folder / "before").mkdir(exist_ok=True)
        _write(before, folder / "before")
    expected = {
        "should_succeed": case.genuine,
        "expected_error": "" if case.genuine else case.reason,
        "description": case.about,
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


def outcomes(cases: list[Case], command: list[str], folder: Path) -> Iterator[Outcome]:
    """Yield what a command makes of each case; the cases' files are left in the folder."""
    for case in cases:
        place = folder / case.name
        write_case(case, place, datetime.now(UTC).replace(microsecond=0))
        words = [word.replace("{}", str(place)) for word in command]
        if case.before is not None:
            _verify(words, place / "before")
        code, said = _verify(words, place)
        yield Outcome(case, code, said)


def main(arguments: list[str]) -> int:
    """Run the suite as the arguments say; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--keep", type=Path, help="write the cases to this folder")
    parser.add_argument("--only", default="", help="only cases with this text in their name")
    parser.add_argument(
        "--all", action="store_true", help="cases too that only a verifier with a memory can refuse"
    )
    parser.add_argument("command", nargs="*")
    chosen = parser.parse_args(arguments)
    cases = [
        case for case in CASES if chosen.only in case.name and (chosen.all or case.before is None)
    ]
    with tempfile.TemporaryDirectory() as scratch:
        folder = chosen.keep or Path(scratch)
        if chosen.command:
            return _report(list(outcomes(cases, chosen.command, folder)))
        for case in cases:
            write_case(case, folder / case.name, datetime.now(UTC).replace(microsecond=0))
    print(f"{len(cases)} cases written")
    return 0


def _write(evidence: Evidence, folder: Path) -> None:
    """Write evidence as the files that a verifier is given."""
    collateral = json.dumps(evidence.collateral(), indent=1).encode()
    for name, data in zip(_FILES, (evidence.quote(), collateral, evidence.root), strict=True):
        (folder / name).write_bytes(data)


def _verify(command: list[str], folder: Path) -> tuple[int, str]:
    """Run a verifier; return its exit code and the last line of what it says."""
    files = [str(folder / name) for name in _FILES]
    done = subprocess.run(  # the command is what the user asks to test
        [*command, "verify", *files], capture_output=True, text=True, timeout=_DEADLINE, check=False
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""


def _report(results: list[Outcome]) -> int:
    """Print a table of all results and what is wrong; return the exit code."""
    width = max((len(result.case.name) for result in results), default=0)
    for result in results:
        said = result.said[:90]
        wanted = "accept" if result.case.genuine else f"refuse: {result.case.reason}"
        print(f"{result.case.name:<{width}}  {wanted:<34}  {result.word:<8}  {said}")
    wrong = [result for result in results if not result.right]
    accepted = sum(result.word == "ACCEPTED" for result in wrong)
    print(f"{len(results)} cases, {len(wrong)} wrong, of which {accepted} accepted and not genuine")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
