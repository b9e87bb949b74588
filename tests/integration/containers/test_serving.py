"""`docker compose up` on a bare clone: the service behind its edge, and what its containers may do."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import pytest

from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.calls import text_call
from bunriwiki.testing.containers.attacks import attack
from bunriwiki.testing.containers.compose import Composed
from bunriwiki.testing.containers.engine import DockerError, Engine
from bunriwiki.testing.containers.images import Images
from bunriwiki.testing.containers.pip_secrets import Secrets
from bunriwiki.testing.containers.port_scan import open_ports, reached
from bunriwiki.testing.containers.traffic import traffic
from bunriwiki.testing.paths import PHOTOS
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import within
from tests.integration.containers.conftest import Start

HEALED_SECONDS = within(15)
HONEST_SECONDS = 5.0  # for an answer beside an attack
HEARTBEATS = 4  # of a gateway and three runners
# docs/containers.md has this table: the ports of each container, by network.
PORTS = {
    "public": {"edge": [3000, 9902]},
    "serving": {"edge": [3000, 9902], "service": [3000, 3001, 3003]},
    "control": {"service": [3000, 3001, 3003]},
    "scrape": {"edge": [3000, 9902], "service": [3000, 3001, 3003]},
}
PROCESSES = "import os,psutil; print(*(f'{p.pid} {p.uids().effective}' for p in psutil.process_iter()), sep='\\n')"
FRESH = (
    "import pathlib, time; print(sum(time.time() - p.stat().st_mtime < 3 for p in pathlib.Path('/store/run').glob('*.json')))"
)
HOG = "x = bytearray(); [x.extend(b'x' * 2**24) for _ in range(1024)]"  # 16 GB


@pytest.fixture(scope="module")
def composed(compose: Start, images: Images, secrets: Secrets) -> Iterator[Composed]:
    """The project as `docker compose up --build` starts it, with no other variables than a free port and the build's."""
    images.build("service")  # so that the time below is that of the start
    project = compose("EDGE_IMAGE", environment=secrets.environment)
    started = time.monotonic()
    project.up("--build")
    print(f"from `docker compose up` to healthy: {time.monotonic() - started:.1f} s")
    yield project
    print(project.logs())


def test_the_calls_of_the_readme(composed: Composed) -> None:
    with httpx.Client(base_url=composed.url, timeout=30) as client:
        assert client.post("/predict", json={"text": "정말 재미있어요"}).json()["sentiment"] == "긍정"
        assert client.post("/kcbert/prediction", json={"text": "좋은 하루 보내세요"}).json()["label"] == "none"
        photo = (PHOTOS / "plastic_bottle.jpg").read_bytes()
        [found, *_] = client.post("/yolo/prediction", files={"image": photo}).json()["detections"]
        assert found["label"] == "plastic"
        assert client.get("/v2/health/ready").status_code == 200
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["정말 재미있어요"]}]}
        assert client.post("/v2/models/sentiment/infer", json=body).json()["outputs"][0]["data"] == ["긍정"]


def test_http_2_and_grpc_on_the_same_port(composed: Composed) -> None:
    command = ["/usr/bin/curl", "--silent", "--http2-prior-knowledge", "--output", "/dev/null", "--write-out"]
    assert composed.engine.run([*command, "%{http_code} %{http_version}", f"{composed.url}/v2"]) == "200 2"
    with grpc.insecure_channel(composed.url.removeprefix("http://")) as channel:
        assert GRPCInferenceServiceStub(channel).ModelInfer(text_call(), timeout=30).model_name == "sentiment"


def test_the_edge_rejects_what_is_too_large_or_not_for_clients(composed: Composed) -> None:
    with httpx.Client(base_url=composed.url, timeout=30) as client:
        assert client.post("/yolo/prediction", content=b"x" * (12 * 2**20)).status_code == 413
        assert client.get("/metrics").status_code == 404


