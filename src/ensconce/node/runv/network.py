# SPDX-License-Identifier: Apache-2.0
"""A pod's network, taken over by its machine.

What an engine's network plugin put into the pod's namespace (an interface with addresses and
routes) goes to the guest as it is: the guest's interface gets the name, hardware address, addresses
and routes, and a bridge joins its tap to the plugin's interface, which keeps none of them.
"""

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fcntl import ioctl

from ensconce.errors import DeviceError
from ensconce.node.runv.linux import CLONE_NEWNET, set_namespace, unshare
from ensconce.node.runv.netlink import ADDRESS, LINK, ROUTE, Entry, Netlink, attribute, request

__all__ = ["Net", "guest_requests", "take_over"]

_TUNSETIFF = 0x400454CA
_TAP, _NO_INFO, _HEADERS = 0x2, 0x1000, 0x4000
_LOOPBACK = 8  # IFF_LOOPBACK
_UP = 1
_IFLA_ADDRESS, _IFLA_NAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO = 1, 3, 4, 10, 18
_INFO_KIND, _INFO_DATA, _BR_SNOOPING = 1, 2, 23
_RTA_OIF, _RTA_TABLE = 4, 15
_ROUTE_ATTRIBUTES = frozenset({1, 5, 6, 7, 8, _RTA_TABLE})  # DST GATEWAY PRIORITY PREFSRC METRICS
_ADDRESS_ATTRIBUTES = frozenset({1, 2, 4})  # ADDRESS LOCAL BROADCAST
_MAIN_TABLE, _BY_KERNEL, _GLOBAL, _LINK_SCOPE = 254, 2, 0, 253
_FIRST_INDEX = 2  # in the guest: 1 is the loopback interface
_MOST = 4
_LINK_BODY = struct.Struct("=BxHiII")


@dataclass(slots=True)
class Net:
    """One interface of the guest: `tap` is its descriptor, `address` its hardware address."""

    tap: int
    name: bytes
    hardware: bytes
    mtu: bytes
    addresses: list[Entry] = field(default_factory=list)
    routes: list[Entry] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The hardware address as people and QEMU write it."""
        return self.hardware.hex(":")


def take_over(path: str) -> list[Net]:
    """Enter the pod's network namespace (a new one where the path is empty), and take it over.

    Raises DeviceError where the kernel refuses, or another sandbox has it already.
    """
    if path:
        set_namespace(path, CLONE_NEWNET)
    else:
        unshare(CLONE_NEWNET)
    netlink = Netlink()
    try:
        found = [each for each in netlink.list(LINK) if _is_ethernet(each)][:_MOST]
        return [_take_link(netlink, link, place) for place, link in enumerate(found)]
    finally:
        netlink.close()


def _is_ethernet(link: Entry) -> bool:
    _, kind, _, flags, _ = _LINK_BODY.unpack(link.body)
    return kind == 1 and not flags & _LOOPBACK and bool(flags & _UP)


def _index(link: Entry) -> int:
    return int(_LINK_BODY.unpack(link.body)[2])


def _take_link(netlink: Netlink, link: Entry, place: int) -> Net:
    """Join an interface to a new tap, and take its addresses and routes off it."""
    index = _index(link)
    addresses = [each for each in netlink.list(ADDRESS) if _of_link(each, index)]
    routes = [each for each in netlink.list(ROUTE) if _leads_through(each, index)]
    name = link.attributes[_IFLA_NAME]
    if name.startswith(b"runv"):
        raise DeviceError("The network namespace belongs to another sandbox already")
    mtu, hardware = link.attributes[_IFLA_MTU], link.attributes[_IFLA_ADDRESS]
    bridge = f"runvbr{place}".encode() + b"\0"
    _add_bridge(netlink, bridge, mtu)
    tap = _open_tap(f"runvtap{place}")
    links = {each.attributes[_IFLA_NAME]: _index(each) for each in netlink.list(LINK)}
    master = struct.pack("=I", links[bridge])
    for each in addresses:
        netlink.ask(request(ADDRESS + 1, each.body, each.attributes, flags=0))
    # the guest has this hardware address now; the bridge must not take it for its own
    other = bytes([0x02 | hardware[0] & 0xFC, *os.urandom(5)])
    _change(netlink, index, {_IFLA_ADDRESS: other, _IFLA_MASTER: master}, up=True)
    port = links[f"runvtap{place}".encode() + b"\0"]
    _change(netlink, port, {_IFLA_MTU: mtu, _IFLA_MASTER: master}, up=True)
    _change(netlink, links[bridge], {}, up=True)
    return Net(tap, name, hardware, mtu, addresses, routes)


def _of_link(address: Entry, index: int) -> bool:
    """Whether an address is the interface's, and not one that the guest makes by itself."""
    *_, scope, found = struct.unpack("=BBBBI", address.body)
    return bool(found == index and scope != _LINK_SCOPE)


def _leads_through(route: Entry, index: int) -> bool:
    """Whether a route was put there for the interface."""
    table, protocol = route.body[4], route.body[5]
    through = route.attributes.get(_RTA_OIF) == struct.pack("=I", index)
    return through and table == _MAIN_TABLE and protocol != _BY_KERNEL


def _add_bridge(netlink: Netlink, name: bytes, mtu: bytes) -> None:
    quiet = attribute(_INFO_DATA, attribute(_BR_SNOOPING, b"\0"))
    info = attribute(_INFO_KIND, b"bridge\0") + quiet
    body = _LINK_BODY.pack(0, 0, 0, 0, 0)
    wanted = {_IFLA_NAME: name, _IFLA_MTU: mtu, _IFLA_LINKINFO: info}
    netlink.ask(request(LINK, body, wanted))


def _change(netlink: Netlink, index: int, values: dict[int, bytes], *, up: bool) -> None:
    body = _LINK_BODY.pack(0, 0, index, int(up), _UP)
    netlink.ask(request(LINK, body, values, flags=0))


def _open_tap(name: str) -> int:
    """Return a descriptor of a new tap of this namespace."""
    try:
        tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        ioctl(tap, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TAP | _NO_INFO | _HEADERS))
    except OSError as error:
        raise DeviceError(
            f"/dev/net/tun gives no tap for the pod's machine: {error.strerror}; modprobe tun"
        ) from error
    return tap


def guest_requests(nets: list[Net]) -> Iterator[bytes]:
    """Yield the requests by which the guest's kernel gets the pod's network."""
    yield request(LINK, _LINK_BODY.pack(0, 0, 1, _UP, _UP), {}, flags=0)  # lo
    for place, net in enumerate(nets):
        index = struct.pack("=I", _FIRST_INDEX + place)
        values = {_IFLA_NAME: net.name, _IFLA_MTU: net.mtu}
        body = _LINK_BODY.pack(0, 0, _FIRST_INDEX + place, _UP, _UP)
        yield request(LINK, _LINK_BODY.pack(0, 0, _FIRST_INDEX + place, 0, 0), values, flags=0)
        yield request(LINK, body, {}, flags=0)
        for each in net.addresses:
            kept = {k: v for k, v in each.attributes.items() if k in _ADDRESS_ATTRIBUTES}
            yield request(ADDRESS, each.body[:4] + index, kept)
        for each in sorted(net.routes, key=lambda route: 5 in route.attributes):  # gateways last
            kept = {k: v for k, v in each.attributes.items() if k in _ROUTE_ATTRIBUTES}
            yield request(ROUTE, each.body, {**kept, _RTA_OIF: index})
