# SPDX-License-Identifier: Apache-2.0
"""Who gets a connection, and who has to go."""

from hypothesis import given
from hypothesis import strategies as st

from ensconce.aesm.endpoint import Peer
from ensconce.aesm.limits import Connections, Limits

LIMITS = Limits(connections=6, per_user=4, per_process=2)


def keep() -> None:
    raise AssertionError("this connection was to stay")


def test_a_process_has_its_share_even_where_there_is_room() -> None:
    connections, dropped = Connections(LIMITS), []
    peer = Peer(1, 1000)
    numbers = [connections.admit(peer, lambda n=n: dropped.append(n)) for n in range(3)]  # type: ignore[misc]
    assert dropped == [0]
    for number in numbers:
        connections.has_read(number or 0)
    assert connections.admit(peer, keep) is None


def test_processes_that_the_kernel_does_not_tell_apart_share_no_quota() -> None:
    connections = Connections(LIMITS)
    assert all(connections.admit(Peer(0, 1000), keep) for _ in range(4))


def test_a_users_many_processes_make_room_among_themselves() -> None:
    connections, dropped = Connections(LIMITS), []
    for pid in range(4):
        connections.admit(Peer(pid, 1000), lambda pid=pid: dropped.append(pid))  # type: ignore[misc]
    assert connections.admit(Peer(9, 1000), keep)
    assert dropped == [0]


def test_the_user_with_most_slow_connections_makes_room_for_others() -> None:
    connections, dropped = Connections(LIMITS), []
    assert connections.admit(Peer(50, 2000), keep)
    for pid in range(4):
        connections.admit(Peer(pid, 1000), lambda pid=pid: dropped.append(pid))  # type: ignore[misc]
    assert connections.admit(Peer(51, 2000), keep)
    assert connections.admit(Peer(60, 3000), keep)
    assert dropped == [0]


def test_whoever_has_sent_a_request_is_not_dropped() -> None:
    connections = Connections(LIMITS)
    numbers = [connections.admit(Peer(pid, pid), keep) for pid in range(6)]
    for number in numbers:
        assert number is not None
        connections.has_read(number)
    assert connections.admit(Peer(9, 9), keep) is None
    connections.gone(numbers[0] or 0)
    assert connections.admit(Peer(9, 9), keep)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 2)), max_size=60))
def test_limits_hold_whatever_comes(steps: list[tuple[int, int, int]]) -> None:
    connections = Connections(LIMITS)
    mine: dict[int, Peer] = {}
    leaving: list[int] = []
    for pid, uid, action in steps:
        if action == 2 and mine:
            number = next(iter(mine))
            connections.gone(number)
            del mine[number]
            continue
        slot: list[int] = []
        peer = Peer(pid, uid)
        new = connections.admit(peer, lambda slot=slot: leaving.extend(slot))  # type: ignore[misc]
        if new is not None:
            slot.append(new)
            mine[new] = peer
            if action == 1:
                connections.has_read(new)
        for number in leaving:
            connections.gone(number)
            del mine[number]
        leaving.clear()
        assert len(connections) == len(mine) <= LIMITS.connections
        for other in mine.values():
            held = list(mine.values())
            assert other.pid == 0 or held.count(other) <= LIMITS.per_process
            assert sum(each.uid == other.uid for each in held) <= LIMITS.per_user
