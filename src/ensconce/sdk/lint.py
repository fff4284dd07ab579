# SPDX-License-Identifier: Apache-2.0
"""Say what is wrong with an enclave's image, signed or not, of whichever toolchain.

What a person has judged can be allowed by name: a check for the whole image, or a check in one
function. Functions with allowed `lvi` do not count for the image's mitigation level.
"""

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ensconce.errors import ConfigError
from ensconce.image.elf import Elf
from ensconce.sdk.fences import Fences, reaches
from ensconce.sdk.functions import Functions, Place
from ensconce.sdk.lint_checks import code_findings, file_findings, is_signed
from ensconce.sdk.lint_finding import Check, Finding, Severity
from ensconce.sdk.toolchain import Mitigation

__all__ = ["Allow", "Check", "Finding", "Report", "Severity", "lint", "read_allow_file"]

_MAX_ALLOW_FILE = 1 << 20


@dataclass(frozen=True, slots=True)
class Allow:
    """A check that may fail: anywhere, or in the function (or at the address) `symbol`."""

    check: Check
    symbol: str = ""

    @classmethod
    def parse(cls, text: str) -> "Allow":
        """Return what CHECK or CHECK@SYMBOL allows; raises ConfigError for an unknown check."""
        name, _, symbol = text.partition("@")
        if name not in set(Check):
            raise ConfigError(f"There is no check {name!r} to allow; there are {', '.join(Check)}")
        return cls(Check(name), symbol)

    def covers(self, finding: Finding) -> bool:
        """Say whether this allows a finding."""
        places = ("", finding.symbol, f"{finding.address:#x}")
        return self.check is finding.check and self.symbol in places

    def __str__(self) -> str:
        return f"{self.check}@{self.symbol}" if self.symbol else str(self.check)


def read_allow_file(path: Path) -> list[Allow]:
    """Return the entries of a TOML file whose one key, `allow`, is a list of CHECK@SYMBOL."""
    with path.open("rb") as file:
        content = file.read(_MAX_ALLOW_FILE)
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    if unknown := sorted(table.keys() - {"allow"}):
        raise ConfigError(f"{path} has the unknown key {unknown[0]!r}; the only one is 'allow'")
    entries = table.get("allow", [])
    if not isinstance(entries, list) or not all(isinstance(each, str) for each in entries):
        raise ConfigError(f"{path} has an 'allow' that is no list of texts like 'lvi@memcpy'")
    return [Allow.parse(each) for each in entries]


@dataclass(frozen=True, slots=True)
class Report:
    """What a lint found, worst first; what was allowed; the mitigation and what it is judged by."""

    signed: bool
    findings: tuple[Finding, ...]
    allowed: tuple[Finding, ...]
    fences: Fences

    def count(self, severity: Severity) -> int:
        """Return how many findings are of a severity."""
        return sum(finding.severity is severity for finding in self.findings)


def lint(
    content: bytes,
    source: str,
    *,
    allow: Iterable[Allow] = (),
    mitigation: Mitigation = Mitigation.NONE,
) -> Report:
    """Return all that is wrong with an image; a mitigation level below `mitigation` is an error.

    Raises FormatError for what is no x86-64 shared object or holds damaged metadata.
    """
    elf = Elf(memoryview(content), source)
    functions, allows = Functions(elf), list(allow)
    skipped: set[str] = set()
    excused = {each.symbol for each in allows if each.check is Check.LVI and each.symbol}

    def skip(name: str) -> bool:
        skipped.update({name} & excused)
        return name in excused

    fences = Fences(functions.name, skip)

    def places() -> Iterator[Place]:
        for place in functions.places():
            fences.take(place)
            yield place

    found = [
        *file_findings(elf, source),
        *code_findings(elf, functions, places()),
        _mitigation(fences, mitigation),
    ]
    allowed = [each for each in found if any(entry.covers(each) for entry in allows)]
    unused = [
        each
        for each in allows
        if not any(map(each.covers, found))
        and not (each.check is Check.LVI and each.symbol in skipped)
    ]
    kept = [each for each in found if each not in allowed]
    kept += [
        Finding(Check.UNUSED_ALLOW, Severity.WARNING, f"nothing needs the allowance {each}")
        for each in unused
    ]
    kept.sort(key=lambda each: (-each.severity, each.check, each.address))
    return Report(is_signed(elf, source), tuple(kept), tuple(allowed), fences)


def _mitigation(fences: Fences, wanted: Mitigation) -> Finding:
    """Return the finding about load value injection, which is no fault where it is mitigated."""
    level, lacks = fences.level, fences.describe()
    severity = Severity.INFO if level is not Mitigation.NONE else Severity.WARNING
    what = f"the mitigation against load value injection (CVE-2020-0551) is {level.value}"
    if fences.incomplete:
        what += ", for it is incomplete"
    if not reaches(level, wanted):
        severity = Severity.ERROR
        what += f" and should be {wanted.value}"
    return Finding(Check.LVI, severity, f"{what}: {lacks}" if lacks else what)