@pytest.fixture(scope="module")
def unfinished(composed: Composed) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two connections to the edge: one whose headers have no end, and one whose body has none."""
    address = ("127.0.0.1", int(composed.ports["BUNRIWIKI_PORT"]))
    with socket.create_connection(address, timeout=60) as headers, socket.create_connection(address, timeout=60) as body:
        headers.sendall(b"POST /predict HTTP/1.1\r\nHost: slow\r\n")
        body.sendall(b"POST /predict HTTP/1.1\r\nHost: slow\r\nContent-Length: 100\r\n\r\n{")
        yield headers, body


def test_the_edge_cuts_off_a_client_that_sends_no_complete_headers(unfinished: tuple[socket.socket, socket.socket]) -> None:
    assert unfinished[0].recv(100).startswith(b"HTTP/1.1 408 ")  # after 10 s


def test_nothing_runs_as_root_and_nothing_can_be_written(composed: Composed) -> None:
    for service in ("service", "edge"):
        found = composed.inspect(composed.containers(service)[0])
        host = found["HostConfig"]
        assert found["Config"]["User"] == "10001:10001"
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["Memory"]
        assert host["NanoCpus"]
        assert host["PidsLimit"]
        for path in ("/app/x", "/etc/x", "/store/x"):
            with pytest.raises(DockerError, match=r"Read-only file system|nonexistent|No such file|Directory"):
                composed.execute(service, "sh", "-c", f"echo > {path}")
        top = composed.engine.docker("top", composed.containers(service)[0], "-eo", "uid,pid")
        assert {line.split()[0] for line in top.splitlines()[1:]} == {"10001"}


def test_the_memory_limit_is_in_force(composed: Composed) -> None:
    [container] = composed.containers("service")
    with pytest.raises(DockerError, match="exit code 137"):
        composed.execute("service", "python3", "-c", HOG)
    assert composed.inspect(container)["State"]["Running"]
    wait_until(lambda: httpx.get(f"{composed.url}/readyz", timeout=5).status_code == 200)
    # The kernel dropped all caches, with them the inodes in /proc that a runner's sandbox names.
    wait_until(lambda: fresh_heartbeats(composed) == HEARTBEATS, describe=lambda: fresh_heartbeats(composed))


def fresh_heartbeats(project: Composed) -> int:
    """How many workers have reported within the last 3 seconds."""
    return int(project.execute("service", "python3", "-c", FRESH))


def test_a_port_scan_finds_what_the_documentation_lists(composed: Composed, engine: Engine) -> None:
    for network, expected in PORTS.items():
        found = open_ports(engine, f"{composed.project}_{network}", "bunriwiki")
        assert {name.split("-")[-2]: ports for name, ports in found.items()} == expected, network


def test_the_service_reaches_no_other_network(composed: Composed, engine: Engine) -> None:
    """Its networks are internal: the engine lets nothing out of them."""
    for network in ("serving", "control", "scrape"):
        name = f"{composed.project}_{network}"
        assert engine.docker("network", "inspect", "--format={{.Internal}}", name).strip() == "true", network
    [service], [edge] = composed.containers("service"), composed.containers("edge")
    places = [f"{composed.addresses('edge')[network]}:3000" for network in ("serving", "public")]
    assert reached(engine, edge, places, "bunriwiki") == set(places)
    assert reached(engine, service, places, "bunriwiki") == {places[0]}


def test_the_edge_cuts_off_a_client_that_sends_no_complete_body(unfinished: tuple[socket.socket, socket.socket]) -> None:
    assert unfinished[1].recv(100).startswith(b"HTTP/1.1 408 ")  # after 30 s


@pytest.mark.parametrize(("service", "network"), [("edge", "public"), ("service", "serving")])
def test_hostile_connections_keep_nobody_out(composed: Composed, service: str, network: str) -> None:
    """Honest clients use the edge; the attacker the edge as well, or the service's own port, as a neighbour in its network."""
    with traffic(composed.url, rest=3, grpc_clients=1, pause=0.05) as found:
        still_open = attack((composed.addresses(service)[network], 3000))
    slowest = max(found.rest.latencies)
    print(f"{still_open} connections of the attacker open, {found.requests} honest requests, the slowest took {slowest:.1f} s")
    assert not found.failures
    assert found.grpc["OK"] > 0
    assert slowest < HONEST_SECONDS


def test_a_killed_worker_is_replaced_and_the_container_stays(composed: Composed) -> None:
    [container] = composed.containers("service")
    before = composed.inspect(container)["State"]["StartedAt"]
    command = "import psutil; [p.kill() for p in psutil.process_iter() if 'kcbert' in p.cmdline()][:1]"
    with traffic(composed.url, rest=4, grpc_clients=1) as found:
        composed.execute("service", "python3", "-c", command)
        killed = time.monotonic()
        body = {"text": "좋은 하루 보내세요"}
        answered = lambda: httpx.post(f"{composed.url}/kcbert/prediction", json=body, timeout=30).status_code == 200  # noqa: E731
        wait_until(answered, HEALED_SECONDS, interval=0.2)
        print(f"a killed runner: healed in {time.monotonic() - killed:.1f} s; {dict(found.failures)}")
    assert not {what for what in found.failures if what.startswith("grpc")}  # calls of another model: nobody noticed
    assert composed.inspect(container)["State"]["StartedAt"] == before
    zombies = "import psutil; print(sum(p.status() == 'zombie' for p in psutil.process_iter()))"
    wait_until(lambda: composed.execute("service", "python3", "-c", zombies).strip() == "0", interval=0.5)


