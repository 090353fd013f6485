"""Keys that are bound to addresses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from tollkeeper.core.errors import InvalidRequest

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def is_within(networks: Iterable[Network], ip: str | None) -> bool:
    """IPv4 in IPv6 form is taken as IPv4. An address that is not known lies in no network. Raises InvalidRequest."""
    if ip is None:
        return False
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise InvalidRequest(f"ip is {ip[:60]!r}; expected an IPv4 or IPv6 address.") from None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks)


def from_where(ip: str | None) -> str:
    """Why a key is refused from there."""
    if ip is None:
        return "This API key is bound to addresses; send the caller's address as `ip`."
    return f"This API key may not be used from {ip}."
