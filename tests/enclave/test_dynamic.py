# SPDX-License-Identifier: Apache-2.0
"""Pages that an enclave adds, changes and removes while it runs."""

from collections.abc import Callable

import pytest

from ensconce.enclave import Enclave
from ensconce.errors import OcallError

Start = Callable[..., Enclave]


def test_pages_are_added_restricted_trimmed_and_removed(start: Start) -> None:
    enclave = start()
    for _ in range(2):
        assert enclave.dynamic(0x800000, 5) == 0


def test_a_range_outside_the_enclave_is_refused_to_the_runtime(start: Start) -> None:
    enclave = start()
    assert enclave.dynamic(enclave.secs.size, 1) == 1
    assert enclave.dynamic(0x800000, 1 << 40) == 1
    assert enclave.add(1, 2) == 3


def test_requests_of_runtimes_for_an_older_driver_are_named(start: Start) -> None:
    with pytest.raises(OcallError, match=r"OCALL -2, .* older than Linux 5.11"):
        start().converse(-2, 0)