def test_orphans_are_reaped(composed: Composed) -> None:
    """Process 1 adopts the children of a process that ended before them, and must not leave them as zombies."""
    composed.execute("service", "sh", "-c", "sh -c 'sleep 0.2 & exit' ; true")
    zombies = "import psutil; print(sum(p.status() == 'zombie' for p in psutil.process_iter()))"
    wait_until(lambda: composed.execute("service", "python3", "-c", zombies).strip() == "0", interval=0.5)


def test_tls_by_files_and_a_new_certificate_without_a_restart(composed: Composed, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    certify(tmp_path, "first")
    with_tls = {"BUNRIWIKI_EDGE": "tls", "BUNRIWIKI_TLS": str(tmp_path)}
    composed("up", "--detach", "--no-deps", "edge", **with_tls)
    curl: list[str | Path] = ["/usr/bin/curl", "--silent", "--output", "/dev/null", "--cacert", tmp_path / "certificate.pem"]
    url = f"https://localhost:{composed.ports['BUNRIWIKI_PORT']}/livez"

    def answers() -> str:
        try:
            return composed.engine.run([*curl, "--write-out", "%{http_code} %{http_version}", url])
        except DockerError:  # curl's: no answer, or another certificate
            return ""

    wait_until(lambda: answers() == "200 2", describe=answers, interval=0.5)
    [container] = composed.containers("edge")
    certify(tmp_path, "second")  # curl accepts only this one from now on
    wait_until(lambda: answers() == "200 2", describe=answers, interval=0.5)
    assert composed.containers("edge") == [container]
    composed("up", "--detach", "--no-deps", "edge")


def certify(folder: Path, name: str) -> None:
    """A new certificate of localhost, and its key; each replaces the one before by a rename."""
    command = [
        "/usr/bin/openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]
    files: list[str | Path] = ["-keyout", folder / "key.new", "-out", folder / "certificate.new"]
    names = ["-subj", f"/CN={name}", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, *files, *names], check=True, capture_output=True)
    for file in ("key", "certificate"):
        (folder / f"{file}.new").chmod(0o644)
        (folder / f"{file}.new").rename(folder / f"{file}.pem")


def test_it_ends_in_order_within_its_grace_period(composed: Composed) -> None:
    [container] = composed.containers("service")
    began = time.monotonic()
    composed("stop", "service")
    print(f"stopped in {time.monotonic() - began:.1f} s")
    assert composed.inspect(container)["State"]["ExitCode"] == 0
    log = composed.engine.logs(container)
    assert log.index("stopping the gateway") < log.index("stopping the runners")
    assert "Traceback" not in log


def catches_sigterm(engine: Engine, container: str) -> bool:
    """Whether process 1 has a handler for SIGTERM."""
    status = engine.docker("exec", container, "grep", "SigCgt", "/proc/1/status")
    return bool(int(status.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_container_that_is_stopped_while_it_starts_ends_at_once(engine: Engine, images: Images) -> None:
    name = engine.docker("run", "--detach", images.build("service")).strip()
    wait_until(lambda: catches_sigterm(engine, name))
    began = time.monotonic()
    engine.docker("stop", "--time=30", name)
    assert time.monotonic() - began < 10
    engine.docker("rm", name)


def test_a_profile_without_its_secrets_does_not_start(compose: Start, images: Images) -> None:
    project = compose("EDGE_IMAGE", "PROMETHEUS_IMAGE", "ALERTMANAGER_IMAGE", profiles=("monitoring",))
    images.build("service")
    with pytest.raises(DockerError, match="monitoring-secrets"):
        project("up", "--detach", "prometheus")
    assert "Set GRAFANA_ADMIN_PASSWORD in .env" in project("logs", "monitoring-secrets")


def test_the_example_of_the_settings_names_every_variable(repository: Path) -> None:
    example = (repository / ".env.example").read_text(encoding="utf-8")
    required = {
        "BUNRIWIKI_ADMIN_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "GRAFANA_ADMIN_PASSWORD",
        "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY",
    }
    assert all(f"\n{name}=change-me\n" in example for name in required)
    assert not (repository / ".env").exists()


def test_compose_accepts_the_file_with_every_profile(compose: Start) -> None:
    project = compose("EDGE_IMAGE", profiles=("registry", "monitoring"))
    services = json.loads(project("config", "--format", "json"))["services"]
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["mem_limit"], name
        assert service["cpus"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["logging"]["options"]["max-size"] == "10m", name
        if not name.endswith("-secrets"):
            assert service["restart"] == "unless-stopped", name
            assert "start_period" in service["healthcheck"], name
            assert "stop_grace_period" in service, name
