"""The engine's socket behind Envoy and the check of bodies: what the rollout may call, and what not. The engine is a fake."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from bunriwiki.testing.containers.allow_list import allow_list

IMAGE = "bunriwiki-versions:1"
HOST_CONFIG: dict[str, object] = {"CapDrop": ["ALL"], "NetworkMode": "x_serving"}


class _Engine(BaseHTTPRequestHandler):
    """Answers every request with the method and the path that it got."""

    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = f"{self.command} {self.path} {len(body)}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = _answer  # noqa: N815 (the names of the base class)

    def address_string(self) -> str:
        return "a socket"

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of the proxy in front of a fake engine."""
    folder = tmp_path_factory.mktemp("engine")
    place = folder / "docker.sock"
    with socketserver.ThreadingUnixStreamServer(str(place), _Engine) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with allow_list(place, folder) as host, httpx.Client(base_url=host.replace("tcp:", "http:"), trust_env=False) as client:
            yield client
        server.shutdown()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/_ping"),
        ("GET", "/_ping"),
        ("GET", "/v1.41/version"),
        ("GET", "/v1.41/info"),
        ("GET", "/v1.41/containers/json?all=1"),
        ("GET", "/v1.41/containers/0123abc/json"),
        ("POST", "/v1.41/containers/0123abc/start"),
        ("POST", "/v1.41/containers/0123abc/stop?t=90"),
        ("DELETE", "/v1.41/containers/0123abc?v=1"),
        ("GET", "/v1.41/networks/x_serving"),
        ("POST", "/v1.41/networks/x_control/connect"),
        ("GET", "/v1.41/volumes/x_store"),
        ("GET", "/v1.41/images/json"),
        ("GET", "/v1.41/images/registry.example.org/team/bunriwiki-versions:1/json"),
        ("POST", "/v1.41/images/bunriwiki-versions:1/tag?repo=x"),
        ("POST", "/v1.41/images/registry.example.org/team/bunriwiki-versions/push?tag=1"),
        ("DELETE", "/v1.41/images/bunriwiki-versions:1"),
        ("POST", "/v1.41/build?t=bunriwiki-versions:1&networkmode=default&cgroupparent=&dockerfile=x"),
        ("GET", "/v1.41/services/x_service-a"),
        ("GET", "/v1.41/tasks"),
    ],
)
def test_what_a_rollout_calls(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 200, answer.text
    if method != "HEAD":
        assert answer.text == f"{method} {path} 0"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1.41/containers/0123abc/exec"),
        ("POST", "/v1.41/exec/0123abc/start"),
        ("POST", "/v1.41/containers/0123abc/attach"),
        ("POST", "/v1.41/containers/0123abc/update"),
        ("POST", "/v1.41/containers/0123abc/kill"),
        ("GET", "/v1.41/containers/0123abc/archive?path=/"),
        ("PUT", "/v1.41/containers/0123abc/archive?path=/"),
        ("GET", "/v1.41/containers/0123abc/logs"),
        ("POST", "/v1.41/images/create?fromImage=x"),
        ("POST", "/v1.41/images/load"),
        ("DELETE", "/v1.41/images/bunriwiki:latest"),
        ("POST", "/v1.41/volumes/create"),
        ("DELETE", "/v1.41/volumes/x_store"),
        ("POST", "/v1.41/networks/create"),
        ("DELETE", "/v1.41/networks/x_serving"),
        ("POST", "/v1.41/services/create"),
        ("POST", "/v1.41/swarm/init"),
        ("GET", "/v1.41/secrets"),
        ("POST", "/v1.41/plugins/pull"),
        ("POST", "/v1.41/build?networkmode=host&cgroupparent="),
        ("POST", "/v1.41/build?networkmode=default&cgroupparent=&remote=http://x"),
        ("POST", "/v1.41/build?networkmode=default&cgroupparent=/x"),
        ("POST", "/v1.41/containers/prune"),
        ("GET", "/"),
        ("GET", "/v1.41/containers/../../x"),
        ("POST", "/v1.41/containers/x%2Fexec/start"),
        ("POST", "//v1.41/containers/0123abc/exec"),
    ],
)
def test_what_it_may_not_call(client: httpx.Client, method: str, path: str) -> None:
    assert client.request(method, path).status_code in (400, 403)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ({}, 200),
        ({"Privileged": True}, 403),
        ({"Binds": ["/:/store"]}, 403),
        ({"CapDrop": []}, 403),
    ],
    ids=["a replica", "privileged", "the root of the host", "with capabilities"],
)
@pytest.mark.parametrize("prefix", ["", "/v1.41"])
def test_bodies_are_checked(client: httpx.Client, prefix: str, host: dict[str, object], status: int) -> None:
    body = json.dumps({"Image": IMAGE, "HostConfig": {**HOST_CONFIG, **host}})
    answer = client.post(f"{prefix}/containers/create?name=x", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == status, answer.text
    if status == 200:
        assert answer.text == f"POST {prefix}/containers/create?name=x {len(body)}"


def test_a_large_body_is_rejected(client: httpx.Client) -> None:
    body = json.dumps({"Image": IMAGE, "HostConfig": HOST_CONFIG, "Labels": {"x": "y" * 300_000}})
    assert client.post("/containers/create", content=body).status_code == 413


def test_a_service_is_checked(client: httpx.Client) -> None:
    spec: dict[str, object] = {"Image": IMAGE, "CapabilityDrop": ["ALL"]}
    for more, status in (({}, 200), ({"Mounts": [{"Type": "bind", "Source": "/", "Target": "/store"}]}, 403)):
        body = {"Name": "x", "TaskTemplate": {"ContainerSpec": {**spec, **more}}}
        assert client.post("/v1.41/services/x/update?version=1", json=body).status_code == status
