# SPDX-License-Identifier: Apache-2.0
"""The platform's identity: made once, private, recoverable."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensconce.errors import ConfigError, FormatError
from ensconce.machine.identity import (
    Identity,
    default_path,
    load,
    load_or_create,
    recover,
    save,
)

IDENTITIES = st.builds(
    Identity,
    *(st.binary(min_size=size, max_size=size) for size in (16, 16, 16, 32, 16)),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "platform"


@given(identity=IDENTITIES)
def test_an_identity_survives_its_file(identity: Identity) -> None:
    assert Identity.parse(bytes(identity)) == identity


def test_an_identity_is_made_once_and_kept(path: Path) -> None:
    assert load_or_create(path) == load_or_create(path) == load(path)


def test_the_file_and_its_folder_are_the_owners_alone(path: Path) -> None:
    load_or_create(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_ask_at_once_get_one_identity(path: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        made = set(pool.map(load_or_create, [path] * 16))
    assert len(made) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_file_that_others_may_use_is_refused(path: Path, mode: int) -> None:
    load_or_create(path)
    path.chmod(mode)
    with pytest.raises(ConfigError, match="others may read or write"):
        load(path)


def test_a_folder_that_others_may_write_is_refused(path: Path) -> None:
    load_or_create(path)
    path.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="written by others"):
        load(path)


def test_a_symbolic_link_is_refused(path: Path) -> None:
    load_or_create(path)
    link = path.with_name("link")
    link.symlink_to(path)
    with pytest.raises(ConfigError, match="not a link"):
        load(link)


def test_a_pipe_is_refused_without_waiting_for_it(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    os.mkfifo(path, 0o600)
    with pytest.raises(ConfigError, match="not a plain file"):
        load(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b'{"ensconce_platform": 2}',
        b'{"ensconce_platform": 1}',
        b"[" * 5000,
        b" " * 9000,
        bytes(Identity.generate())[:-4] + b', "more": 1}',
        bytes(Identity.generate()).replace(b'"seal_fuses": "', b'"seal_fuses": "zz'),
    ],
)
def test_a_malformed_file_is_refused_and_left_as_it_is(path: Path, text: bytes) -> None:
    path.parent.mkdir(mode=0o700)
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(FormatError):
        load_or_create(path)
    assert path.read_bytes() == text


def test_an_import_overwrites_only_when_told_to(path: Path) -> None:
    load_or_create(path)
    other = Identity.parse(bytes(Identity.generate()))
    with pytest.raises(ConfigError, match="already"):
        save(path, other)
    save(path, other, overwrite=True)
    assert load(path) == other


def test_an_export_says_that_it_holds_secrets() -> None:
    assert b"secret keys" in bytes(Identity.generate())


def test_an_identitys_text_form_hides_the_keys() -> None:
    identity = Identity.generate()
    assert identity.seal_fuses.hex() not in repr(identity)
    assert "fuses" not in repr(identity)
    assert "owner_epoch" not in repr(identity)


def test_a_recovery_raises_cpusvn_and_keeps_the_fuses(path: Path) -> None:
    old = load_or_create(path)
    new = recover(path)
    assert load(path) == new
    assert new.cpu_svn[0] == old.cpu_svn[0] + 1
    assert (new.seal_fuses, new.platform_id) == (old.seal_fuses, old.platform_id)


@pytest.mark.parametrize("change", [b"\x04" * 15, bytes(16), None])
def test_a_recovery_never_lowers_cpusvn(path: Path, change: bytes | None) -> None:
    identity = load_or_create(path)
    with pytest.raises(ConfigError, match="TCB recovery"):
        recover(path, identity.cpu_svn if change is None else change)


def test_secrets_differ_by_label_and_by_platform() -> None:
    one, other = Identity.generate(), Identity.generate()
    assert len({one.secret(b"a"), one.secret(b"b"), other.secret(b"a")}) == 3
    assert one.secret(b"a", 80)[:32] == one.secret(b"a")


def test_the_path_comes_from_the_environment() -> None:
    assert default_path({"ENSCONCE_PLATFORM": "/a/b"}) == Path("/a/b")
    assert default_path({"XDG_STATE_HOME": "/s"}) == Path("/s/ensconce/platform")
    assert default_path({}) == Path.home() / ".local/state/ensconce/platform"


def test_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="can't hold a platform identity"):
        load_or_create(tmp_path / "file" / "platform")
