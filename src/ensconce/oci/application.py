# SPDX-License-Identifier: Apache-2.0
"""The image of a confidential app: its host program, its enclaves, the libraries it needs.

Enclaves are measured and their signatures checked before they go in; who they are is written in
the image's annotations, where a policy finds it without unpacking anything.
"""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ensconce.errors import ConfigError, PolicyError
from ensconce.image import check_image, open_image
from ensconce.oci.archive import Image, build_time, make_layer, write_archive
from ensconce.oci.base import Base, debian_base, stored_base
from ensconce.oci.leaks import find_leaks
from ensconce.oci.linking import missing_libraries
from ensconce.oci.sbom import bill_of_materials
from ensconce.oci.tree import Kind, Tree

__all__ = [
    "ENCLAVES_ANNOTATION",
    "SBOM_ANNOTATION",
    "App",
    "BuiltImage",
    "PackedEnclave",
    "build_app",
    "enclaves_annotation",
    "packed_enclave",
]

_log = logging.getLogger(__name__)

ENCLAVES_ANNOTATION = "dev.ensconce.image.enclaves"
SBOM_ANNOTATION = "dev.ensconce.image.sbom"
_FOLDER = "app"
_LIBRARIES = "usr/lib"  # where the loader looks without being told, and a base has nothing
_SBOM = "usr/share/sbom/app.cdx.json"
_NAME = re.compile(
    r"([a-z0-9][a-z0-9.-]*(:[0-9]+)?/)?([a-z0-9][a-z0-9._-]*/)*[a-z0-9][a-z0-9._-]*"
    r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
)
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_USER = re.compile(r"[0-9]{1,10}(:[0-9]{1,10})?")
_FROM_THE_NODE = ("libsgx_", "libdcap_quoteprov", "libtee_libc")


@dataclass(frozen=True, slots=True)
class App:
    """What goes into an image; `files` are pairs of a source and its path in the image.

    `program` and `enclaves` go to /app, `libraries` where the loader finds them. Without an
    `entrypoint` the program is started. `base` is an OCI layout or archive; without one it is
    Debian's C and C++ libraries and `packages`. `production` refuses enclaves that may be
    debugged. `dangerous_files` are paths in the image that may hold secrets all the same.
    """

    name: str
    program: Path
    enclaves: Sequence[Path]
    libraries: Sequence[Path] = ()
    files: Sequence[tuple[Path, str]] = ()
    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    packages: Sequence[str] = ()
    base: Path | None = None
    user: str = "65532:65532"
    production: bool = False
    dangerous_files: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PackedEnclave:
    """An enclave in an image: where it is and who; `debug` is whether it may be debugged."""

    path: str
    mr_enclave: str
    mr_signer: str
    isv_prod_id: int
    isv_svn: int
    debug: bool


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """What was built; sizes in bytes. `from_node` are libraries that only a node brings."""

    name: str
    archive: Path
    size: int
    digest: str
    enclaves: tuple[PackedEnclave, ...]
    from_node: tuple[str, ...]


def build_app(app: App, output: Path) -> BuiltImage:
    """Build an app's image and write it to `output`; the same inputs give the same bytes.

    Raises ConfigError for what can't be packed or lacks libraries, PolicyError for secrets and,
    with `production`, for enclaves that may be debugged, and what `ensconce.image` raises for
    an enclave that is unsigned or not the one that was signed.
    """
    when = build_time()
    _check(app)
    files, enclaves = _files(app)
    leaks = find_leaks(files, frozenset(bytes.fromhex(each.mr_signer) for each in enclaves))
    for path, what in leaks.items():
        if path not in app.dangerous_files:
            raise PolicyError(
                f"/{path} is {what}, and everyone who can pull the image could read it; leave it "
                "out and mount it as a Secret, or release it to the enclave after attestation"
            )
    base = stored_base(app.base) if app.base else debian_base(app.packages, when)
    from_node = _check_libraries(app, files, base)
    name, _, tag = app.name.rpartition(":")
    bill = bill_of_materials(name, tag, base.components)
    files.file(_SBOM, bill)
    _log.info("packing %d files", len(files.entries))
    layer = make_layer(files, when, "app")
    image = Image(
        app.name,
        (*base.layers, layer),
        entrypoint=tuple(app.entrypoint) or (f"/{_FOLDER}/{app.program.name}",),
        command=tuple(app.command),
        environment=base.environment | dict(app.environment),
        labels=app.labels,
        annotations={
            ENCLAVES_ANNOTATION: enclaves_annotation(enclaves),
            SBOM_ANNOTATION: f"/{_SBOM}",
        },
        user=app.user,
        folder=f"/{_FOLDER}",
    )
    digest = write_archive(image, output, when)
    return BuiltImage(app.name, output, output.stat().st_size, digest, tuple(enclaves), from_node)


