from __future__ import annotations

import os
import socket

from bunriwiki.protocols.grpc.received import Peer, ReceivedBytes, peer_of


def test_the_kernel_counts_what_it_received() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = listening.accept()
            with accepted:
                client.sendall(b"a" * 70_000)
                received = 0
                while received < 70_000:
                    received += len(accepted.recv(70_000))
                here = Peer("127.0.0.1", client.getsockname()[1])
                count = ReceivedBytes()
                assert count(port) == count(port) == {here: 70_000}
                assert peer_of(f"ipv4:127.0.0.1:{here.port}") == here
    assert count(port) == {}


def test_a_number_that_another_file_has_by_now_is_counted_as_that() -> None:
    count = ReceivedBytes()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.create_server(("127.0.0.1", 0)) as other:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listening.accept()
            with accepted:
                assert len(count(port)) == 1
                os.dup2(other.fileno(), accepted.fileno())
                assert count(port) == {}


def test_the_peers_of_ipv6_are_found_as_well() -> None:
    assert peer_of("ipv6:%5B::1%5D:80") == Peer("::1", 80)
    assert peer_of("ipv6:%5B::ffff:192.0.2.1%5D:80") == Peer("192.0.2.1", 80)
    assert peer_of("unix:/socket").port == 0
