# SPDX-License-Identifier: Apache-2.0
"""EREPORT and EGETKEY (SDM vol. 3D, 40.4)."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.machine.building import (
    BASIC,
    CODE,
    DATA,
    PAGE,
    SIZE,
    TCS_AT,
    Registers,
    bare,
    basic_parts,
    initialize,
    running,
)

from ensconce.crypto import aes_cmac
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.keyrequest import KeyName, KeyPolicy, KeyRequest
from ensconce.isa.leaves import ErrorCode
from ensconce.isa.report import Report, TargetInfo
from ensconce.machine.identity import Identity
from ensconce.machine.processor import Processor
from ensconce.machine.secs_page import SecsPage

EVERYTHING = Attributes(
    BASIC | AttributeFlags.KSS | AttributeFlags.PROVISIONKEY | AttributeFlags.EINITTOKENKEY,
    Xfrm.LEGACY,
)
IDENTITY = {
    "isv_svn": 5,
    "isv_prod_id": 6,
    "isv_family_id": b"\5" * 16,
    "isv_ext_prod_id": b"\6" * 16,
}
ZF = 0x40
STATUS = 0x8D5


@pytest.fixture
def secs(cpu: Processor, key: rsa.RSAPrivateKey) -> Iterator[SecsPage]:
    """Give an enclave that may have every key, CONFIGSVN 7."""
    fields = {"attributes": EVERYTHING, "config_svn": 7, "config_id": b"\7" * 64}
    with bare(cpu, basic_parts(), **fields) as secs:
        initialize(cpu, secs, key, **IDENTITY)
        yield secs


def getkey(cpu: Processor, secs: SecsPage, request: KeyRequest) -> bytes | ErrorCode:
    """Run EGETKEY; return the key or the code. An exception fails the test."""
    at = DATA * PAGE
    secs.alias[at : at + 512] = bytes(request)
    secs.alias[at + PAGE : at + PAGE + 16] = bytes(16)
    registers = Registers(rax=1, rbx=secs.base + at, rcx=secs.base + at + PAGE)
    assert cpu.user_leaf(secs, registers) is None  # type: ignore[arg-type]  # stands in for Frame
    assert registers.rflags & STATUS == (ZF if registers.rax else 0)
    made = bytes(secs.alias[at + PAGE : at + PAGE + 16])
    if registers.rax:
        assert made == bytes(16)
        return ErrorCode(registers.rax)
    return made


def request(name: int, **fields: object) -> KeyRequest:
    return replace(KeyRequest(key_name=name), **fields)  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize("name", KeyName)
def test_every_key_is_derived_and_stays_the_same(
    cpu: Processor, secs: SecsPage, name: KeyName
) -> None:
    key = getkey(cpu, secs, request(name))
    assert isinstance(key, bytes)
    assert key == getkey(cpu, secs, request(name))
    others = {getkey(cpu, secs, request(other)) for other in KeyName if other != name}
    assert key not in others


@pytest.mark.parametrize("name", [5, 255, 0xFFFF])
def test_a_key_name_that_there_is_not_is_a_code(cpu: Processor, secs: SecsPage, name: int) -> None:
    assert getkey(cpu, secs, request(name)) is ErrorCode.INVALID_KEYNAME


KEYS_WITH_SVN = [name for name in KeyName if name != KeyName.REPORT]


@pytest.mark.parametrize("name", KEYS_WITH_SVN)
def test_svns_beyond_the_enclaves_and_the_processors_are_codes(
    cpu: Processor, secs: SecsPage, name: KeyName
) -> None:
    beyond = bytes((cpu.cpu_svn[0] + 1,)) + cpu.cpu_svn[1:]
    assert getkey(cpu, secs, request(name, cpu_svn=beyond)) is ErrorCode.INVALID_CPUSVN
    assert getkey(cpu, secs, request(name, isv_svn=6)) is ErrorCode.INVALID_ISVSVN
    assert isinstance(getkey(cpu, secs, request(name, isv_svn=5)), bytes)


@pytest.mark.parametrize("name", [KeyName.SEAL, KeyName.PROVISION_SEAL])
def test_a_configsvn_beyond_the_enclaves_is_a_code(
    cpu: Processor, secs: SecsPage, name: KeyName
) -> None:
    assert getkey(cpu, secs, request(name, config_svn=8)) is ErrorCode.INVALID_ISVSVN
    assert isinstance(getkey(cpu, secs, request(name, config_svn=7)), bytes)


@pytest.mark.parametrize("name", KEYS_WITH_SVN)
def test_each_svn_has_a_key_of_its_own(cpu: Processor, secs: SecsPage, name: KeyName) -> None:
    requests = [
        request(name, cpu_svn=cpu.cpu_svn),
        request(name),
        request(name, isv_svn=1),
        request(name, isv_svn=2),
    ]
    assert len({getkey(cpu, secs, each) for each in requests}) == 4


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        (KeyName.PROVISION, AttributeFlags.PROVISIONKEY),
        (KeyName.PROVISION_SEAL, AttributeFlags.PROVISIONKEY),
        (KeyName.EINITTOKEN, AttributeFlags.EINITTOKENKEY),
    ],
)
def test_a_key_without_its_attribute_is_a_code(
    cpu: Processor, key: rsa.RSAPrivateKey, name: KeyName, flag: AttributeFlags
) -> None:
    attributes = Attributes(EVERYTHING.flags & ~flag, Xfrm.LEGACY)
    with running(cpu, key, attributes=attributes) as secs:
        assert getkey(cpu, secs, request(name)) is ErrorCode.INVALID_ATTRIBUTE


@pytest.mark.parametrize(
    "fields",
    [
        {"reserved1": b"\1"},
        {"reserved2": b"\1" * 434},
        {"key_policy": KeyPolicy(0x40)},
        {"key_policy": KeyPolicy(0x8000)},
    ],
)
def test_a_reserved_field_is_a_protection_fault(
    cpu: Processor, secs: SecsPage, fields: dict[str, object]
) -> None:
    secs.alias[DATA * PAGE : DATA * PAGE + 512] = bytes(request(4, **fields))
    assert fault(cpu, secs, 1, rbx=DATA * PAGE, rcx=(DATA + 1) * PAGE) == (13, 0, 0)


@pytest.mark.parametrize(
    "fields",
    [
        {"key_policy": KeyPolicy.NOISVPRODID},
        {"key_policy": KeyPolicy.CONFIGID},
        {"key_policy": KeyPolicy.ISVFAMILYID},
        {"key_policy": KeyPolicy.ISVEXTPRODID},
        {"config_svn": 1},
    ],
)
def test_kss_policies_without_kss_are_a_protection_fault(
    cpu: Processor, key: rsa.RSAPrivateKey, fields: dict[str, object]
) -> None:
    with running(cpu, key) as secs:
        secs.alias[DATA * PAGE : DATA * PAGE + 512] = bytes(request(4, **fields))
        assert fault(cpu, secs, 1, rbx=DATA * PAGE, rcx=(DATA + 1) * PAGE) == (13, 0, 0)


def fault(cpu: Processor, secs: SecsPage, leaf: int, **offsets: int) -> tuple[int, int, int]:
    """Run a leaf with operands given as offsets; return the exception, its address as offset."""
    registers = Registers(rax=leaf)
    for name, offset in offsets.items():
        setattr(registers, name, secs.base + offset)
    taken = cpu.user_leaf(secs, registers)  # type: ignore[arg-type]  # stands in for Frame
    assert taken is not None
    vector, error_code, address = taken
    return vector, error_code, address - secs.base if address else 0


POLICIES = list(KeyPolicy)


@pytest.mark.parametrize("name", [KeyName.SEAL, KeyName.PROVISION_SEAL])
@pytest.mark.parametrize("policy", POLICIES)
def test_each_policy_makes_another_key(
    cpu: Processor, secs: SecsPage, name: KeyName, policy: KeyPolicy
) -> None:
    assert getkey(cpu, secs, request(name, key_policy=policy)) != getkey(cpu, secs, request(name))


@pytest.mark.parametrize(
    ("policy", "change", "same"),
    [
        (KeyPolicy.MRSIGNER, {"isv_svn": 9}, True),
        (KeyPolicy.MRSIGNER, {"isv_prod_id": 9}, False),
        (KeyPolicy.MRSIGNER | KeyPolicy.NOISVPRODID, {"isv_prod_id": 9}, True),
        (KeyPolicy.MRSIGNER | KeyPolicy.ISVFAMILYID, {"isv_family_id": b"\1" * 16}, False),
        (KeyPolicy.MRSIGNER, {"isv_family_id": b"\1" * 16}, True),
        (KeyPolicy.MRSIGNER | KeyPolicy.ISVEXTPRODID, {"isv_ext_prod_id": b"\1" * 16}, False),
        (KeyPolicy.MRSIGNER, {"isv_ext_prod_id": b"\1" * 16}, True),
    ],
)
def test_a_policy_says_what_two_enclaves_share(
    cpu: Processor,
    secs: SecsPage,
    key: rsa.RSAPrivateKey,
    policy: KeyPolicy,
    change: dict[str, object],
    *,
    same: bool,
) -> None:
    asked = request(KeyName.SEAL, key_policy=policy)
    with bare(cpu, basic_parts()[:-1], attributes=EVERYTHING) as other:
        initialize(cpu, other, key, **{**IDENTITY, **change})
        assert (getkey(cpu, secs, asked) == getkey(cpu, other, asked)) is same


def test_mrenclave_tells_versions_apart(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    asked = request(KeyName.SEAL, key_policy=KeyPolicy.MRENCLAVE)
    with bare(cpu, basic_parts()[:-1], attributes=EVERYTHING) as other:
        initialize(cpu, other, key, **IDENTITY)
        assert getkey(cpu, secs, asked) != getkey(cpu, other, asked)


def test_debug_enters_every_sealing_key_whatever_the_mask(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    attributes = Attributes(EVERYTHING.flags & ~AttributeFlags.DEBUG, Xfrm.LEGACY)
    with bare(cpu, basic_parts(), attributes=attributes) as production:
        initialize(cpu, production, key, **IDENTITY)
        for name in KEYS_WITH_SVN:
            assert getkey(cpu, production, request(name)) != getkey(cpu, secs, request(name))


def test_masks_choose_what_of_attributes_and_miscselect_counts(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    def asked(mask: int) -> KeyRequest:
        return request(KeyName.SEAL, misc_mask=MiscSelect(mask))

    fields = {"attributes": EVERYTHING, "misc_select": MiscSelect(0)}
    with bare(cpu, basic_parts(), **fields) as other:
        initialize(cpu, other, key, **IDENTITY)
        assert getkey(cpu, secs, asked(0)) == getkey(cpu, other, asked(0))
        assert getkey(cpu, secs, asked(1)) != getkey(cpu, other, asked(1))


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (KeyName.SEAL, True),
        (KeyName.REPORT, True),
        (KeyName.EINITTOKEN, True),
        (KeyName.PROVISION, False),
        (KeyName.PROVISION_SEAL, False),
    ],
)
def test_key_id_wears_out_keys_but_not_those_of_provisioning(
    cpu: Processor, secs: SecsPage, name: KeyName, *, counts: bool
) -> None:
    one, other = (getkey(cpu, secs, request(name, key_id=id_ * 32)) for id_ in (b"\0", b"\1"))
    assert (one != other) is counts


@pytest.mark.parametrize(
    ("fuse", "changed"),
    [
        ("owner_epoch", {KeyName.EINITTOKEN, KeyName.REPORT, KeyName.SEAL}),
        ("seal_fuses", set(KeyName) - {KeyName.PROVISION}),
        ("provisioning_fuses", set(KeyName)),
    ],
)
def test_each_key_depends_on_the_fuses_that_the_manual_says(
    identity: Identity,
    cpu: Processor,
    secs: SecsPage,
    key: rsa.RSAPrivateKey,
    fuse: str,
    changed: set[KeyName],
) -> None:
    value = bytes(byte ^ 1 for byte in getattr(identity, fuse))
    cpu2 = Processor(replace(identity, **{fuse: value}))
    fields = {"attributes": EVERYTHING, "config_svn": 7, "config_id": b"\7" * 64}
    with bare(cpu2, basic_parts(), **fields) as other:
        initialize(cpu2, other, key, **IDENTITY)
        found = {
            name
            for name in KeyName
            if getkey(cpu2, other, request(name)) != getkey(cpu, secs, request(name))
        }
    assert found == changed


def test_a_tcb_recovery_keeps_old_keys_and_makes_new_ones(
    identity: Identity, cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    cpu2 = Processor(identity.recovered())
    old = request(KeyName.SEAL, cpu_svn=cpu.cpu_svn)
    new = request(KeyName.SEAL, cpu_svn=cpu2.cpu_svn)
    fields = {"attributes": EVERYTHING, "config_svn": 7, "config_id": b"\7" * 64}
    with bare(cpu2, basic_parts(), **fields) as other:
        initialize(cpu2, other, key, **IDENTITY)
        assert getkey(cpu2, other, old) == getkey(cpu, secs, old)
        assert getkey(cpu2, other, new) != getkey(cpu, secs, old)
        assert getkey(cpu, secs, new) is ErrorCode.INVALID_CPUSVN


def report(cpu: Processor, secs: SecsPage, target: TargetInfo, data: bytes = bytes(64)) -> Report:
    """Run EREPORT and return the REPORT."""
    at = DATA * PAGE
    secs.alias[at : at + 512] = bytes(target)
    secs.alias[at + PAGE : at + PAGE + 64] = data
    registers = Registers(
        rbx=secs.base + at, rcx=secs.base + at + PAGE, rdx=secs.base + at + 2 * PAGE
    )
    assert cpu.user_leaf(secs, registers) is None  # type: ignore[arg-type]  # stands in for Frame
    assert registers.rflags & STATUS == STATUS
    return Report.parse(secs.alias[at + 2 * PAGE : at + 2 * PAGE + 432])


def target_of(secs: SecsPage) -> TargetInfo:
    return TargetInfo(
        measurement=secs.secs.mr_enclave,
        attributes=secs.secs.attributes,
        misc_select=secs.secs.misc_select,
        config_id=secs.secs.config_id,
        config_svn=secs.secs.config_svn,
    )


def test_a_report_says_who_made_it(cpu: Processor, secs: SecsPage) -> None:
    body = report(cpu, secs, target_of(secs), b"\x44" * 64).body
    assert body.mr_enclave == secs.secs.mr_enclave
    assert body.mr_signer == secs.secs.mr_signer
    assert body.attributes == secs.secs.attributes
    assert (body.isv_svn, body.isv_prod_id, body.config_svn) == (5, 6, 7)
    assert (body.isv_family_id, body.isv_ext_prod_id) == (b"\5" * 16, b"\6" * 16)
    assert body.report_data == b"\x44" * 64
    assert body.cpu_svn == cpu.cpu_svn
    assert body.reserved_nonzero() == ()


def genuine(cpu: Processor, target: SecsPage, made: Report) -> bool:
    """Return whether the target's REPORT key makes the REPORT's MAC."""
    key = getkey(cpu, target, request(KeyName.REPORT, key_id=made.key_id))
    assert isinstance(key, bytes)
    return aes_cmac(key, bytes(made.body)) == made.mac


def test_the_target_can_check_a_report(
    cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    with running(cpu, key) as source:
        assert genuine(cpu, secs, report(cpu, source, target_of(secs)))
        assert not genuine(cpu, source, report(cpu, source, target_of(secs)))


def test_another_processor_of_the_platform_can_check_a_report(
    identity: Identity, cpu: Processor, secs: SecsPage, key: rsa.RSAPrivateKey
) -> None:
    cpu2 = Processor(identity)
    with running(cpu2, key) as source:
        made = report(cpu2, source, target_of(secs))
    assert made.key_id == cpu2.report_key_id != cpu.report_key_id
    assert genuine(cpu, secs, made)


@pytest.mark.parametrize(
    "change",
    [
        {"measurement": b"\1" * 32},
        {"attributes": Attributes(BASIC, Xfrm.LEGACY)},
        {"misc_select": MiscSelect(0)},
        {"config_id": bytes(64)},
        {"config_svn": 0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_report_for_another_target_does_not_check(
    cpu: Processor, secs: SecsPage, change: dict[str, object]
) -> None:
    target = replace(target_of(secs), **change)  # type: ignore[arg-type]  # by name
    assert not genuine(cpu, secs, report(cpu, secs, target))


GOOD = {"rbx": DATA * PAGE, "rcx": (DATA + 1) * PAGE, "rdx": (DATA + 2) * PAGE}
NOT_MAPPED = SIZE - PAGE


@pytest.mark.parametrize(
    ("register", "offset", "expected"),
    [
        ("rbx", DATA * PAGE + 8, (13, 0, 0)),
        ("rcx", DATA * PAGE + 64, (13, 0, 0)),
        ("rdx", DATA * PAGE + 256, (13, 0, 0)),
        ("rbx", SIZE, (13, 0, 0)),
        ("rcx", -PAGE, (13, 0, 0)),
        ("rdx", 1 << 40, (13, 0, 0)),
        ("rbx", NOT_MAPPED, (14, 0x8005, NOT_MAPPED)),
        ("rdx", NOT_MAPPED, (14, 0x8007, NOT_MAPPED)),
        ("rdx", CODE * PAGE, (14, 0x8007, CODE * PAGE)),
        ("rcx", TCS_AT * PAGE, (14, 0x8005, TCS_AT * PAGE)),
    ],
)
def test_an_operand_that_can_not_be_used_faults(
    cpu: Processor,
    secs: SecsPage,
    register: str,
    offset: int,
    expected: tuple[int, int, int],
) -> None:
    assert fault(cpu, secs, 0, **{**GOOD, register: offset}) == expected


def test_a_page_that_the_page_tables_do_not_have_faults_without_the_sgx_bit(
    cpu: Processor, secs: SecsPage
) -> None:
    secs.translate(DATA, DATA + 1, None)
    assert fault(cpu, secs, 0, **GOOD) == (14, 0x4, DATA * PAGE)
    secs.translate(DATA, DATA + 1, 1)
    secs.translate(DATA + 2, DATA + 3, 1)
    assert fault(cpu, secs, 0, **GOOD) == (14, 0x7, (DATA + 2) * PAGE)


@pytest.mark.parametrize("leaf", [2, 3, 8, 10, 0xFFFFFFFF])
def test_a_leaf_that_there_is_not_inside_is_a_protection_fault(
    cpu: Processor, secs: SecsPage, leaf: int
) -> None:
    assert fault(cpu, secs, leaf) == (13, 0, 0)
