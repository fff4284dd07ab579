# SPDX-License-Identifier: Apache-2.0
"""The protocol's messages: one table, from which protobuf's own library makes the classes.

Numbers and types are the protocol's (`aesm.message`, proto2). On the wire there are no names, so
these are ours: a request and its answer have one name and one number. `!` marks what is required.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["KINDS", "Family", "Kind", "Request", "Response"]

_Field = descriptor_pb2.FieldDescriptorProto
_TYPES = {
    "bool": _Field.TYPE_BOOL,
    "bytes": _Field.TYPE_BYTES,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
}
_PACKAGE = "aesm.message"
_ERROR = "error_code:1:uint32!"
_ERROR_DEFAULT = "1"


class Family(Enum):
    """What a request belongs to."""

    DCAP = "dcap"
    EPID = "epid"
    LAUNCH = "launch"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of request: its number, and the fields of both sides as name:number:type."""

    name: str
    number: int
    family: Family
    asks: str
    answers: str
    timeout: int = 9  # the field in which a client says how many microseconds it waits


# Where a Request has several fields the first of these counts, as in the vendor's service.
KINDS = (
    Kind(
        "get_launch_token",
        3,
        Family.LAUNCH,
        "mr_enclave:1:bytes! mr_signer:2:bytes! se_attributes:3:bytes!",
        "token:2:bytes",
    ),
    Kind("init_quote", 1, Family.EPID, "", "target_info:2:bytes gid:3:bytes"),
    Kind(
        "get_quote",
        2,
        Family.EPID,
        "report:1:bytes! quote_type:2:uint32! spid:3:bytes! nonce:4:bytes sig_rl:5:bytes "
        "buf_size:6:uint32! qe_report:7:bool",
        "quote:2:bytes qe_report:3:bytes",
    ),
    Kind(
        "report_attestation_status",
        4,
        Family.EPID,
        "platform_info:1:bytes! attestation_error_code:2:uint32! update_info_size:3:uint32!",
        "platform_update_info:2:bytes",
    ),
    Kind(
        "check_update_status",
        18,
        Family.EPID,
        "platform_info:1:bytes update_info_size:2:uint32! config:3:uint32!",
        "platform_update_info:2:bytes status:3:uint32",
    ),
    Kind("get_whitelist_size", 10, Family.LAUNCH, "", "white_list_size:2:uint32"),
    Kind("get_whitelist", 11, Family.LAUNCH, "white_list_size:1:uint32", "white_list:2:bytes"),
    Kind("get_extended_epid_group_id", 12, Family.EPID, "", "x_group_id:2:uint32"),
    Kind("switch_extended_epid_group", 13, Family.EPID, "x_group_id:1:uint32", ""),
    Kind("register_whitelist", 14, Family.LAUNCH, "buf:1:bytes! data_type:2:uint32!", ""),
    Kind(
        "init_quote_ex",
        15,
        Family.DCAP,
        "att_key_id:1:bytes b_pub_key_id:3:bool! buf_size:4:uint64",
        "target_info:2:bytes pub_key_id_size:3:uint64 pub_key_id:4:bytes",
    ),
    Kind("get_quote_size_ex", 16, Family.DCAP, "att_key_id:1:bytes", "quote_size:2:uint32"),
    Kind(
        "get_quote_ex",
        17,
        Family.DCAP,
        "report:1:bytes! att_key_id:2:bytes qe_report_info:3:bytes buf_size:4:uint32!",
        "quote:2:bytes qe_report_info:3:bytes",
    ),
    Kind(
        "select_att_key_id",
        19,
        Family.DCAP,
        "att_key_id_list:1:bytes",
        "selected_att_key_id:2:bytes",
        timeout=2,
    ),
    Kind("get_supported_att_key_id_num", 21, Family.DCAP, "", "att_key_id_num:2:uint32"),
    Kind("get_supported_att_key_ids", 22, Family.DCAP, "buf_size:1:uint32!", "att_key_ids:2:bytes"),
)


def _classes() -> tuple[Any, Any]:
    """Return the classes of requests and answers."""
    file = descriptor_pb2.FileDescriptorProto(
        name="ensconce/aesm.proto", package=_PACKAGE, syntax="proto2"
    )
    request, response = (file.message_type.add(name=name) for name in ("Request", "Response"))
    for kind in KINDS:
        _add(request, kind, f"{kind.asks} timeout:{kind.timeout}:uint32")
        _add(response, kind, f"{_ERROR} {kind.answers}")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    made = (pool.FindMessageTypeByName(f"{_PACKAGE}.{side.name}") for side in (request, response))
    first, second = map(message_factory.GetMessageClass, made)
    return first, second


def _add(outer: descriptor_pb2.DescriptorProto, kind: Kind, fields: str) -> None:
    """Add a kind's message, and the field that holds it."""
    inner = outer.nested_type.add(name=f"{kind.name}_fields")
    for text in fields.split():
        name, number, type_ = text.split(":")
        field = inner.field.add(name=name, number=int(number), type=_TYPES[type_.rstrip("!")])
        required = type_.endswith("!")
        field.label = _Field.LABEL_REQUIRED if required else _Field.LABEL_OPTIONAL
        if text == _ERROR:
            field.default_value = _ERROR_DEFAULT
    outer.field.add(
        name=kind.name,
        number=kind.number,
        type=_Field.TYPE_MESSAGE,
        type_name=f".{_PACKAGE}.{outer.name}.{inner.name}",
        label=_Field.LABEL_OPTIONAL,
    )


Request, Response = _classes()
