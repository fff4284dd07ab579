"""The enclave as its host sees it; `make check` builds it first."""

import array
from collections.abc import Iterator

import host
import pytest
from ensconce.enclave import Enclave, Status


@pytest.fixture
def loaded() -> Iterator[Enclave]:
    with host.load(report=lambda _text: None) as loaded:
        yield loaded


def test_it_greets_and_reports() -> None:
    said: list[str] = []
    with host.load(report=said.append) as loaded:
        assert host.greet(loaded, "Ada") == "Hello, Ada, from inside the enclave."
    assert said == ["Hello, Ada, from inside the enclave."]


def test_it_adds_without_overflow(loaded: Enclave) -> None:
    numbers = array.array("I", [0xFFFFFFFF, 1, 40])
    assert loaded.total(numbers, len(numbers)) == (1 << 32) + 40


def test_null_pointers_do_no_harm(loaded: Enclave) -> None:
    assert loaded.total(None, 3) == 0
    assert loaded.greet(None, None, 128) == Status.INVALID_PARAMETER


def test_a_greeting_that_does_not_fit_is_refused(loaded: Enclave) -> None:
    with pytest.raises(ValueError, match="SGX_ERROR_INVALID_PARAMETER"):
        host.greet(loaded, "x" * 128)
