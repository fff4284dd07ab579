# SPDX-License-Identifier: Apache-2.0
"""Put the host libraries where containers of an emulated node have them mounted from.

Programs that run keep the files they have open: each file is put in place whole, under its name.
"""

import shutil
from pathlib import Path

from ensconce.errors import ConfigError

__all__ = ["install_libraries"]


def install_libraries(source: Path, target: Path) -> list[str]:
    """Make `target` hold what `source` does; return the names of files that had to change.

    Raises ConfigError where the source has no host library, OSError.
    """
    names = sorted(path.name for path in source.glob("lib*.so*"))
    if "libsgx_urts.so.2" not in names:
        raise ConfigError(
            f"{source} holds no libsgx_urts.so.2, so pods on this emulated node could not start "
            "enclaves; name the folder of the host libraries by --libraries"
        )
    target.mkdir(mode=0o755, parents=True, exist_ok=True)
    target.chmod(0o755)  # whatever the umask: containers read it as any user
    changed = [name for name in names if _put(source / name, target / name)]
    for old in target.iterdir():
        if old.name not in names:
            old.unlink()
            changed.append(old.name)
    return changed


def _put(source: Path, target: Path) -> bool:
    """Put one file or link in place; return whether it was another before."""
    link = source.readlink() if source.is_symlink() else None
    if target.is_symlink() != source.is_symlink() or not target.exists():
        same = False
    elif link is not None:
        same = target.readlink() == link
    else:
        same = target.read_bytes() == source.read_bytes()
    if same:
        return False
    draft = target.with_name(f".{target.name}.new")
    draft.unlink(missing_ok=True)
    if link is not None:
        draft.symlink_to(link)
    else:
        shutil.copyfile(source, draft)
        draft.chmod(0o755)
    draft.rename(target)
    return True
