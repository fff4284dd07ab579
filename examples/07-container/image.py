# SPDX-License-Identifier: Apache-2.0
"""Hello world as a container image: an enclave, two host programs in C, one archive.

Run it with `python image.py [FOLDER]`; no Docker, no registry and no SGX processor are needed.
"""

import sys
import tempfile
from pathlib import Path

import ensconce
from ensconce.edl.files import load_file
from ensconce.oci.application import App, BuiltImage, build_app
from ensconce.sdk.bridges import untrusted_files
from ensconce.sdk.build import build
from ensconce.sdk.host_libraries import host_includes, host_libraries
from ensconce.sdk.sign import load_signing_key, make_signing_key, read_config, sign
from ensconce.sdk.toolchain import Toolchain

HERE = Path(__file__).parent
HELLO = HERE.parent / "01-hello-world"
EDL = HELLO / "enclave.edl"
BUILD = HERE / "build"


def signed_enclave() -> Path:
    """Build and sign hello world's enclave, with this example's own key."""
    path = BUILD / "signing-key.pem"
    key = load_signing_key(path) if path.exists() else make_signing_key(path)
    image = build([HELLO / "enclave.c"], EDL, BUILD / "enclave.so")
    signed = BUILD / "enclave.signed.so"
    sign(image, signed, key, config=read_config(HELLO / "enclave.config.xml"))
    return signed


def host_program(name: str) -> Path:
    """Compile a host program for an old glibc; any C compiler would do."""
    output = BUILD / name
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for file, text in untrusted_files(load_file(EDL)).items():
            (work / file).write_text(text)
        Toolchain.find().run(
            "cc",
            *(
                "-target",
                "x86_64-linux-gnu.2.31",
                "-O2",
                "-g0",
                "-fPIE",
                "-pie",
                "-Wall",
                "-Wextra",
                "-Werror",
            ),
            *(f"-I{place}" for place in (work, *host_includes())),
            HERE / f"{name}.c",
            *sorted(work.glob("*_u.c")),
            *(f"-L{host_libraries()}", "-lsgx_urts", "-o", output),
            task=f"compile {name}.c",
        )
    return output


def write_image(folder: Path) -> BuiltImage:
    """Build everything and write the archive."""
    BUILD.mkdir(exist_ok=True)
    version = ensconce.__version__
    app = App(
        name=f"ensconce-hello-world:{version}",
        program=host_program("hello"),
        enclaves=[signed_enclave()],
        files=[(host_program("attested"), "app/attested")],
    )
    return build_app(app, folder / f"hello-world-{version}.oci.tar")


def main() -> None:
    """Build the image and say who is in it."""
    built = write_image(Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD)
    print(f"{built.archive}: {built.name}, {built.size} bytes, {built.digest}")
    for each in built.enclaves:
        print(f"{each.path}: MRENCLAVE {each.mr_enclave}, MRSIGNER {each.mr_signer}")
    print(f"From the node: {', '.join(built.from_node)}")


if __name__ == "__main__":
    main()
