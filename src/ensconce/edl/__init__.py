# SPDX-License-Identifier: Apache-2.0
"""The enclave definition language (EDL): what crosses an enclave's border, and how.

`load` and `loads` give the checked `Interface` of an enclave. No I/O happens here but through
the reader that the caller passes in.
"""

from ensconce.edl.checks import require_public_ecall
from ensconce.edl.imports import load, loads
from ensconce.edl.model import Ecall, Interface, Ocall, Parameter, Type
from ensconce.edl.parser import parse
from ensconce.edl.preprocessor import Reader

__all__ = [
    "Ecall",
    "Interface",
    "Ocall",
    "Parameter",
    "Reader",
    "Type",
    "load",
    "loads",
    "parse",
    "require_public_ecall",
]
