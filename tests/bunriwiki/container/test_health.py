from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from bunriwiki.container.health import is_healthy, port_of
from bunriwiki.settings import Settings
from bunriwiki.testing.ports import free_port


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class's name)
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_200_is_healthy_and_nothing_else(port: int) -> None:
    assert is_healthy(port, "/livez")
    assert not is_healthy(port, "/readyz")


def test_no_answer_is_not_healthy() -> None:
    assert not is_healthy(free_port(), "/livez")


@pytest.mark.parametrize(
    ("environment", "port"),
    [
        ({}, 3003),
        ({"PORT": "4000"}, 4003),
        ({"BUNRIWIKI_METRICS_PORT": "5000"}, 5000),
        ({"BUNRIWIKI_METRICS_PORT": "0"}, 3000),
        ({"PORT": "65534"}, 65534),
    ],
)
def test_the_service_is_checked_at_the_port_that_it_has_for_that(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], port: int
) -> None:
    assert port_of(environment, service=True) == port
    assert port_of(environment, service=False) == int(environment.get("PORT", "3000"))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (Settings().health_port or Settings().port) == port
