from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from bunriwiki.web.clients import UNKNOWN, Clients, group_of

PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8:ffff::/48")]


def scope(peer: str | None, *forwarded: str) -> dict[str, Any]:
    headers = [(b"host", b"x"), *((b"x-forwarded-for", value.encode("latin-1")) for value in forwarded)]
    return {"type": "http", "client": (peer, 5000) if peer else None, "headers": headers}


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("testclient", UNKNOWN),
        (None, UNKNOWN),
    ],
)
def test_without_a_proxy_the_client_is_the_peer(peer: str | None, client: str) -> None:
    assert Clients().of_scope(scope(peer, "198.51.100.1")) == client
    assert Clients(PROXIES).of_scope(scope(peer, "198.51.100.1")) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["192.0.2.7"], "192.0.2.7"),
        (["198.51.100.66, 192.0.2.7"], "192.0.2.7"),  # what the client sent itself is to the left
        (["198.51.100.66", "192.0.2.7"], "192.0.2.7"),
        (["198.51.100.66, 192.0.2.7, 10.9.9.9"], "192.0.2.7"),  # two proxies
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["[2001:db8::7]:4711"], "2001:db8::7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["::ffff:192.0.2.7"], "192.0.2.7"),
        (["10.1.1.1, 10.2.2.2"], "10.1.1.1"),  # all trusted
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["192.0.2.7, unknown"], "10.0.0.1"),
        (["192.0.2.7, \xff\xfe"], "10.0.0.1"),
        (["192.0.2.7, " + "9" * 10_000], "10.0.0.1"),
    ],
)
def test_a_trusted_proxy_names_the_client(forwarded: list[str], client: str) -> None:
    assert Clients(PROXIES).of_scope(scope("10.0.0.1", *forwarded)) == client


def test_a_long_header_is_read_from_its_end_only() -> None:
    clients = Clients(PROXIES)
    assert clients.of_scope(scope("10.0.0.1", "198.51.100.66, " * 10_000 + "192.0.2.7")) == "192.0.2.7"
    assert clients.of_scope(scope("10.0.0.1", "192.0.2.7, " + ", ".join(["10.1.1.1"] * 5))) == "192.0.2.7"
    assert clients.of_scope(scope("10.0.0.1", "192.0.2.7," + ",".join(["10.11.11.11"] * 10_000))) != "192.0.2.7"


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("ipv4:192.0.2.7:5000", "192.0.2.7"),
        ("ipv6:%5B2001:db8::7%5D:5000", "2001:db8::7"),
        ("ipv6:[::ffff:192.0.2.7]:5000", "192.0.2.7"),
        ("unix:/tmp/socket", UNKNOWN),
        ("", UNKNOWN),
    ],
)
def test_the_client_of_a_grpc_call_without_a_proxy(peer: str, client: str) -> None:
    assert Clients(PROXIES).of_call(peer, [("x-forwarded-for", "198.51.100.1")]) == client


def test_a_trusted_proxy_names_the_client_of_a_grpc_call() -> None:
    metadata = [("user-agent", "x"), ("x-forwarded-for", "198.51.100.66, 192.0.2.7")]
    assert Clients(PROXIES).of_call("ipv4:10.0.0.1:80", metadata) == "192.0.2.7"
    assert Clients(PROXIES).of_call("ipv6:%5B2001:db8:ffff::1%5D:80", metadata) == "192.0.2.7"
    assert Clients(PROXIES).of_call("ipv4:10.0.0.1:80", None) == "10.0.0.1"


def test_limits_count_an_ipv6_network_as_one_client() -> None:
    assert group_of("2001:db8:1:2:3::4") == group_of("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert group_of("2001:db8:1:3::4") != group_of("2001:db8:1:2::4")
    assert group_of("192.0.2.7") == "192.0.2.7"
    assert group_of(UNKNOWN) == UNKNOWN
