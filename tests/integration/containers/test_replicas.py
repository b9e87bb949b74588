"""Replicas behind the edge, under load: they come, go, are replaced, and fail."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator

import httpx
import pytest

from bunriwiki.testing.containers.compose import Composed
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import FULL
from tests.integration.containers.conftest import Start, during

ROUNDS = 5 if FULL else 1
LOOK_SECONDS = 2.0  # for the edge to see that a replica has come or gone
PAUSED_SECONDS = 10.0 if FULL else 4.0  # after the edge has noticed
CUT_SECONDS = 10.0
# For a replica to be there again: it starts within 6 s on an idle machine and 30 s beside a load on two cores, is checked every
# 5 s, and if it was ejected, that ends after 10 s.
BACK_SECONDS = 180.0


@pytest.fixture(scope="module")
def composed(compose: Start, images: Images) -> Iterator[Composed]:
    images.build("service")
    project = compose("EDGE_IMAGE")
    scale(project, 2)
    yield project
    print(project.logs("edge"))


def scale(project: Composed, replicas: int) -> None:
    project.up("--no-recreate", "--scale", f"service={replicas}")


def is_ready(project: Composed) -> bool:
    """Whether a new request is answered. One that the edge sent to a lost replica is given up."""
    try:
        return httpx.get(f"{project.url}/readyz", timeout=2).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("_", range(ROUNDS))
def test_scaling_fails_no_request(composed: Composed, _: int) -> None:
    def down_and_up() -> None:
        scale(composed, 1)
        wait_until(lambda: composed.healthy_replicas() == 1, LOOK_SECONDS + 5)
        scale(composed, 2)
        wait_until(lambda: composed.healthy_replicas() == 2, LOOK_SECONDS + 5)

    assert not during(composed, down_and_up).failures


def test_replacing_a_replica_fails_no_request(composed: Composed) -> None:
    def replace() -> None:
        old = composed.containers("service")[0]
        composed.engine.docker("stop", "--time=90", old)
        composed.engine.docker("rm", old)
        scale(composed, 2)
        wait_until(lambda: composed.healthy_replicas() == 2, LOOK_SECONDS + 5)

    assert not during(composed, replace).failures


def test_a_new_configuration_of_the_edge_fails_no_request(composed: Composed) -> None:
    listener = composed.folder / "deploy" / "edge" / "listeners" / "plain.yaml"

    def reconfigure() -> None:
        changed = listener.with_suffix(".new")
        changed.write_text(listener.read_text().replace("request_headers_timeout: 10s", "request_headers_timeout: 11s"))
        shutil.move(changed, listener)
        wait_until(lambda: composed.metric("envoy_listener_manager_lds_update_success{") >= 2)
        time.sleep(12)  # the old listener's connections end within 10 s

    assert not during(composed, reconfigure).failures


def test_a_killed_replica_fails_what_was_in_flight_on_it(composed: Composed) -> None:
    def kill() -> None:
        composed.engine.docker("kill", composed.containers("service")[0])
        wait_until(lambda: is_ready(composed))

    found = during(composed, kill)
    assert found.failures.total() <= found.clients
    scale(composed, 2)  # an operator's kill is not a crash: the engine does not restart it
    wait_until(lambda: composed.healthy_replicas() == 2, BACK_SECONDS)


def test_a_crashed_replica_comes_back_by_itself(composed: Composed) -> None:
    def crash() -> None:
        pid = composed.inspect(composed.containers("service")[0])["State"]["Pid"]
        composed.engine.run(["/bin/kill", "-KILL", str(pid)])
        wait_until(lambda: composed.healthy_replicas() == 1, LOOK_SECONDS + 5)
        wait_until(lambda: composed.healthy_replicas() == 2, BACK_SECONDS)

    found = during(composed, crash)
    assert found.failures.total() <= found.clients


def test_a_paused_replica_delays_what_was_in_flight_on_it(composed: Composed) -> None:
    def pause() -> None:
        container = composed.containers("service")[0]
        composed.engine.docker("pause", container)
        try:
            wait_until(lambda: composed.healthy_replicas() == 1, LOOK_SECONDS + 5)
            wait_until(lambda: is_ready(composed))
            time.sleep(PAUSED_SECONDS)
        finally:
            composed.engine.docker("unpause", container)
        wait_until(lambda: composed.healthy_replicas() == 2, BACK_SECONDS)

    found = during(composed, pause)
    assert found.failures.total() <= found.clients


def test_a_replica_that_is_cut_from_the_network_fails_what_was_in_flight_on_it(composed: Composed) -> None:
    def cut() -> None:
        container = composed.containers("service")[0]
        state = composed.inspect(container)
        address = state["NetworkSettings"]["Networks"][f"{composed.project}_serving"]["IPAddress"]
        inside = ["/usr/bin/nsenter", "--net", f"--target={state['State']['Pid']}"]
        shown = composed.engine.run([*inside, "ip", "-o", "-4", "address"])
        [interface] = [line.split()[1] for line in shown.splitlines() if f" {address}/" in line]
        composed.engine.run([*inside, "ip", "link", "set", interface, "down"])
        try:
            time.sleep(CUT_SECONDS)
        finally:
            composed.engine.run([*inside, "ip", "link", "set", interface, "up"])
        wait_until(lambda: composed.healthy_replicas() == 2, BACK_SECONDS)

    found = during(composed, cut)
    assert found.failures.total() <= found.clients
