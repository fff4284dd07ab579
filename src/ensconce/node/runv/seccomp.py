# SPDX-License-Identifier: Apache-2.0
"""linux.seccomp as a program for the guest's kernel, compiled by the host's libseccomp."""

import ctypes
import errno
import os
from collections.abc import Mapping
from typing import Any

from ensconce.errors import ConfigError

__all__ = ["compile_filter"]

_ACTIONS = {
    "SCMP_ACT_KILL": 0x00000000, "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL_PROCESS": 0x80000000, "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_TRACE": 0x7FF00000, "SCMP_ACT_ALLOW": 0x7FFF0000,
    "SCMP_ACT_LOG": 0x7FFC0000,
}  # fmt: skip
_PERMITTING = frozenset({_ACTIONS["SCMP_ACT_ALLOW"], _ACTIONS["SCMP_ACT_LOG"]})
_CARRIES_NUMBER = frozenset({"SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"})
_ARCHITECTURES = {"SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X86": 0x40000003}
_X32 = 0x4000003E
_COMPARISONS = {
    "SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7,
}  # fmt: skip
_FLAGS = {"SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4}
_UNKNOWN = -1


class _Argument(ctypes.Structure):
    """libseccomp's scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def compile_filter(rules: Mapping[str, Any]) -> tuple[int, bytes]:
    """Return the flags for seccomp(2) and the BPF program of linux.seccomp.

    Raises ConfigError where the host has no libseccomp or a rule can't be kept.
    """
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError as error:
        raise ConfigError(
            "linux.seccomp needs libseccomp on the host; apt install libseccomp2"
        ) from error
    library.seccomp_init.restype = ctypes.c_void_p
    flags = sum(_look_up(_FLAGS, each, "flags") for each in set(rules.get("flags") or []))
    default = _action(rules["defaultAction"], rules.get("defaultErrnoRet"))
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(default)))
    try:
        for name in rules.get("architectures") or []:
            if name == "SCMP_ARCH_X32":
                _check(library.seccomp_arch_add(context, ctypes.c_uint32(_X32)), name)
            elif name in _ARCHITECTURES:  # the others' programs don't run in the guest
                code = ctypes.c_uint32(_ARCHITECTURES[name])
                _check(library.seccomp_arch_add(context, code), name)
        for rule in rules.get("syscalls") or []:
            _add_rule(library, context, rule, default)
        return flags, _export(library, context)
    finally:
        library.seccomp_release(context)


def _add_rule(
    library: ctypes.CDLL, context: ctypes.c_void_p, rule: Mapping[str, Any], default: int
) -> None:
    """Add one rule of linux.seccomp.syscalls to the program."""
    action = _action(rule["action"], rule.get("errnoRet"))
    if action == default:
        return
    arguments = rule.get("args") or []
    indices = [each["index"] for each in arguments]
    groups = [arguments]
    if len(set(indices)) < len(indices):  # conditions on one argument are alternatives, as runc's
        groups = [[each] for each in arguments]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN:
            if default in _PERMITTING:
                raise ConfigError(
                    f"linux.seccomp: {name!r} is no system call that the host's libseccomp knows; "
                    "leave it out, or take a newer libseccomp"
                )
            continue  # engines' profiles name calls newer than the library; the default denies them
        for group in groups:
            found = (_Argument * len(group))(*map(_argument, group))
            code = library.seccomp_rule_add_array(
                context, ctypes.c_uint32(action), number, len(group), found
            )
            _check(code, name)


def _argument(condition: Mapping[str, Any]) -> _Argument:
    """Return a condition on an argument."""
    comparison = _look_up(_COMPARISONS, condition["op"], "op")
    first, second = condition.get("value") or 0, condition.get("valueTwo") or 0
    return _Argument(condition["index"], comparison, first, second)


def _action(name: str, number: int | None) -> int:
    """Return an action's code, with the number that it carries."""
    code = _look_up(_ACTIONS, name, "action")
    if name in _CARRIES_NUMBER:
        code |= (errno.EPERM if number is None else number) & 0xFFFF
    return code


def _look_up(table: Mapping[str, int], word: str, key: str) -> int:
    """Return a word's number, or refuse it by name."""
    if word not in table:
        raise ConfigError(f"linux.seccomp: {key} {word!r} is not supported; leave it out")
    return table[word]


def _check(code: int, what: str) -> None:
    """Raise where libseccomp refused."""
    if code not in (0, -errno.EEXIST, -errno.EDOM):
        raise ConfigError(f"linux.seccomp: libseccomp refuses {what}: {os.strerror(-code)}")


def _export(library: ctypes.CDLL, context: ctypes.c_void_p) -> bytes:
    """Return the program's instructions."""
    file = os.memfd_create("filter")
    try:
        _check(library.seccomp_export_bpf(context, file), "the filter")
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)
