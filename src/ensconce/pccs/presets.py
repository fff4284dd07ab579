# SPDX-License-Identifier: Apache-2.0
"""Upstreams that are known by name, as data."""

import re
from dataclasses import dataclass

from ensconce.errors import ConfigError

__all__ = ["PRESETS", "Preset", "preset"]

_REGION = re.compile("[a-z0-9]{1,20}(?:-[a-z0-9]{1,20}){0,4}")


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of upstream. `url` ends in the version; {region} in it is filled in.

    `lists_pcks`: it tells all PCK certificates of a platform (a PCS), not just the one for a TCB
    (a PCCS). `root_crl`: where the root's CRL is, relative to the URL or absolute.
    """

    name: str
    url: str
    lists_pcks: bool
    root_crl: str = "rootcacrl"
    about: str = ""


PRESETS = {
    one.name: one
    for one in (
        Preset(
            "intel",
            "https://api.trustedservices.intel.com/sgx/certification/v4/",
            lists_pcks=True,
            root_crl="https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
            about="Intel's PCS; PCK certificates need an API key",
        ),
        Preset(
            "alibaba",
            "https://sgx-dcap-server.{region}.aliyuncs.com/sgx/certification/v4/",
            lists_pcks=False,
            about="Alibaba Cloud's PCCS of a region, from the internet",
        ),
        Preset(
            "alibaba-vpc",
            "https://sgx-dcap-server-vpc.{region}.aliyuncs.com/sgx/certification/v4/",
            lists_pcks=False,
            about="Alibaba Cloud's PCCS of a region, from within its VPC",
        ),
        Preset(
            "azure",
            "https://global.acccache.azure.net/sgx/certification/v4/",
            lists_pcks=False,
            about="Azure's cache for its own machines",
        ),
        Preset("pcs", "", lists_pcks=True, about="another PCS, such as a test PCS, by its URL"),
        Preset("pccs", "", lists_pcks=False, about="another PCCS, by its URL"),
    )
}


def preset(name: str, *, region: str = "", url: str = "") -> Preset:
    """Return a preset with its URL filled in; `url` is instead of the preset's own."""
    found = PRESETS.get(name)
    if found is None:
        raise ConfigError(f"the upstream {name!r} is none of {', '.join(PRESETS)}")
    if not url and "{region}" in found.url and not _REGION.fullmatch(region):
        raise ConfigError(
            f"the upstream {name} is regional and {region!r} is no region; give one like "
            "cn-hangzhou, which the machine's metadata service names"
        )
    if not url and not found.url:
        raise ConfigError(f"the upstream {name} has no URL of its own; give one")
    place = (url or found.url.format(region=region)).rstrip("/") + "/"
    if not place.startswith(("https://", "http://")) or "/certification/v4/" not in place:
        raise ConfigError(
            f"{place!r} is no URL of a PCS or PCCS; they end in /sgx/certification/v4/"
        )
    return Preset(found.name, place, found.lists_pcks, found.root_crl, found.about)