def packed_enclave(path: str, content: bytes) -> PackedEnclave:
    """Return who an enclave is, once its signature was checked; raise as `build_app` does."""
    report = check_image(open_image(content, source=path))
    return PackedEnclave(
        path,
        report.mr_enclave.hex(),
        report.mr_signer.hex(),
        report.isv_prod_id,
        report.isv_svn,
        report.debug,
    )


def _check(app: App) -> None:
    """Refuse names that no image, package, variable or user has."""
    for pattern, values, what in (
        (_NAME, [app.name], "image's name with its tag, such as registry.example/app:1"),
        (_PACKAGE, app.packages, "Debian package's name"),
        (_VARIABLE, app.environment, "variable's name"),
        (_USER, [app.user], "user and group in numbers, such as 65532:65532"),
    ):
        for value in values:
            if not pattern.fullmatch(value):
                raise ConfigError(f"{value!r} is no {what}")


def enclaves_annotation(enclaves: Iterable[PackedEnclave]) -> str:
    """Return the annotation that names an image's enclaves, ordered by path."""
    ordered = sorted(enclaves, key=lambda each: each.path)
    return json.dumps([asdict(each) for each in ordered], sort_keys=True)


def _files(app: App) -> tuple[Tree, list[PackedEnclave]]:
    """Return the app's own files, and the enclaves among them."""
    files, enclaves = Tree(), []
    for source, path in app.files:
        _add(files, source, path.strip("/") if path != "/" else source.name)
    for library in app.libraries:
        _add(files, library, f"{_LIBRARIES}/{library.name}")
    for enclave in app.enclaves:
        path = f"{_FOLDER}/{enclave.name}"
        _add(files, enclave, path)
        packed = packed_enclave(f"/{path}", files.entries[path].content)
        if app.production and packed.debug:
            raise PolicyError(
                f"{enclave} may be debugged, so its host can read its memory; sign it with "
                "<DisableDebug>1</DisableDebug>, or build without --production"
            )
        enclaves.append(packed)
    if not app.program.is_file():
        raise ConfigError(f"{app.program} is no file, so it can't be the image's program")
    files.file(f"{_FOLDER}/{app.program.name}", app.program.read_bytes(), program=True)
    return files, enclaves


def _add(files: Tree, source: Path, path: str) -> None:
    """Add a file or folder; a path to a file goes to the file, under the name it was named by."""
    if not source.exists():
        raise ConfigError(f"There is no {source} to put at /{path}")
    if path in files.entries:
        raise ConfigError(f"Two things would be at /{path}: give {source} another place")
    files.copy(source.resolve() if source.is_file() else source, path)


def _check_libraries(app: App, files: Tree, base: Base) -> tuple[str, ...]:
    """Return the libraries that the node has to bring; raise for others that are not there."""
    present = base.libraries | {path.rsplit("/", 1)[-1] for path in files.entries}
    enclaves = {f"{_FOLDER}/{each.name}" for each in app.enclaves}
    programs = {
        path: entry.content
        for path, entry in files
        if entry.kind is Kind.FILE and path not in enclaves
    }
    missing = missing_libraries(programs, present)
    from_node = {each for each in missing if each.startswith(_FROM_THE_NODE)}
    lacking = sorted(missing.keys() - from_node)
    if lacking and base.complete:
        raise ConfigError(
            f"/{missing[lacking[0]]} needs {', '.join(lacking)}, which neither the base nor the "
            "image has; add them with --library, or Debian's package with --package"
        )
    return tuple(sorted(from_node))
