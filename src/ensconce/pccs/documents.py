# SPDX-License-Identifier: Apache-2.0
"""What clients send: a platform's registration, an appraisal policy."""

import base64
import re

from ensconce.dcap.signed_json import Fields, parse_object
from ensconce.errors import FormatError
from ensconce.pccs.items import Platform
from ensconce.pccs.store import Policy

__all__ = ["platform_of", "policy_text", "read_appraisal_policy", "read_registration"]

_HEX = re.compile("[0-9A-F]*")
_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_MAX_MANIFEST = 64 << 10
_MAX_BODY = 2 << 20
_QE_ID_LENGTH = 260
_SIZES = {"pce_id": 4, "cpu_svn": 32, "pce_svn": 4, "enc_ppid": 768}

# the environments that an appraisal policy's parts are for, by class
_POLICY_TYPES = {
    "3123ec35-8d38-4ea5-87a5-d6c48b567570": 0,  # SGX
    "9eec018b-7481-4b1c-8e1a-9f7c0c8c777f": 1,  # TDX 1.0
    "f708b97f-0fb2-4e6b-8b03-8a5bcd1221d3": 2,  # TDX 1.5
}
_TDQE_CLASS = "3769258c-75e6-4bc7-8d72-d2b0e224cad2"


def read_registration(text: bytes) -> Platform:
    """Return the platform that registers itself in a JSON text.

    A multi-package platform gives its manifest and nothing else counts; any other one gives its
    TCB and encrypted PPID.
    """
    platform = platform_of(parse_object(text, "the registration", _MAX_BODY))
    if platform.platform_manifest:
        return Platform(
            platform.qe_id, platform.pce_id, platform_manifest=platform.platform_manifest
        )
    if not (platform.cpu_svn and platform.pce_svn and platform.enc_ppid):
        raise FormatError(
            "the registration has neither a platform_manifest nor all of cpu_svn, pce_svn and "
            "enc_ppid; give the one or the others",
            source="registration",
        )
    return platform


def platform_of(fields: Fields) -> Platform:
    """Return the platform in a JSON object."""
    found = {}
    for name, size in _SIZES.items():
        value = fields.text_if_any(name).upper()
        if (value or name == "pce_id") and (len(value) != size or not _HEX.fullmatch(value)):
            fields.refuse(name, f"{size} digits in hex")
        found[name] = value
    manifest = fields.text_if_any("platform_manifest").upper()
    if len(manifest) > _MAX_MANIFEST or not _HEX.fullmatch(manifest) or len(manifest) % 2:
        fields.refuse("platform_manifest", f"up to {_MAX_MANIFEST} digits in hex")
    qe_id = fields.text("qe_id").upper()
    if not 0 < len(qe_id) <= _QE_ID_LENGTH or not qe_id.isprintable() or not qe_id.isascii():
        fields.refuse("qe_id", f"1 to {_QE_ID_LENGTH} characters")
    return Platform(qe_id=qe_id, platform_manifest=manifest, **found)


def read_appraisal_policy(text: bytes) -> Policy:
    """Return the appraisal policy in a JSON text of policy, fmspc and is_default.

    The policy is a signed JSON web token. A PCCS hands it on; who appraises checks its signature.
    """
    fields = parse_object(text, "the appraisal policy", _MAX_BODY)
    policy = policy_text(fields)
    fmspc = fields.octets("fmspc", 6).hex().upper()
    return Policy(fmspc, _policy_type(policy), fields.flag("is_default"), policy)


def policy_text(fields: Fields) -> str:
    """Return the JSON web token that is an object's policy."""
    policy = fields.text("policy")
    if not _TOKEN.fullmatch(policy):
        fields.refuse("policy", "a JSON web token")
    return policy


def _policy_type(policy: str) -> int:
    """Return for which environment a policy is: SGX, TDX 1.0 or TDX 1.5."""
    payload = policy.split(".")[1]
    try:
        claims_text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
    except ValueError as error:
        raise FormatError(
            "the policy's payload is not base64url; give the token as it was signed",
            source="policy",
        ) from error
    claims = parse_object(claims_text, "the policy's payload")
    inner = parse_object(
        claims.text("policy_payload").encode("utf-8", "replace"), "the policy's policy_payload"
    )
    names = [
        part.object("environment").text("class_id").lower()
        for part in inner.objects("policy_array")
    ]
    known = [_POLICY_TYPES[name] for name in names if name in _POLICY_TYPES]
    if not known or set(names) - {*_POLICY_TYPES, _TDQE_CLASS}:
        inner.refuse("policy_array", "a list of parts for SGX or TDX")
    return known[0]
