# SPDX-License-Identifier: Apache-2.0
"""The image of ensconce itself: one for the node agent, AESM, PCCS and webhook.

Three layers, by how often they change: Debian's files, Python packages, ensconce. Each is kept in
the cache by the hash of all that it is made of, so a change of ensconce's own code builds only
the last one. The image's own Python compiles, so that no start of a container has to.
"""

import hashlib
import logging
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import ensconce
from ensconce.errors import ConfigError
from ensconce.oci.archive import Image, Layer, build_time, write_archive
from ensconce.oci.base import COMMON, SHARED, components_of, is_wanted
from ensconce.oci.cache import images_cache, kept_layer
from ensconce.oci.debian import Package, find_packages, root_tree
from ensconce.oci.sbom import Component, bill_of_materials
from ensconce.oci.tree import Tree, write_tar
from ensconce.sdk.host_libraries import host_libraries

__all__ = ["LIBRARIES", "platform_image", "write_release_image"]

_log = logging.getLogger(__name__)

LIBRARIES = "opt/ensconce/lib"  # the host libraries, which a node agent hands to pods

_EXTRAS = ("aesm", "kube", "ratls", "server")
_VERSION = "3.11"  # Debian 12's Python
_PYTHON = f"usr/bin/python{_VERSION}"
_SITE = f"usr/local/lib/python{_VERSION}/dist-packages"
_SBOM = "usr/share/sbom/ensconce.cdx.json"
_LOADER = "usr/lib64/ld-linux-x86-64.so.2"
_MANYLINUX = (5, 12, 17, 24, 26, 27, 28, 31, 34, 35, 36)  # glibc 2.x; Debian 12 has 2.36
_PACKAGES = (
    *COMMON,
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "liblzma5",
    f"libpython{_VERSION}-minimal",
    f"libpython{_VERSION}-stdlib",
    "libsqlite3-0",
    "libssl3",
    "libuuid1",
    f"python{_VERSION}-minimal",
    "zlib1g",
)
_UNWANTED = re.compile(
    rf"""usr/lib/python{_VERSION}/(
      (curses|distutils|ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo|unittest)/
      |config-|turtle\.py|pydoc\.py|doctest\.py
      |lib-dynload/(_crypt|_curses|_dbm|_test|_tkinter|_xx|nis|ossaudiodev|readline|xx)
    )""",
    re.VERBOSE,
)
_ROOTS = (_PYTHON, f"usr/lib/python{_VERSION}/")
# Creating clusters (extra `alibabacloud`) is a person's work and not a container's.
_SMOKE = """
import importlib, pkgutil, ensconce
for each in pkgutil.walk_packages(ensconce.__path__, "ensconce."):
    if each.name.endswith(".__main__"):  # to import it is to run it
        continue
    try:
        if ".migrations" not in each.name:
            importlib.import_module(each.name)
    except ModuleNotFoundError as error:
        if not error.name.startswith("alibabacloud"):
            raise
"""
# Sources and libraries for enclaves' builds, for which an image has no compiler.
_FOR_COMPILERS = ("__pycache__", "host", "prebuilt", "skeleton", "tree", "trusted")
_LAUNCHER = f"#!/{_PYTHON} -I\nfrom ensconce.cli import main\n\nmain()\n"


def write_release_image(checkout: Path = Path(), folder: Path = Path("dist")) -> Path:
    """Build the image of a release and return its archive, in `folder`."""
    image = platform_image(checkout)
    output = folder / f"ensconce-{ensconce.__version__}.oci.tar"
    digest = write_archive(image, output, build_time())
    _log.info("%s: %s, %d bytes, %s", output, image.name, output.stat().st_size, digest)
    return output


def platform_image(checkout: Path) -> Image:
    """Return the image of the ensconce that runs, whose `checkout` has its pinned requirements.

    Raises ConfigError for what is missing, ToolchainError where the host libraries can't be built.
    """
    when = build_time()
    packages = find_packages(_PACKAGES, images_cache() / "debs")
    base, root = kept_layer(
        "Debian packages", when, [p.digest for p in packages], lambda more: _base(packages, more)
    )
    pins = (checkout / "constraints.txt").read_text()
    wanted = _requirements(checkout)
    wheels, site = kept_layer(
        "Python packages",
        when,
        [base.diff_id, pins, *wanted],
        lambda more: _wheels(wanted, checkout / "constraints.txt", root, more),
    )
    components = components_of(packages)
    components += [Component("pypi", each.name, each.version) for each in _installed(site)]
    bill = bill_of_materials("ensconce", ensconce.__version__, components)
    own = _own(bill)
    top, unpacked = kept_layer(
        "ensconce", when, [wheels.diff_id, _tree_hash(own)], lambda more: _compiled(own, root, more)
    )
    _python(root, (unpacked / _SITE, site / _SITE), "-c", _SMOKE)
    return _image((base, wheels, top))


def _image(layers: Sequence[Layer]) -> Image:
    """Return the image of these layers."""
    version = ensconce.__version__
    return Image(
        f"ensconce:{version}",
        layers,
        entrypoint=("/usr/bin/ensconce",),
        environment={
            "PATH": "/usr/local/bin:/usr/bin",
            "SSL_CERT_FILE": "/etc/ssl/certs/ca-certificates.crt",
        },
        labels={
            "org.opencontainers.image.title": "ensconce",
            "org.opencontainers.image.version": version,
            "org.opencontainers.image.licenses": "Apache-2.0",
        },
        annotations={"dev.ensconce.image.sbom": f"/{_SBOM}"},
    )


