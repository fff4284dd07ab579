# SPDX-License-Identifier: Apache-2.0
"""What a relying party wants of a genuine quote: a policy, written in TOML.

    report_data = "…"                    # 64 bytes in hex

    [sgx]
    mr_enclave = ["…"]                   # any of these
    mr_signer = ["…"]
    isv_prod_id = [1]
    min_isv_svn = 3

    [tcb]
    statuses = ["UpToDate", "SWHardeningNeeded"]
    advisory_ids = ["INTEL-SA-00615"]    # no others
    min_tcb_evaluation_data_number = 17
    grace = {OutOfDate = 2026-12-01T00:00:00Z}

What a policy does not name is not asked for, but debug, service TDs and any TCB status other than
UpToDate are refused unless named, and so is every root but Intel's. A policy with an [sgx] or a
[tdx] table takes no other kind of quote. Unknown keys are errors.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, TypeVar

from ensconce.dcap.verdict import TcbStatus
from ensconce.errors import ConfigError

__all__ = ["Policy", "SgxPolicy", "TcbPolicy", "TdxPolicy", "parse_policy"]

_T = TypeVar("_T")
_Reader = Callable[[str, Any], Any]


def _wrong(key: str, wanted: str) -> ConfigError:
    """Return the error of a value that is not what its key takes."""
    return ConfigError(f"the policy's {key} is not {wanted}")


def _read_bytes(size: int) -> _Reader:
    """Return a reader of bytes in hex, of a size."""

    def read(key: str, value: Any) -> bytes:
        if isinstance(value, str) and len(value) == 2 * size and value.isalnum():
            try:
                return bytes.fromhex(value)
            except ValueError:
                pass
        raise _wrong(key, f"{size} bytes in hex")

    return read


def _read_number(key: str, value: Any) -> int:
    """Return a number that is not negative."""
    if type(value) is not int or value < 0:
        raise _wrong(key, "a number from 0 on")
    return value


def _read_flag(key: str, value: Any) -> bool:
    """Return true or false."""
    if type(value) is not bool:
        raise _wrong(key, "true or false")
    return value


def _read_text(key: str, value: Any) -> str:
    """Return a text."""
    if type(value) is not str:
        raise _wrong(key, "a text")
    return value


def _read_status(key: str, value: Any) -> TcbStatus:
    """Return a TCB status that may be allowed: Revoked may not."""
    allowed = [status.value for status in TcbStatus if status is not TcbStatus.REVOKED]
    if value not in allowed:
        raise _wrong(key, f"one of {', '.join(allowed)}; {value!r} is none of them")
    return TcbStatus(value)


def _read_list(read: _Reader) -> _Reader:
    """Return a reader of a list of at least one value."""

    def read_all(key: str, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not value:
            raise _wrong(key, "a list of at least one value")
        return tuple(read(key, one) for one in value)

    return read_all


def _read_grace(key: str, value: Any) -> tuple[tuple[TcbStatus, datetime], ...]:
    """Return until when statuses are let pass."""
    if not isinstance(value, dict):
        raise _wrong(key, "a table of statuses and times")
    for until in value.values():
        if not isinstance(until, datetime) or until.tzinfo is None:
            raise _wrong(key, "a table of times with a zone, like 2026-12-01T00:00:00Z")
    return tuple((_read_status(key, status), until) for status, until in value.items())


def _key(read: _Reader, default: Any = None) -> Any:
    """Return a field that a reader takes from TOML."""
    return field(default=default, metadata={"read": read})


def _one_of(size: int) -> Any:
    """Return a field that lists byte strings of which one is wanted; None wants nothing."""
    return _key(_read_list(_read_bytes(size)))


@dataclass(frozen=True, slots=True)
class SgxPolicy:
    """What an enclave must be: one of each list, at least each `min_`; None is not asked for."""

    mr_enclave: tuple[bytes, ...] | None = _one_of(32)
    mr_signer: tuple[bytes, ...] | None = _one_of(32)
    isv_prod_id: tuple[int, ...] | None = _key(_read_list(_read_number))
    min_isv_svn: int | None = _key(_read_number)
    isv_ext_prod_id: tuple[bytes, ...] | None = _one_of(16)
    isv_family_id: tuple[bytes, ...] | None = _one_of(16)
    config_id: tuple[bytes, ...] | None = _one_of(64)
    min_config_svn: int | None = _key(_read_number)
    allow_debug: bool = _key(_read_flag, default=False)


@dataclass(frozen=True, slots=True)
class TdxPolicy:
    """What a trust domain must be; a service TD's hash must be named if there is one."""

    mr_td: tuple[bytes, ...] | None = _one_of(48)
    mr_config_id: tuple[bytes, ...] | None = _one_of(48)
    mr_owner: tuple[bytes, ...] | None = _one_of(48)
    mr_owner_config: tuple[bytes, ...] | None = _one_of(48)
    rtmr0: tuple[bytes, ...] | None = _one_of(48)
    rtmr1: tuple[bytes, ...] | None = _one_of(48)
    rtmr2: tuple[bytes, ...] | None = _one_of(48)
    rtmr3: tuple[bytes, ...] | None = _one_of(48)
    mr_service_td: tuple[bytes, ...] | None = _one_of(48)
    allow_debug: bool = _key(_read_flag, default=False)
    allow_sept_ve: bool = _key(_read_flag, default=False)


