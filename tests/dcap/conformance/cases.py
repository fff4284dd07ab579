# SPDX-License-Identifier: Apache-2.0
"""What a conformance case is: evidence, changed in one way, and what a verifier must say of it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from tests.dcap.issuing import Evidence

__all__ = ["FORMAT", "GENUINE", "Case", "Suite"]

GENUINE = "genuine"
FORMAT = "format"
"""The reason of what can't be read at all."""

Edit = Callable[[Evidence], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One case; `about` says what is tried, `reason` is the stable code that ensconce gives.

    The code is that of the verdict, of the policy's key that says no, or `FORMAT`.
    `before` changes evidence that a verifier with a memory has seen first: one without can't
    refuse such a case. `status` is the TCB status of genuine evidence.
    """

    name: str
    about: str
    reason: str
    edit: Edit
    tdx: bool = False
    before: Edit | None = None
    status: str = "UpToDate"

    @property
    def genuine(self) -> bool:
        """Whether the quote must be accepted."""
        return self.reason == GENUINE

    def evidence(self, now: datetime) -> Evidence:
        """Return the evidence, to be verified at a time."""
        made = self._plain(now)
        self.edit(made)
        return made

    def evidence_before(self, now: datetime) -> Evidence | None:
        """Return what the verifier has seen first, if that matters."""
        if self.before is None:
            return None
        made = self._plain(now)
        self.before(made)
        return made

    def _plain(self, now: datetime) -> Evidence:
        """Return the evidence before it is changed."""
        return Evidence.tdx(now) if self.tdx else Evidence.sgx(now)


class Suite(list[Case]):
    """Cases in order; its methods make one of a function that changes evidence, for its name."""

    def case(
        self,
        reason: str,
        *,
        tdx: bool = False,
        before: Edit | None = None,
        status: str = "UpToDate",
    ) -> Callable[[Edit], Edit]:
        """Return a decorator: the function's name is the case's, its docstring what is tried."""

        def add(edit: Edit) -> Edit:
            name: str = edit.__name__
            self.append(Case(name, edit.__doc__ or "", reason, edit, tdx, before, status))
            return edit

        return add
