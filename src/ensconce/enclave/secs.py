# SPDX-License-Identifier: Apache-2.0
"""Choose an enclave's SECS: what the file asks for, what the processor has, what was signed."""

from ensconce.errors import ConfigError, PolicyError, UnsignedError
from ensconce.image import Image
from ensconce.isa.attributes import AttributeFlags, Attributes, MiscSelect, Xfrm
from ensconce.isa.cpuid import CpuidFeatures, SgxCpuid
from ensconce.isa.secs import Secs
from ensconce.isa.sigstruct import SigStruct

__all__ = ["choose_secs"]

_CONFIG_ID_SIZE = 64


def choose_secs(
    image: Image,
    processor: SgxCpuid,
    xcr0: int,
    *,
    base: int = 0,
    debug: bool | None = None,
    config_id: bytes = b"",
    config_svn: int = 0,
) -> Secs:
    """Return the SECS to create `image` with, by the rules of the vendor's loader.

    ATTRIBUTES and XFRM are what the file asks for and the processor has; the bits that
    SIGSTRUCT's masks fix must come out as signed. `debug` None means as SIGSTRUCT fixes it, else
    off. Raises `PolicyError` where the enclave may not run like this, here.
    """
    sigstruct = image.sigstruct
    if sigstruct is None:
        raise UnsignedError(
            f"{image.source} has no SIGSTRUCT; sign it with `ensconce enclave sign`"
        )
    attributes = _attributes(image, sigstruct, processor, xcr0, debug=debug)
    _check_configuration(image, attributes, config_id, config_svn)
    return Secs(
        size=image.size,
        base_addr=base,
        ssa_frame_size=image.ssa_frame_size,
        misc_select=_misc_select(image, sigstruct, processor),
        attributes=attributes,
        config_id=config_id.ljust(_CONFIG_ID_SIZE, b"\0"),
        config_svn=config_svn,
    )


def _attributes(
    image: Image, sigstruct: SigStruct, processor: SgxCpuid, xcr0: int, *, debug: bool | None
) -> Attributes:
    """Return ATTRIBUTES and XFRM."""
    wanted = image.attributes
    flags = wanted.flags & ~AttributeFlags.DEBUG
    if _debug(image, sigstruct, debug=debug):
        flags |= AttributeFlags.DEBUG
    available = processor.attributes.flags
    chosen = Attributes(flags & available, Xfrm(wanted.xfrm & processor.attributes.xfrm & xcr0))
    if chosen.xfrm & Xfrm.LEGACY != Xfrm.LEGACY:
        raise PolicyError(
            f"{image.source} asks for XFRM {int(wanted.xfrm):#x} without x87 and SSE; "
            "sign it again with the vendor's default"
        )
    mask = sigstruct.attribute_mask
    signed = sigstruct.attributes & mask
    if chosen.xfrm & mask.xfrm != signed.xfrm:
        lacking = int(signed.xfrm) & ~int(chosen.xfrm)
        raise PolicyError(
            f"{image.source} was signed for XFRM {int(signed.xfrm):#x} under the mask "
            f"{int(mask.xfrm):#x}, and this processor can give {int(chosen.xfrm):#x} "
            f"({lacking:#x} is missing); run it elsewhere or sign it with a narrower mask"
        )
    if chosen.flags & mask.flags != signed.flags:
        raise PolicyError(
            f"{image.source} was signed for ATTRIBUTES {int(signed.flags):#x} under the mask "
            f"{int(mask.flags):#x}, and would run with {int(chosen.flags):#x} here; the processor "
            f"has {int(available):#x}"
        )
    _check_aex_notify(image, chosen, processor)
    return chosen


def _debug(image: Image, sigstruct: SigStruct, *, debug: bool | None) -> bool:
    """Return whether ATTRIBUTES.DEBUG shall be set, if SIGSTRUCT allows that."""
    fixed = bool(sigstruct.attribute_mask.flags & AttributeFlags.DEBUG)
    signed = bool(sigstruct.attributes.flags & AttributeFlags.DEBUG)
    if debug is None:
        return fixed and signed
    if fixed and debug != signed:
        kind, other = ("debug", "True") if signed else ("production", "False")
        raise PolicyError(
            f"{image.source} is signed as a {kind} enclave only; load it with debug={other}"
        )
    return debug


def _misc_select(image: Image, sigstruct: SigStruct, processor: SgxCpuid) -> MiscSelect:
    """Return MISCSELECT: all that was signed or asked for and the processor has."""
    mask = sigstruct.misc_mask
    chosen = processor.misc_select & (sigstruct.misc_select | image.misc_select)
    if chosen & mask != sigstruct.misc_select & mask:
        raise PolicyError(
            f"{image.source} was signed for MISCSELECT {int(sigstruct.misc_select):#x} under the "
            f"mask {int(mask):#x}, and this processor can give {int(chosen):#x}; sign it again"
        )
    return MiscSelect(chosen)


def _check_aex_notify(image: Image, chosen: Attributes, processor: SgxCpuid) -> None:
    """Refuse AEX-Notify where the vendor's runtime could not use it."""
    if not chosen.flags & AttributeFlags.AEXNOTIFY:
        return
    if not processor.features & CpuidFeatures.EDECCSSA or not chosen.xfrm & Xfrm.AVX:
        raise PolicyError(
            f"{image.source} uses AEX-Notify, which takes EDECCSSA and AVX; this processor lacks "
            "one of them"
        )


def _check_configuration(
    image: Image, attributes: Attributes, config_id: bytes, config_svn: int
) -> None:
    """Check CONFIGID (up to 64 bytes) and CONFIGSVN, which only an enclave with KSS can have."""
    if len(config_id) > _CONFIG_ID_SIZE or not 0 <= config_svn <= 0xFFFF:
        raise ConfigError("config_id takes up to 64 bytes, and config_svn 0 to 65535")
    if (any(config_id) or config_svn) and not attributes.flags & AttributeFlags.KSS:
        raise ConfigError(
            f"{image.source} has no key separation and sharing, so it can't take config_id or "
            "config_svn; sign it with <EnableKSS>1</EnableKSS>"
        )
