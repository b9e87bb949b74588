"""How the edge treats replicas that fail, and clients that want too much. The replicas are stand-ins."""

from __future__ import annotations

import contextlib
import select
import shutil
import socket
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from bunriwiki.testing.containers.attacks import many_files
from bunriwiki.testing.containers.compose import Composed
from bunriwiki.testing.containers.engine import Engine
from bunriwiki.testing.containers.images import STAND_INS, Images
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.waiting import wait_until
from tests.integration.containers.conftest import Start

MB = 2**20
FAILURES = 5  # in a row, after which a replica is ejected: deploy/edge/clusters.yaml
EJECTED_SECONDS = 10
CONNECTIONS = 4096  # deploy/edge/envoy.yaml
BEYOND = 200
UNFINISHED = 80  # bodies that together are larger than the memory of the edge
EJECTED = 'envoy_cluster_outlier_detection_ejections_active{envoy_cluster_name="rest"'


@pytest.fixture(scope="module")
def composed(compose: Start, engine: Engine, images: Images) -> Iterator[Composed]:
    assert images  # the base of the stand-in
    project = compose("EDGE_IMAGE", environment={"BUNRIWIKI_IMAGE": faulty_image(engine)})
    project.up("--scale", "service=2")
    wait_until(lambda: project.healthy_replicas() == 2)
    yield project
    print(project.logs("edge"))


def faulty_image(engine: Engine) -> str:
    """Build the stand-in for the service, with the service's health check."""
    with tempfile.TemporaryDirectory() as folder:
        context = shutil.copytree(STAND_INS / "faulty", Path(folder) / "context")
        shutil.copytree(ROOT / "bunriwiki" / "container", context / "bunriwiki" / "container")
        engine.docker("build", "--tag", "stand-in-faulty", context)
    return "stand-in-faulty"


@contextlib.contextmanager
def fault(project: Composed, what: str, *replicas: str) -> Iterator[None]:
    """The replicas, by their names, fail as `what` says."""
    for replica in replicas:
        project.engine.docker("exec", replica, "sh", "-c", f"echo {what} > /tmp/fault")
    try:
        yield
    finally:
        for replica in replicas:
            project.engine.docker("exec", replica, "rm", "/tmp/fault")  # noqa: S108


def post(project: Composed, count: int) -> Counter[str]:
    """What comes of `count` requests in a row: the name of the replica that answered 200, or else the status."""
    found: Counter[str] = Counter()
    with httpx.Client(base_url=project.url, timeout=10) as client:
        for _ in range(count):
            answer = client.post("/predict", content=b"{}")
            found[answer.text if answer.status_code == 200 else str(answer.status_code)] += 1
    return found


@pytest.mark.parametrize(("what", "status", "number"), [("500", "500", 0), ("broken", "503", 1)])
def test_a_replica_that_fails_is_ejected_and_comes_back(composed: Composed, what: str, status: str, number: int) -> None:
    replicas = [container[:12] for container in composed.containers("service")]
    bad, good = replicas[number], replicas[1 - number]
    found: Counter[str] = Counter()

    def is_ejected() -> bool:
        found.update(post(composed, 1))  # one at a time: an ejection is not instantaneous
        return composed.metric(EJECTED) == 1

    with fault(composed, what, bad):
        wait_until(is_ejected, describe=lambda: found)
        assert found[status] in range(FAILURES, FAILURES + 3)
        assert set(found) <= {status, good}  # the edge picks at random: it may be the bad one five times at once
        assert set(post(composed, 30)) == {good}  # its health checks succeed, and do not bring it back
    wait_until(lambda: set(post(composed, 10)) == {bad, good}, EJECTED_SECONDS + 10, interval=0.5)
    assert composed.metric(EJECTED) == 0


def test_overload_ejects_no_replica(composed: Composed) -> None:
    bad, good = (container[:12] for container in composed.containers("service"))
    with fault(composed, "503", bad):
        found = post(composed, 60)
    assert set(found) == {"503", good}
    assert found["503"] > FAILURES
    assert composed.metric(EJECTED) == 0


def test_at_most_half_of_the_replicas_are_ejected(composed: Composed) -> None:
    with fault(composed, "500", *composed.containers("service")):
        assert set(post(composed, 40)) == {"500"}
        assert composed.metric(EJECTED) == 1


def test_what_is_too_large_is_rejected(composed: Composed) -> None:
    with httpx.Client(base_url=composed.url, timeout=30) as client:
        assert (
            client.post("/predict", content=(b"x" * MB for _ in range(12))).status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
        )
        assert client.post("/predict", content=(b"x" * MB for _ in range(10))).status_code == 200
        assert client.get("/", headers={"X": "x" * 40_000}).status_code == 431
        assert client.get("/", headers=[("X", "x")] * 120).status_code == 431


def address(project: Composed) -> tuple[str, int]:
    """The edge's own address. The engine's proxy, which listens at the published port, would accept every connection."""
    return project.addresses("edge")["public"], 3000


def closed(connections: list[socket.socket]) -> int:
    """How many the edge has closed."""
    poll = select.poll()
    for each in connections:
        poll.register(each, select.POLLIN | select.POLLRDHUP)
    return len(poll.poll(0))


def test_connections_beyond_the_limit_are_closed_and_those_within_it_are_served(composed: Composed) -> None:
    host, port = address(composed)
    url = f"http://{host}:{port}"
    with many_files(2 * CONNECTIONS), contextlib.ExitStack() as stack, httpx.Client(base_url=url, timeout=10) as honest:
        assert honest.post("/predict", content=b"{}").status_code == 200
        flood = [stack.enter_context(socket.create_connection((host, port), timeout=20)) for _ in range(CONNECTIONS + BEYOND)]
        wait_until(lambda: closed(flood) >= BEYOND, 20, lambda: closed(flood))
        assert closed(flood) < BEYOND + 50
        with pytest.raises(httpx.TransportError):
            httpx.post(f"{url}/predict", content=b"{}", timeout=10)
        for _ in range(20):
            assert honest.post("/predict", content=b"{}").status_code == 200
        assert composed.healthy_replicas()  # port 9902, for health checks and metrics, is outside of the limit
    wait_until(lambda: set(post(composed, 1)) <= {each[:12] for each in composed.containers("service")})


def test_unfinished_bodies_do_not_end_the_edge(composed: Composed) -> None:
    [edge] = composed.containers("edge")
    head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (11 * MB)
    with contextlib.ExitStack() as stack:
        for _ in range(UNFINISHED):
            client = stack.enter_context(socket.create_connection(address(composed), timeout=20))
            with contextlib.suppress(OSError):  # cut off
                client.sendall(head + b"x" * (11 * MB - 1))
        print("memory of the edge:", composed.engine.docker("stats", "--no-stream", "--format={{.MemUsage}}", edge).strip())
        wait_until(lambda: "503" not in post(composed, 5), 20, interval=0.5)  # while the clients go on holding what they have
    state = composed.inspect(edge)
    assert not state["State"]["OOMKilled"]
    assert state["RestartCount"] == 0
