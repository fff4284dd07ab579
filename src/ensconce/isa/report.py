# SPDX-License-Identifier: Apache-2.0
"""REPORT and TARGETINFO (SDM vol. 3D, 38.15, 38.16)."""

from typing import Annotated

from ensconce.isa.attributes import Attributes, CetAttributes, MiscSelect
from ensconce.isa.record import U16, Record, Reserved, Unsigned, record

__all__ = ["Report", "ReportBody", "TargetInfo"]


@record(384)
class ReportBody(Record):
    """The part of REPORT that its MAC covers, and that a quote carries."""

    cpu_svn: Annotated[bytes, 16] = bytes(16)
    misc_select: Annotated[MiscSelect, Unsigned(4)] = MiscSelect(0)
    cet_attributes: Annotated[CetAttributes, Unsigned(1)] = CetAttributes(0)
    reserved1: Annotated[bytes, Reserved(11)] = bytes(11)
    isv_ext_prod_id: Annotated[bytes, 16] = bytes(16)
    attributes: Attributes = Attributes()
    mr_enclave: Annotated[bytes, 32] = bytes(32)
    reserved2: Annotated[bytes, Reserved(32)] = bytes(32)
    mr_signer: Annotated[bytes, 32] = bytes(32)
    reserved3: Annotated[bytes, Reserved(32)] = bytes(32)
    config_id: Annotated[bytes, 64] = bytes(64)
    isv_prod_id: U16 = 0
    isv_svn: U16 = 0
    config_svn: U16 = 0
    reserved4: Annotated[bytes, Reserved(42)] = bytes(42)
    isv_family_id: Annotated[bytes, 16] = bytes(16)
    report_data: Annotated[bytes, 64] = bytes(64)


@record(432)
class Report(Record):
    """REPORT: what EREPORT writes; MAC is AES-CMAC over the body with the target's report key."""

    body: ReportBody
    key_id: Annotated[bytes, 32] = bytes(32)
    mac: Annotated[bytes, 16] = bytes(16)


@record(512)
class TargetInfo(Record):
    """TARGETINFO: which enclave shall be able to check a REPORT."""

    measurement: Annotated[bytes, 32] = bytes(32)
    attributes: Attributes = Attributes()
    cet_attributes: Annotated[CetAttributes, Unsigned(1)] = CetAttributes(0)
    reserved1: Annotated[bytes, Reserved(1)] = bytes(1)
    config_svn: U16 = 0
    misc_select: Annotated[MiscSelect, Unsigned(4)] = MiscSelect(0)
    reserved2: Annotated[bytes, Reserved(8)] = bytes(8)
    config_id: Annotated[bytes, 64] = bytes(64)
    reserved3: Annotated[bytes, Reserved(384)] = bytes(384)
