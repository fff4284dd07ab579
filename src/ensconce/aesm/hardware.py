# SPDX-License-Identifier: Apache-2.0
"""Quotes of an SGX processor, made by the vendor's quoting library, which is loaded when needed.

The functions are those of the library's core: libsgx_dcap_ql brings them by its dependency on
libsgx_qe3_logic. The simpler ones of libsgx_dcap_ql itself have neither key ids nor nonces.
"""

import ctypes
import grp
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ensconce.aesm.codes import Code, Refusal, from_quote_library
from ensconce.aesm.keyid import QeReportInfo
from ensconce.dcap.keyid import KeyBase, KeyId
from ensconce.errors import ConfigError
from ensconce.isa.report import Report, TargetInfo

__all__ = ["LIBRARY", "HardwareBackend", "check_devices"]

LIBRARY = "libsgx_dcap_ql.so.1"
DEVICES = (Path("/dev/sgx_enclave"), Path("/dev/sgx_provision"))

_HASH_BYTES = 32
_MOST_QUOTE = 1 << 19
_PERSISTENT = 0  # the quoting enclave stays loaded
_OUT_OF_PROCESS = "SGX_AESM_ADDR"
# a power transition, or a library that was not asked to begin with: what init mends
_AGAIN = (Code.ENCLAVE_LOST, Code.ATT_KEY_NOT_INITIALIZED)

_POINTER, _SIZE, _U32 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "sgx_ql_set_enclave_load_policy": (ctypes.c_int,),
    "sgx_ql_get_keyid": (_POINTER,),
    "sgx_ql_init_quote": (
        _POINTER,
        _POINTER,
        ctypes.c_bool,
        ctypes.POINTER(_SIZE),
        _POINTER,
    ),
    "sgx_ql_get_quote_size": (_POINTER, ctypes.POINTER(_U32)),
    "sgx_ql_get_quote": (_POINTER, _POINTER, _POINTER, _POINTER, _U32),
}


class HardwareBackend:
    """The quoting library of this node, by name or path. Raises ConfigError where it is absent.

    One call at a time: the library's quoting enclave has one thread.
    """

    name = "hardware"
    slow = True

    def __init__(self, library: str = LIBRARY) -> None:
        check_devices()
        self._functions = _load(library)
        self._lock = threading.Lock()
        self._ask("sgx_ql_set_enclave_load_policy", _PERSISTENT)
        key = ctypes.create_string_buffer(KeyId.SIZE)
        self._ask("sgx_ql_get_keyid", key)
        self._key = KeyId.parse(key.raw)
        self._base = bytes(self._key.base)

    def key_ids(self) -> tuple[KeyId, ...]:
        """Return the quoting enclave's key; see `Backend`."""
        return (self._key,)

    def also_known_as(self) -> tuple[KeyId, ...]:
        """Return nothing: the vendor's key is this one; see `Backend`."""
        return ()

    def target_info(self) -> tuple[TargetInfo, bytes]:
        """Have the key made and certified; see `Backend`."""
        with self._lock:
            return self._init()

    def quote_size(self) -> int:
        """Ask for a quote's size; see `Backend`."""
        with self._lock:
            return int(self._with_key(self._quote_size))

    def quote(self, report: Report, info: QeReportInfo | None) -> tuple[bytes, Report | None]:
        """Have a quote made; see `Backend`."""
        given = (
            None if info is None else ctypes.create_string_buffer(bytes(info), QeReportInfo.SIZE)
        )

        def make() -> bytes:
            size = self._quote_size()
            quote = ctypes.create_string_buffer(size)
            self._ask("sgx_ql_get_quote", bytes(report), self._own_base(), given, quote, size)
            return quote.raw

        with self._lock:
            made = self._with_key(make)
        return made, None if given is None else QeReportInfo.parse(given.raw).report

    def _init(self) -> tuple[TargetInfo, bytes]:
        """Ask for target info and the key's id."""
        target = ctypes.create_string_buffer(TargetInfo.SIZE)
        key_hash = ctypes.create_string_buffer(_HASH_BYTES)
        size = _SIZE(_HASH_BYTES)
        self._ask("sgx_ql_init_quote", self._own_base(), target, 0, ctypes.byref(size), key_hash)
        return TargetInfo.parse(target.raw), key_hash.raw

    def _quote_size(self) -> int:
        """Ask for a quote's size, and refuse one that can't be."""
        size = _U32()
        self._ask("sgx_ql_get_quote_size", self._own_base(), ctypes.byref(size))
        if not 0 < size.value <= _MOST_QUOTE:
            raise Refusal(
                Code.UNEXPECTED_ERROR,
                f"the quoting library says that a quote has {size.value} bytes",
            )
        return size.value

    def _with_key(self, ask: Callable[[], Any]) -> Any:
        """Ask, and once more with a new key where the old one is gone."""
        try:
            return ask()
        except Refusal as error:
            if error.code not in _AGAIN:
                raise
        self._init()
        return ask()

    def _own_base(self) -> Any:
        """Return the key's id in memory of its own, since the library's parameter is not const."""
        return ctypes.create_string_buffer(self._base, KeyBase.SIZE)

    def _ask(self, name: str, *arguments: object) -> None:
        """Call a function of the library and raise what it refuses with."""
        status = self._functions[name](*arguments) & 0xFFFFFFFF
        if status:
            raise from_quote_library(status, name)


def check_devices(nodes: Iterable[Path] = DEVICES) -> None:
    """Raise ConfigError for a device that is there and that this user may not open."""
    for node in nodes:
        if node.exists() and not os.access(node, os.R_OK | os.W_OK):
            gid = node.stat().st_gid
            raise ConfigError(
                f"this user may not open {node}: add it to the group {_group(gid)} that the device "
                "belongs to (in a container: the same number, by --group-add or "
                "supplementalGroups); it need not be root"
            )


def _group(gid: int) -> str:
    """Return a group's number, with its name where it has one here."""
    try:
        return f"{gid} ({grp.getgrgid(gid).gr_name})"
    except KeyError:
        return str(gid)


def _load(library: str) -> dict[str, Any]:
    """Return the library's functions, or say what is missing and how to get it."""
    if os.environ.get(_OUT_OF_PROCESS):
        raise ConfigError(
            f"{_OUT_OF_PROCESS} is set, and has the quoting library ask an AESM service instead of "
            "making quotes; unset it for this service"
        )
    try:
        loaded = ctypes.CDLL(library)
        functions = {name: getattr(loaded, name) for name in _FUNCTIONS}
    except (OSError, AttributeError) as error:
        raise ConfigError(
            f"the quoting library {library} can't be used ({error}); install the vendor's "
            "libsgx-dcap-ql and libsgx-dcap-default-qpl, or give --backend emulated"
        ) from error
    for name, types in _FUNCTIONS.items():
        functions[name].argtypes = types
        functions[name].restype = ctypes.c_int
    return functions
