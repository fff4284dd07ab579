# SPDX-License-Identifier: Apache-2.0
"""Read images of strangers: OCI image layouts in a folder or an archive, everything checked.

Nothing is unpacked to disk. A blob is believed only if its bytes have the digest by which they
were asked for, and no size that a file states is trusted beyond the limits here.
"""

import hashlib
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ensconce.errors import FormatError
from ensconce.oci.archive import CONFIG_TYPE, INDEX_TYPE, MANIFEST_TYPE
from ensconce.oci.tar import MemberKind, Readable, TarWalk

__all__ = ["Archive", "StoredImage", "StoredLayer", "open_archive"]

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MANIFESTS = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
_INDEXES = (INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json")
_CONFIGS = (CONFIG_TYPE, "application/vnd.docker.container.image.v1+json")
_NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
_MAX_ARCHIVE = 16 << 30
_MAX_LAYER = 16 << 30  # unpacked
_MAX_JSON = 4 << 20
_MAX_LAYERS = 128
_MAX_DEPTH = 3
_PIECE = 1 << 20

_Place = tuple[BinaryIO | Path, int, int]  # where bytes are: a file, from where, how many


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer's place in an archive: what it is, and the digest of what it unpacks to."""

    digest: str
    size: int
    media_type: str
    diff_id: str

    @property
    def readable(self) -> bool:
        """Whether its files can be looked at here: not with Zstandard, nor encrypted."""
        return self.media_type.endswith((".tar", "+gzip", ".gzip"))


@dataclass(frozen=True, slots=True)
class StoredImage:
    """An image for linux/amd64: its name, if it says one, and how containers are started."""

    name: str
    digest: str
    config_digest: str
    layers: tuple[StoredLayer, ...]
    annotations: Mapping[str, str]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    user: str
    folder: str


class Archive:
    """An image layout: `places` are where each file's bytes are, of a folder or in one archive."""

    def __init__(self, source: str, places: Mapping[str, _Place]) -> None:
        self.source = source
        self._places = places

    def fault(self, what: str) -> FormatError:
        """Return the error that says what is wrong with the archive."""
        return FormatError(f"{self.source} is no usable OCI image: {what}", source=self.source)

    def image(self) -> StoredImage:
        """Return the one image for linux/amd64 in the archive."""
        index = _Json(self, "index.json", self._document("index.json"))
        descriptor, name = self._find(index, 0)
        manifest = self._json(descriptor, "the manifest")
        config_at = manifest.part("config")
        if config_at.text("mediaType") not in _CONFIGS:
            raise self.fault(f"its configuration is of type {config_at.text('mediaType')!r}")
        config = self._json(config_at, "the configuration")
        started = config.part("config")
        return StoredImage(
            name=name,
            digest=self._digest(descriptor),
            config_digest=self._digest(config_at),
            layers=self._layers(manifest, config),
            annotations=manifest.texts("annotations"),
            entrypoint=started.list_of_texts("Entrypoint"),
            command=started.list_of_texts("Cmd"),
            environment=_environment(started.list_of_texts("Env")),
            labels=started.texts("Labels"),
            user=started.text("User"),
            folder=started.text("WorkingDir"),
        )

    def blob(self, layer: StoredLayer) -> bytes:
        """Return a layer as it travels, after a look at its digest."""
        return self._blob(layer.digest, layer.size)

    def files(self, layer: StoredLayer) -> TarWalk:
        """Return a walk over a layer's files, whose blob is checked first."""
        stream: Readable = io.BytesIO(self.blob(layer))
        if not layer.media_type.endswith(".tar"):
            stream = _Gunzip(stream, self)
        return TarWalk(stream, f"{self.source}, layer {layer.digest[7:19]}", _MAX_LAYER)

    def _find(self, index: "_Json", depth: int) -> tuple["_Json", str]:
        """Return the descriptor of the manifest for this platform, and the image's name."""
        fitting = [each for each in index.parts("manifests") if _fits(each)]
        if len(fitting) != 1:
            raise self.fault(f"it holds {len(fitting)} images for linux/amd64 and should hold one")
        annotations = fitting[0].texts("annotations")
        name = next((annotations[key] for key in _NAMES if key in annotations), "")
        media_type = fitting[0].text("mediaType")
        if media_type in _MANIFESTS:
            return fitting[0], name
        if media_type not in _INDEXES or depth == _MAX_DEPTH:
            raise self.fault(f"it points to something of type {media_type!r}")
        found, inner = self._find(self._json(fitting[0], "an index"), depth + 1)
        return found, name or inner

    def _layers(self, manifest: "_Json", config: "_Json") -> tuple[StoredLayer, ...]:
        """Return the layers, each with what the configuration says it unpacks to."""
        descriptors = manifest.parts("layers")
        diff_ids = config.part("rootfs").list_of_texts("diff_ids")
        if len(descriptors) != len(diff_ids) or len(descriptors) > _MAX_LAYERS:
            raise self.fault(f"it has {len(descriptors)} layers and names {len(diff_ids)}")
        if not all(_DIGEST.fullmatch(each) for each in diff_ids):
            raise self.fault("its configuration names a layer by something that is no SHA-256")
        return tuple(
            StoredLayer(self._digest(each), each.number("size"), each.text("mediaType"), diff_id)
            for each, diff_id in zip(descriptors, diff_ids, strict=True)
        )

    def _digest(self, descriptor: "_Json") -> str:
        """Return a descriptor's digest."""
        digest = descriptor.text("digest")
        if not _DIGEST.fullmatch(digest):
            raise self.fault(f"it names a blob {digest!r}, which is no SHA-256")
        return digest

    def _json(self, descriptor: "_Json", what: str) -> "_Json":
        """Return the document that a descriptor points to."""
        size = descriptor.number("size")
        if size > _MAX_JSON:
            raise self.fault(f"{what} has {size} bytes")
        return _Json(self, what, self._blob(self._digest(descriptor), size))

    def _blob(self, digest: str, size: int) -> bytes:
        """Return a blob of the digest and size that it should have."""
        content = self._content(f"blobs/{digest.replace(':', '/')}", _MAX_ARCHIVE)
        if len(content) != size or f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise self.fault(f"the blob {digest} was changed or cut")
        return content

    def _document(self, path: str) -> bytes:
        """Return a small file at the top of the layout."""
        return self._content(path, _MAX_JSON)

    def _content(self, path: str, most: int) -> bytes:
        """Return a file of the layout."""
        if path not in self._places:
            raise self.fault(f"it has no {path}")
        place, offset, size = self._places[path]
        if size > most:
            raise self.fault(f"{path} has {size} bytes")
        if isinstance(place, Path):
            return place.read_bytes()
        place.seek(offset)
        return place.read(size)


@contextmanager
def open_archive(path: Path | BinaryIO, source: str = "") -> Iterator[Archive]:
    """Open a folder or an archive that has an OCI image layout; raise FormatError for others."""
    source = source or str(path)
    if not isinstance(path, Path):
        yield Archive(source, _members(path, source))
    elif path.is_dir():
        yield Archive(source, _files_of(path))
    else:
        with path.open("rb") as stream:
            yield Archive(source, _members(stream, source))


def _files_of(folder: Path) -> dict[str, _Place]:
    """Return where the files of a layout in a folder are; it has no use for links."""
    files = [folder / "index.json", *(folder / "blobs" / "sha256").glob("*")]
    there = [each for each in files if each.is_file() and not each.is_symlink()]
    return {str(each.relative_to(folder)): (each, 0, each.stat().st_size) for each in there}


def _members(stream: BinaryIO, source: str) -> dict[str, _Place]:
    """Return where the files of a layout in an archive are."""
    return {
        member.path: (stream, member.offset, member.size)
        for member in TarWalk(stream, source, _MAX_ARCHIVE)
        if member.kind is MemberKind.FILE
    }


@dataclass(frozen=True, slots=True)
class _Json:
    """An object of a document; each value is of the type that it is asked for, or a fault."""

    archive: Archive
    what: str
    value: Any

    def __post_init__(self) -> None:
        value = self.value
        if isinstance(value, bytes):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as error:
                raise self.archive.fault(f"{self.what} is no JSON") from error
            object.__setattr__(self, "value", value)
        if not isinstance(value, dict):
            raise self.archive.fault(f"{self.what} is no JSON object")

    def _get(self, key: str, kind: type, default: Any) -> Any:
        value = self.value.get(key)
        value = default if value is None else value
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.archive.fault(f"{self.what} has the wrong kind of {key!r}")
        return value

    def text(self, key: str) -> str:
        result: str = self._get(key, str, "")
        return result

    def number(self, key: str) -> int:
        result: int = self._get(key, int, 0)
        if result < 0:
            raise self.archive.fault(f"{self.what} has a negative {key!r}")
        return result

    def part(self, key: str) -> "_Json":
        return _Json(self.archive, f"{key} in {self.what}", self._get(key, dict, {}))

    def parts(self, key: str) -> list["_Json"]:
        what = f"an entry of {key} in {self.what}"
        return [_Json(self.archive, what, each) for each in self._get(key, list, [])]

    def texts(self, key: str) -> dict[str, str]:
        part = self.part(key)
        return {name: part.text(name) for name in part.value}

    def list_of_texts(self, key: str) -> tuple[str, ...]:
        values = self._get(key, list, [])
        if not all(isinstance(each, str) for each in values):
            raise self.archive.fault(f"{self.what} has something other than text in {key!r}")
        return tuple(values)


def _fits(descriptor: _Json) -> bool:
    """Tell whether a descriptor is of an image for linux/amd64; one that says nothing may be."""
    if descriptor.text("mediaType") not in (*_MANIFESTS, *_INDEXES):
        return False
    platform = descriptor.part("platform")
    named = (platform.text("os"), platform.text("architecture"))
    return not platform.value or named == ("linux", "amd64")


def _environment(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the variables of a configuration."""
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


class _Gunzip:
    """A gzip stream's content, of one or more members, unpacked as it is read."""

    def __init__(self, stream: Readable, archive: Archive) -> None:
        self._stream, self._archive = stream, archive
        self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
        self._packed = b""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; fewer at the end."""
        result = bytearray()
        try:
            while len(result) < size and self._refill():
                result += self._inflate.decompress(self._packed, size - len(result))
                self._packed = self._inflate.unconsumed_tail
        except zlib.error as error:
            raise self._archive.fault(f"a layer is no gzip stream ({error})") from error
        return bytes(result)

    def _refill(self) -> bool:
        """Have something to unpack; return whether there is anything left."""
        if self._inflate.eof:
            self._packed = self._inflate.unused_data or self._stream.read(_PIECE)
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)
            return bool(self._packed)
        self._packed = self._packed or self._stream.read(_PIECE)
        return bool(self._packed)
