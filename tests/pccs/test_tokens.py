# SPDX-License-Identifier: Apache-2.0
"""Tokens: which are accepted, and which can't be set up at all."""

import hashlib

import pytest
from tests.pccs.serving import ADMIN, ADMIN_HASH, USER, USER_HASH

from ensconce.errors import ConfigError
from ensconce.pccs import Settings, TokenHash, hash_token, new_token


@pytest.mark.parametrize("weak", ["", "password", "short-1", "aaaaaaaaaaaaaaaaaaaaaaaa", "é" * 20])
def test_a_weak_token_can_not_be_made(weak: str) -> None:
    with pytest.raises(ConfigError, match="token"):
        hash_token(weak)


def test_a_token_matches_its_hash_alone() -> None:
    token = new_token()
    kept = TokenHash(hash_token(token), "user")
    for _ in range(2):
        assert kept.matches(token)
        assert not kept.matches(token + "x")
        assert not kept.matches("")


def test_the_vendors_hash_is_taken_over() -> None:
    kept = TokenHash(hashlib.sha512(ADMIN.encode()).hexdigest(), "admin")
    assert kept.matches(ADMIN)
    assert not kept.matches(USER)


def test_a_default_password_is_refused_though_hashed() -> None:
    with pytest.raises(ConfigError, match="anybody tries first"):
        TokenHash(hashlib.sha512(b"password").hexdigest(), "admin")


def test_a_weak_token_is_never_accepted_though_its_hash_is_right() -> None:
    assert not TokenHash(hashlib.sha512(b"hunter2").hexdigest(), "admin").matches("hunter2")


@pytest.mark.parametrize(
    "text", ["", "x", "scrypt$3$8$1$" + "0" * 32 + "$" + "0" * 64, "scrypt$99999999$99$9$00$00"]
)
def test_what_is_no_hash_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="hash"):
        TokenHash(text, "admin")


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(user_token_hash=USER_HASH),
        Settings(admin_token_hash=ADMIN_HASH),
        Settings(user_token_hash=USER_HASH, admin_token_hash=USER_HASH),
        Settings(user_token_hash=USER_HASH, admin_token_hash=ADMIN_HASH, read_only=True),
    ],
)
def test_a_pccs_does_not_start_without_both_tokens_unless_read_only(settings: Settings) -> None:
    with pytest.raises(ConfigError, match="token"):
        settings.tokens()


def test_a_read_only_pccs_has_no_tokens() -> None:
    assert Settings(read_only=True).tokens() == (None, None)
