# SPDX-License-Identifier: Apache-2.0
"""What an image stands on: Debian's C and C++ libraries and little else, or another image."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ensconce.oci.archive import GZIP_LAYER, Layer
from ensconce.oci.cache import images_cache, kept_layer
from ensconce.oci.debian import Package, find_packages, root_tree
from ensconce.oci.reading import open_archive
from ensconce.oci.sbom import Component
from ensconce.oci.tar import MemberKind
from ensconce.oci.tree import Tree

__all__ = ["COMMON", "SHARED", "Base", "components_of", "debian_base", "is_wanted", "stored_base"]

_log = logging.getLogger(__name__)

_DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

COMMON = ("base-files", "ca-certificates", "libc6", "libgcc-s1", "libstdc++6")
SHARED = "usr/lib/x86_64-linux-gnu"

# What programs in a container have no use for: 8 MB of conversions for iconv, debugging aids, …
_UNWANTED = re.compile(
    rf"{SHARED}/(gconv/|perl|libmvec|libmemusage|libpcprofile|libc_malloc_debug|libnsl"
    r"|libnss_hesiod|libnss_compat|libthread_db|libBrokenLocale|libexpatw|engines)"
)
_WANTED = (f"{SHARED}/", "usr/lib64/", "etc/os-release", "usr/lib/os-release")


@dataclass(frozen=True, slots=True)
class Base:
    """Layers to build on, what is in them, and the files of theirs that may be libraries.

    `complete` is whether `libraries` are all there are.
    """

    layers: tuple[Layer, ...]
    components: tuple[Component, ...]
    libraries: frozenset[str]
    environment: dict[str, str]
    complete: bool = True


def is_wanted(path: str) -> bool:
    """Tell whether a file of a Debian package is of use to programs in a container."""
    return path.startswith(_WANTED) and not _UNWANTED.match(path)


def debian_base(more: Sequence[str], when: int) -> Base:
    """Return a base of Debian packages, the C and C++ libraries and `more` of that name.

    Packages that those need come only if they are named too. Raises ConfigError.
    """
    packages = find_packages(sorted({*COMMON, *more}), images_cache() / "debs")

    def make(folder: Path) -> Tree:
        _log.info("unpacking %d Debian packages", len(packages))
        extra = set(more)
        files = Tree()
        for package in packages:
            part = root_tree([package], (lambda _: True) if package.name in extra else is_wanted)
            files.update(part)
        (folder / "libraries").write_text("\n".join(_libraries(files)))
        return files

    layer, folder = kept_layer(
        "Debian packages", when, [*more, *(each.digest for each in packages)], make
    )
    return Base(
        (layer,),
        tuple(components_of(packages)),
        frozenset((folder / "libraries").read_text().splitlines()),
        {
            "PATH": "/usr/local/bin:/usr/bin",
            "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        },
    )


def components_of(packages: Sequence[Package]) -> list[Component]:
    """Return packages as parts of a bill of materials."""
    return [Component("deb", each.name, each.version, each.digest) for each in packages]


def stored_base(path: Path) -> Base:
    """Return the image in a layout or archive as a base; raise FormatError for what is none."""
    with open_archive(path) as archive:
        image = archive.image()
        libraries = {
            member.path.rsplit("/", 1)[-1]
            for layer in image.layers
            if layer.readable
            for member in archive.files(layer)
            if member.kind in (MemberKind.FILE, MemberKind.LINK)
        }
        layers = tuple(
            Layer(archive.blob(each), each.diff_id, _oci_type(each.media_type), "the base image")
            for each in image.layers
        )
    return Base(
        layers,
        (Component("oci", image.name or path.name, image.digest),),
        frozenset(libraries),
        dict(image.environment),
        complete=all(layer.readable for layer in image.layers),
    )


def _libraries(files: Tree) -> list[str]:
    """Return the names of all files and links."""
    return sorted({path.rsplit("/", 1)[-1] for path in files.entries})


def _oci_type(media_type: str) -> str:
    """Return OCI's name for a layer's type where Docker has another for the same."""
    return GZIP_LAYER if media_type == _DOCKER_LAYER else media_type
