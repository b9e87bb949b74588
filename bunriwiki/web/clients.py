"""Who sends a request: the client's address, for logs and for limits per client.

It is the peer's address. Where the peer is a proxy that a setting names, it is what the proxy's `X-Forwarded-For` says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote

from starlette.types import Scope

UNKNOWN = "an unknown address"  # of a peer without one, such as a Unix socket's
HEADER = b"x-forwarded-for"
MAX_CHARACTERS = 512  # of the header that are read, from its end
GROUP_PREFIX = 64  # bits of an IPv6 address that name one client: it has all addresses behind them

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# The address of the client of the current request, for the log; the servers set it.
CLIENT: ContextVar[str] = ContextVar("CLIENT", default=UNKNOWN)


class Clients:
    """Tells the clients of one server apart. `proxies` are the networks of trusted proxies.

    The header of any other peer is ignored. The client is the rightmost address of the header that is not a trusted proxy's:
    whatever is to its left was sent by the client itself. If all are trusted, it is the leftmost one. A damaged header counts
    as none.
    """

    def __init__(self, proxies: Iterable[Network] = ()) -> None:
        self._proxies = list(proxies)
        self._trusts = lru_cache(maxsize=1024)(self._is_proxy)
        self._behind = lru_cache(maxsize=1024)(self._client_behind)

    def of_scope(self, scope: Scope) -> str:
        """The client of an ASGI request."""
        peer = scope.get("client")
        host = canonical(peer[0]) if peer else UNKNOWN
        if not self._proxies or not self._trusts(host):
            return host
        sent = b",".join([value for name, value in scope["headers"] if name == HEADER])
        return self._behind(host, sent[-MAX_CHARACTERS:])

    def of_call(self, peer: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
        """The client of a gRPC call. `peer` is as `grpc.ServicerContext.peer` returns it."""
        host = peer_of_call(peer)
        if not self._proxies or not self._trusts(host):
            return host
        name = HEADER.decode()
        sent = ",".join([str(value) for key, value in metadata or () if key == name])
        return self._behind(host, sent.encode("latin-1", "replace")[-MAX_CHARACTERS:])

    def _client_behind(self, proxy: str, sent: bytes) -> str:
        found = proxy
        for entry in reversed(sent.decode("latin-1").split(",")):
            host = canonical(_without_port(entry.strip()))
            if host == UNKNOWN:
                return proxy
            found = host
            if not self._trusts(host):
                break
        return found

    def _is_proxy(self, host: str) -> bool:
        if host == UNKNOWN:
            return False
        address = ipaddress.ip_address(host)
        return any(address in network for network in self._proxies)


@lru_cache(maxsize=1024)
def group_of(client: str) -> str:
    """What limits per client count as one client: an IPv4 address, or an IPv6 network of 64 bits."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if address.version == 4:
        return client
    return str(ipaddress.ip_network((int(address), GROUP_PREFIX), strict=False))


@lru_cache(maxsize=1024)
def canonical(host: str) -> str:
    """One form for each address; `UNKNOWN` for what is none."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])  # without the zone of a link-local address
    except ValueError:
        return UNKNOWN
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


@lru_cache(maxsize=1024)
def peer_of_call(peer: str) -> str:
    """The address in `ipv4:192.0.2.1:80` or `ipv6:%5B2001:db8::1%5D:80`."""
    family, _, address = peer.partition(":")
    return canonical(_without_port(unquote(address))) if family in ("ipv4", "ipv6") else UNKNOWN


def _without_port(address: str) -> str:
    """The host of `192.0.2.1:80`, `[2001:db8::1]:80`, or the address as it is."""
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.partition(":")[0] if address.count(":") == 1 else address