@dataclass(frozen=True, slots=True)
class TcbPolicy:
    """How current a platform must be.

    `grace` lets a status pass until a time. `advisory_ids` are those one may still be open to;
    None accepts whichever come with a status that is allowed.
    """

    statuses: tuple[TcbStatus, ...] = _key(
        _read_list(_read_status), default=(TcbStatus.UP_TO_DATE,)
    )
    grace: tuple[tuple[TcbStatus, datetime], ...] = _key(_read_grace, default=())
    advisory_ids: tuple[str, ...] | None = _key(_read_list(_read_text))
    min_tcb_evaluation_data_number: int | None = _key(_read_number)


@dataclass(frozen=True, slots=True)
class Policy:
    """What a relying party wants. `sgx` or `tdx` is None where such quotes are not taken.

    `accept_emulated_root` is the SHA-256 of a root under which emulated platforms are certified,
    which protect nothing; a policy that has it takes no production quotes.
    """

    sgx: SgxPolicy | None = SgxPolicy()
    tdx: TdxPolicy | None = TdxPolicy()
    tcb: TcbPolicy = TcbPolicy()
    report_data: bytes | None = _key(_read_bytes(64))
    accept_emulated_root: bytes | None = _key(_read_bytes(32))


_TABLES: dict[str, type[SgxPolicy] | type[TdxPolicy] | type[TcbPolicy]] = {
    "sgx": SgxPolicy,
    "tdx": TdxPolicy,
    "tcb": TcbPolicy,
}


def parse_policy(text: str) -> Policy:
    """Return the policy in a TOML text; ConfigError names the key that is wrong."""
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"the policy is not TOML: {error}") from error
    tables: dict[str, Any] = {}
    for name, kind in _TABLES.items():
        if name in values:
            table = values.pop(name)
            if not isinstance(table, dict):
                raise _wrong(name, "a table")
            tables[name] = _read(kind, table, f"{name}.")
    if "sgx" in tables or "tdx" in tables:
        tables = {"sgx": None, "tdx": None, **tables}
    return _read(Policy, values, "", **tables)


def _read(kind: Callable[..., _T], values: dict[str, Any], path: str, **others: Any) -> _T:
    """Return the dataclass that a table holds."""
    readers = {
        entry.name: entry.metadata["read"]
        for entry in fields(kind)  # type: ignore[arg-type]  # every kind is a dataclass
        if "read" in entry.metadata
    }
    for key in values:
        if key not in readers:
            known = ", ".join([*(_TABLES if not path else ()), *readers])
            raise ConfigError(f"the policy has the unknown key {path}{key}; known are {known}")
    return kind(**others, **{key: readers[key](path + key, values[key]) for key in values})
