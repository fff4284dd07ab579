# SPDX-License-Identifier: Apache-2.0
"""Every exit code of the command line, in one table.

0 is success, 1 a negative answer, 2 wrong usage or unusable input, 130 an interrupt.
"""

from ensconce import errors

__all__ = ["EXIT_CODES", "exit_code"]

# the most derived class that matches decides
EXIT_CODES: dict[type[BaseException], int] = {
    errors.VerificationError: 1,
    errors.FormatError: 2,
    errors.ConfigError: 3,
    errors.PolicyError: 4,
    errors.Fault: 5,
    errors.DeviceError: 6,
    errors.ProtocolError: 7,
    errors.ToolchainError: 8,
    errors.EnclaveError: 9,
    errors.EnclaveLost: 10,
    errors.EnclaveCrashed: 11,
    errors.OutOfThreads: 12,
    errors.OcallError: 13,
    errors.SimulationModeError: 14,
    errors.UnsignedError: 15,
    errors.MeasurementError: 16,
    errors.SourceError: 17,
    OSError: 18,
    errors.ServiceError: 20,
    errors.ClusterError: 21,
    errors.EnsconceError: 19,
}


def exit_code(error: BaseException) -> int:
    """Return the exit code of an error by its nearest class in the table."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)
