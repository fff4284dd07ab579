# SPDX-License-Identifier: Apache-2.0
"""The one exception tree of ensconce.

A leaf says whose fault it is; the message is one sentence that names the input, the fault and
the mend. Facts are attributes. Exit codes and advice are the command line's business.
"""

from enum import IntEnum

__all__ = [
    "ClusterError",
    "ConfigError",
    "DeviceError",
    "EnclaveCrashed",
    "EnclaveError",
    "EnclaveLost",
    "EnsconceError",
    "Fault",
    "FormatError",
    "MeasurementError",
    "OcallError",
    "OutOfThreads",
    "PolicyError",
    "ProtocolError",
    "SimulationModeError",
    "SourceError",
    "ToolchainError",
    "UnsignedError",
    "VerificationError",
]


class EnsconceError(Exception):
    """Root of every error that ensconce raises on purpose."""


class FormatError(EnsconceError):
    """An input's bytes or text are not what its format says.

    `source` names the input (a path or a role); `offset` is a byte position in it, or None;
    `line` and `column` (from 1) are set for text.
    """

    def __init__(
        self,
        message: str,
        *,
        source: str = "",
        offset: int | None = None,
        line: int | None = None,
        column: int | None = None,
    ) -> None:
        super().__init__(message)
        self.source = source
        self.offset = offset
        self.line = line
        self.column = column


class SourceError(FormatError):
    """A text that a person wrote (EDL, an enclave's configuration) breaks its language's rules."""


class VerificationError(EnsconceError):
    """Evidence is well formed and not genuine: a signature, hash or MAC does not match."""


class MeasurementError(VerificationError):
    """An enclave is not the one its SIGSTRUCT was made for: MRENCLAVE differs."""


class UnsignedError(VerificationError):
    """An enclave file carries no SIGSTRUCT."""


class PolicyError(EnsconceError):
    """Something is genuine and not allowed here."""


class SimulationModeError(PolicyError):
    """An enclave was built for the vendor's simulation and holds no ENCLU: it can't run as one."""


class Fault(EnsconceError):
    """The processor's own answer: an SGX error code or an exception, as the manual numbers it.

    `address` and `error_code` (PFEC) are those of a page fault.
    """

    def __init__(
        self, code: IntEnum, reason: str = "", *, address: int | None = None, error_code: int = 0
    ) -> None:
        super().__init__(f"{code.name}: {reason}" if reason else code.name)
        self.code = code
        self.reason = reason
        self.address = address
        self.error_code = error_code


class DeviceError(EnsconceError):
    """A device or the operating system refused; `errno` is its number, 0 where it has none."""

    def __init__(self, message: str, *, errno: int = 0) -> None:
        super().__init__(message)
        self.errno = errno


class ProtocolError(EnsconceError):
    """A peer broke the protocol it speaks."""


class ServiceError(EnsconceError):
    """A service on the network gave no usable answer; `status` is HTTP's, 0 where none came."""

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class ClusterError(EnsconceError):
    """A cluster refused, or did not come to the state asked for."""


class ConfigError(EnsconceError):
    """A setting, option or policy file is wrong."""


class ToolchainError(EnsconceError):
    """A compiler or linker failed; `output` is what it printed."""

    def __init__(self, message: str, *, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class EnclaveError(EnsconceError):
    """A running enclave could not do what was asked of it.

    `status` is the trusted runtime's code (`sgx_status_t`), 0 where it gave none.
    """

    def __init__(self, message: str = "", *, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class EnclaveLost(EnclaveError):
    """The enclave's memory is gone (power transition, or destroyed): load it again."""


class EnclaveCrashed(EnclaveError):
    """The enclave faulted; `vector` is the exception's, `address` where it has one."""

    def __init__(self, message: str, *, vector: int, address: int | None = None) -> None:
        super().__init__(message)
        self.vector = vector
        self.address = address


class OutOfThreads(EnclaveError):
    """Every TCS of the enclave is in use."""


class OcallError(EnclaveError):
    """An OCALL is missing or raised; the host's own exception is its cause."""
