# SPDX-License-Identifier: Apache-2.0
"""Fuzz everything that reads collateral: the file, TCB info, QE identity, certificates, CRLs."""

import contextlib
import sys
import warnings

import atheris

with atheris.instrument_imports():
    from ensconce.dcap.certificate import Certificate, Crl, parse_chain
    from ensconce.dcap.collateral import Collateral
    from ensconce.dcap.tcb_info import QeIdentity, TcbInfo
    from ensconce.errors import FormatError


def one_input(data: bytes) -> None:
    for parse in (Collateral.parse, TcbInfo.parse, QeIdentity.parse):
        with contextlib.suppress(FormatError):
            parse(data)
    for read in (Certificate.parse, Crl.parse, parse_chain):
        with contextlib.suppress(FormatError):
            read(data, "input")


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # cryptography's, of what it will refuse one day
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
