# SPDX-License-Identifier: Apache-2.0
"""The trusted libraries that come with the package, so that users compile only their own code.

`make package` writes them beside this module before it builds the wheel. They are found by the
hash of what they are made of, as those in the cache are, so they are used only as long as nothing
that they depend on has changed.
"""

import shutil
from pathlib import Path

from ensconce.sdk.toolchain import PREBUILT, Toolchain
from ensconce.sdk.toolchain_archives import trusted_archives
from ensconce.sdk.toolchain_crypto import crypto_license

__all__ = ["write_prebuilt"]

# Whose code the libraries hold, and where the toolchain has its terms.
_LICENSES = {
    "musl": "libc/musl/COPYRIGHT",
    "libcxx": "libcxx/LICENSE.TXT",
    "libcxxabi": "libcxxabi/LICENSE.TXT",
    "libunwind": "libunwind/LICENSE.TXT",
}


def write_prebuilt(toolchain: Toolchain | None = None) -> list[Path]:
    """Build every trusted library and copy it into the package, with its authors' terms.

    What was there before goes. Returns the copies. Raises ToolchainError.
    """
    toolchain = Toolchain.find() if toolchain is None else toolchain
    shutil.rmtree(PREBUILT, ignore_errors=True)
    copies = []
    for built in trusted_archives(toolchain):
        copy = PREBUILT / built.parent.name / built.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(built, copy)
        copies.append(copy)
    licenses = PREBUILT / "licenses"
    licenses.mkdir()
    for name, place in _LICENSES.items():
        shutil.copy(toolchain.library / place, licenses / name)
    (licenses / "aws-lc").write_bytes(crypto_license(toolchain))
    return copies
