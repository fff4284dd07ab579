# SPDX-License-Identifier: Apache-2.0
"""Is a genuine quote what I want? Every mismatch with a policy is reported, not the first."""

from collections.abc import Iterator
from dataclasses import dataclass, fields

from ensconce.dcap.policy import Policy, SgxPolicy, TcbPolicy, TdxPolicy
from ensconce.dcap.quote import TdReport, TdReport15
from ensconce.dcap.verdict import Claims
from ensconce.isa.attributes import AttributeFlags
from ensconce.isa.report import ReportBody

__all__ = ["Mismatch", "validate"]

# TD attributes (TDX Module Base Architecture, "ATTRIBUTES"): TUD makes a TD debuggable
_TUD = 0xFF
_SEPT_VE_DISABLE = 1 << 28
_HARMLESS = 1 << 30 | 1 << 31 | 1 << 63  # PKS, KL, PERFMON


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A difference between claims and policy. `key` is the policy's key; it is stable."""

    key: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.key}: {self.found}, where the policy wants {self.wanted}"


def validate(claims: Claims, policy: Policy) -> list[Mismatch]:
    """Return every mismatch of a genuine quote's claims with a policy; none accepts it."""
    return list(_mismatches(claims, policy))


def _mismatches(claims: Claims, policy: Policy) -> Iterator[Mismatch]:
    """Yield the mismatches, those that matter most first."""
    yield from _root(claims, policy.accept_emulated_root)
    body = claims.quote.body
    if isinstance(body, ReportBody):
        report_data = body.report_data
        yield from _sgx(body, policy.sgx)
    else:
        td = body.td if isinstance(body, TdReport15) else body
        report_data = td.report_data
        yield from _tdx(body, td, policy.tdx)
    if policy.report_data is not None and report_data != policy.report_data:
        yield Mismatch("report_data", policy.report_data.hex(), report_data.hex())
    yield from _tcb(claims, policy.tcb)


def _root(claims: Claims, emulated: bytes | None) -> Iterator[Mismatch]:
    """Yield what is wrong with the root: Intel's, or the emulated one that is named."""
    found = claims.root.fingerprint.hex()
    if emulated is None and not claims.root.production:
        yield Mismatch(
            "accept_emulated_root",
            "Intel's root; this one certifies platforms that protect nothing, so a policy must "
            "name it as accept_emulated_root",
            found,
        )
    if emulated is not None and claims.root.fingerprint != emulated:
        yield Mismatch("accept_emulated_root", emulated.hex(), found)
    if emulated is not None and claims.root.production:
        yield Mismatch("accept_emulated_root", "no production root beside an emulated one", found)


def _sgx(body: ReportBody, policy: SgxPolicy | None) -> Iterator[Mismatch]:
    """Yield the mismatches of an enclave."""
    if policy is None:
        yield Mismatch("sgx", "no SGX quote, having no such table", "SGX")
        return
    flags = body.attributes.flags
    if flags & AttributeFlags.DEBUG and not policy.allow_debug:
        yield Mismatch("sgx.allow_debug", "no debug enclave, which its host can read", "DEBUG")
    if not flags & AttributeFlags.INIT or not flags & AttributeFlags.MODE64BIT:
        yield Mismatch("sgx", "an initialised 64-bit enclave", f"ATTRIBUTES {int(flags):#x}")
    yield from _compare("sgx", body, policy)


def _tdx(body: TdReport | TdReport15, td: TdReport, policy: TdxPolicy | None) -> Iterator[Mismatch]:
    """Yield the mismatches of a trust domain."""
    if policy is None:
        yield Mismatch("tdx", "no TDX quote, having no such table", "TDX")
        return
    attributes = td.td_attributes
    found = f"TD ATTRIBUTES {attributes:#018x}"
    if attributes & _TUD and not policy.allow_debug:
        yield Mismatch("tdx.allow_debug", "no debuggable TD, which its host can read", found)
    if not attributes & _SEPT_VE_DISABLE and not policy.allow_sept_ve:
        yield Mismatch("tdx.allow_sept_ve", "SEPT_VE_DISABLE", found)
    if attributes & ~(_TUD | _SEPT_VE_DISABLE | _HARMLESS):
        yield Mismatch("tdx", "no reserved attribute", found)
    yield from _compare("tdx", td, policy)
    if isinstance(body, TdReport15):
        service = body.mr_service_td
        if any(service) or policy.mr_service_td is not None:
            yield from _one_of("tdx.mr_service_td", service, policy.mr_service_td or ())
    elif policy.mr_service_td is not None:
        yield Mismatch("tdx.mr_service_td", "a TDX 1.5 quote, which has it", "TDX 1.0")


def _compare(
    table: str, body: ReportBody | TdReport, policy: SgxPolicy | TdxPolicy
) -> Iterator[Mismatch]:
    """Yield mismatches of the fields that policy and body both have, by their names."""
    for entry in fields(policy):
        wanted = getattr(policy, entry.name)
        name = entry.name.removeprefix("min_")
        if wanted is None or not hasattr(body, name):
            continue
        found = getattr(body, name)
        if isinstance(wanted, tuple):
            yield from _one_of(f"{table}.{entry.name}", found, wanted)
        elif found < wanted:
            yield Mismatch(f"{table}.{entry.name}", f"at least {wanted}", str(found))


def _one_of(
    key: str, found: bytes | int, wanted: tuple[bytes, ...] | tuple[int, ...]
) -> Iterator[Mismatch]:
    """Yield a mismatch unless the value is one of those wanted."""
    if found not in wanted:
        yield Mismatch(key, " or ".join(map(_word, wanted)) or "none", _word(found))


def _word(value: bytes | int) -> str:
    """Return a value as a policy has it."""
    return value.hex() if isinstance(value, bytes) else str(value)


def _tcb(claims: Claims, policy: TcbPolicy) -> Iterator[Mismatch]:
    """Yield the mismatches of the platform's TCB, as of the time of verification."""
    status = claims.tcb_status
    until = dict(policy.grace).get(status)
    if status not in policy.statuses and (until is None or claims.verified_at > until):
        ended = "" if until is None else f", whose grace ended {until.isoformat()}"
        wanted = " or ".join(one.value for one in policy.statuses)
        yield Mismatch("tcb.statuses", wanted, status.value + ended)
    if policy.advisory_ids is not None:
        others = [name for name in claims.advisory_ids if name not in policy.advisory_ids]
        if others:
            yield Mismatch("tcb.advisory_ids", ", ".join(policy.advisory_ids), ", ".join(others))
    least, number = policy.min_tcb_evaluation_data_number, claims.tcb_evaluation_data_number
    if least is not None and number < least:
        yield Mismatch("tcb.min_tcb_evaluation_data_number", f"at least {least}", str(number))