def _base(packages: Sequence[Package], more: Path) -> Tree:
    """Return Debian's part, compiled; keep it unpacked, since its Python is needed again."""
    _log.info("unpacking %d Debian packages", len(packages))
    files = root_tree(packages, _is_wanted)
    files.link("usr/bin/python3", f"python{_VERSION}")
    files.folder(_SITE)
    files.extract(more)
    _compile(more, more, f"usr/lib/python{_VERSION}")
    _add_compiled(files, more, f"usr/lib/python{_VERSION}")
    return files


def _is_wanted(path: str) -> bool:
    """Tell whether a file of a Debian package is of use here."""
    return is_wanted(path) or (path.startswith(_ROOTS) and not _UNWANTED.match(path))


def _requirements(checkout: Path) -> list[str]:
    """Return what the commands of the image need."""
    try:
        project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
        extras = project["optional-dependencies"]
        return sorted(
            {*project["dependencies"], *(each for name in _EXTRAS for each in extras[name])}
        )
    except (FileNotFoundError, KeyError) as error:
        raise ConfigError(f"{checkout} is no checkout of ensconce: it lacks {error}") from error


def _wheels(wanted: Sequence[str], pins: Path, root: Path, more: Path) -> Tree:
    """Return the Python packages, compiled; only wheels, so nothing of theirs runs here."""
    _log.info("installing Python packages")
    site = more / _SITE
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--isolated", "install"]
    command += ["--quiet", "--no-compile", "--only-binary=:all:", f"--python-version={_VERSION}"]
    command += ["--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none"]
    command += [f"--platform=manylinux_2_{minor}_x86_64" for minor in reversed(_MANYLINUX)]
    command += ["--platform=manylinux2014_x86_64", "--root-user-action=ignore"]
    command += [f"--target={site}", f"--constraint={pins}", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # no shell
    if done.returncode:
        raise ConfigError(f"pip can't install the Python packages: {done.stderr.strip()}")
    pinned = {
        line.split("==")[0].strip().lower().replace("_", "-")
        for line in pins.read_text().splitlines()
    }
    loose = [
        each.name for each in _installed(more) if each.name.lower().replace("_", "-") not in pinned
    ]
    if loose:
        raise ConfigError(
            f"{pins} has no versions for {', '.join(loose)}, which the image needs: add them"
        )
    shutil.rmtree(site / "bin", ignore_errors=True)
    for record in site.glob("*.dist-info"):
        for name in ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json"):
            (record / name).unlink(missing_ok=True)
    _compile(root, more, _SITE)
    files = Tree()
    files.copy(site, _SITE)
    return files


def _installed(more: Path) -> list[metadata.Distribution]:
    """Return the Python packages in an unpacked layer."""
    return sorted(
        metadata.distributions(path=[str(more / _SITE)]), key=lambda each: each.name.lower()
    )


def _own(bill: bytes) -> Tree:
    """Return ensconce's own files, not yet compiled."""
    files = Tree()
    package = Path(ensconce.__file__).parent
    files.copy(package, f"{_SITE}/ensconce", lambda path: path.name not in _FOR_COMPILERS)
    files.file("usr/bin/ensconce", _LAUNCHER.encode(), program=True)
    files.file(_SBOM, bill)
    files.copy(host_libraries(python=""), LIBRARIES)
    return files


def _tree_hash(files: Tree) -> str:
    """Return a hash of all there is in a tree."""
    return hashlib.sha256(write_tar(files, 0)).hexdigest()


def _compiled(files: Tree, root: Path, more: Path) -> Tree:
    """Return files with the compiled form of their Python modules."""
    _log.info("compiling ensconce")
    files.extract(more)
    _compile(root, more, f"{_SITE}/ensconce")
    _add_compiled(files, more, f"{_SITE}/ensconce")
    return files


def _add_compiled(files: Tree, more: Path, folder: str) -> None:
    """Add the compiled modules below a folder to the tree that was written to `more`."""
    for each in sorted((more / folder).rglob("*.pyc")):
        files.file(str(each.relative_to(more)), each.read_bytes())


def _compile(root: Path, more: Path, folder: str) -> None:
    """Compile modules with the image's Python, as they lie in a container.

    They carry no times and are taken without a look at their sources, which nobody changes there.
    """
    options = ("-q", "-f", "--invalidation-mode=unchecked-hash", "-s", str(more), "-p", "/")
    _python(root, [], "-m", "compileall", *options, str(more / folder))


def _python(root: Path, path: Sequence[Path], *arguments: str) -> str:
    """Run the Python of an unpacked image outside any container, through its own loader."""
    libraries = f"{root / SHARED}"
    environment = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": os.pathsep.join(map(str, path))}
    environment |= {"PYTHONHASHSEED": "0"}
    command = [str(root / _LOADER), "--library-path", libraries, str(root / _PYTHON), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603  # no shell
    if done.returncode:
        raise ConfigError(f"the image's Python failed: {(done.stdout + done.stderr).strip()}")
    return done.stdout
