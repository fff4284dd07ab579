# SPDX-License-Identifier: Apache-2.0
"""Name what an image is made of, as CycloneDX 1.5 in JSON."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

__all__ = ["Component", "bill_of_materials"]


@dataclass(frozen=True, slots=True, order=True)
class Component:
    """A package: `kind` is its package URL's type, `deb` or `pypi`; `sha256` in hex, if known."""

    kind: str
    name: str
    version: str
    sha256: str = ""

    @property
    def url(self) -> str:
        """The package URL."""
        place = "deb/debian" if self.kind == "deb" else self.kind
        return f"pkg:{place}/{quote(self.name)}@{quote(self.version, safe='.~+')}"


def bill_of_materials(name: str, version: str, components: Iterable[Component]) -> bytes:
    """Return the bill of materials of an image; the same components give the same bytes."""
    listed = [
        {"type": "library", "name": each.name, "version": each.version, "purl": each.url}
        | ({"hashes": [{"alg": "SHA-256", "content": each.sha256}]} if each.sha256 else {})
        for each in sorted(components)
    ]
    document = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": name, "version": version}},
        "components": listed,
    }
    return json.dumps(document, sort_keys=True, indent=1).encode()
