"""Attacks on the service that succeeded once, repeated under every way of serving: docs/threat-model.md."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pickle
import re
import socket
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from bunriwiki.artifacts.manifest import MODELS, Manifest, describe_files
from bunriwiki.ipc.frames import LENGTH
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.scraped import Scraped
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import Sidecar
from bunriwiki.testing.stores import serve_from_store
from bunriwiki.testing.versions import make_version, replace_once
from bunriwiki.testing.waiting import wait_until
from tests.integration.conftest import Bento

TOKEN = "the-token-of-the-administrator"  # noqa: S105 (words, no secrets)
SECRETS = {
    "BUNRIWIKI_ADMIN_TOKEN": TOKEN,
    "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-bucket",
    "BUNRIWIKI_WEBHOOK_SECRET": "the-secret-of-the-webhook",
    "BUNRIWIKI_FEEDBACK_KEY": "the-secret-that-signs-the-tickets",
    "BUNRIWIKI_FEEDBACK_TOKEN": "the-token-of-a-rater",
    "MLFLOW_TRACKING_PASSWORD": "the-password-of-the-registry",
    "SOMEBODY_ELSES_KEY": "the-key-of-somebody-else",
}
NOBODY = 65534
MB = 2**20


@dataclass
class Service:
    """A service that is ready, and its model store."""

    server: Server
    store: Path

    @property
    def ports(self) -> set[int]:
        """The ports that it is configured to listen on."""
        return {self.server.port, self.server.grpc_port, self.server.health_port}

    def processes(self) -> list[psutil.Process]:
        parent = psutil.Process(self.server.process.pid)
        return [parent, *parent.children(recursive=True)]

    def runners(self) -> dict[str, psutil.Process]:
        return {name: worker for name, worker in self.server.workers().items() if name in MODELS}

    def folder(self) -> Path:
        """The private folder of the running service."""
        return Path(self.gateway().environ()["BUNRIWIKI_SOCKETS"])

    def gateway(self) -> psutil.Process:
        return self.server.workers()["bunriwiki"]

    def unix_sockets(self) -> set[str]:
        """The paths that its processes listen on."""
        own = {
            link.removeprefix("socket:[").removesuffix("]")
            for process in self.processes()
            for link in _links(Path(f"/proc/{process.pid}/fd"))
        }
        rows = [line.split() for line in Path("/proc/net/unix").read_text(encoding="utf-8").splitlines()[1:]]
        return {row[7] for row in rows if len(row) > 7 and row[3] == "00010000" and row[6] in own}

    def answers(self) -> bool:
        answer = httpx.post(f"{self.server.url}/predict", json={"text": "정말 재미있어요"}, timeout=30)
        return answer.status_code == 200


def _links(folder: Path) -> list[str]:
    found = []
    for entry in folder.iterdir():
        try:
            found.append(os.readlink(entry))  # noqa: PTH115
        except OSError:
            continue  # closed meanwhile
    return found


ATTACK = '''

def attack(path):
    """What a hostile model would do; the result of each attempt."""
    import ctypes, glob, json, os, signal, socket
    wanted = json.load(open(path))
    found = {}
    def attempt(name, work):
        try:
            found[name] = str(work())
        except OSError as error:
            found[name] = "rejected"
        except Exception as error:
            found[name] = repr(error)
    def connect(family, address):
        with socket.socket(family) as connection:
            connection.connect(address)
            return "connected"
    def write(name):
        with open(name, "w") as file:
            file.write("harm")
        return "written"
    def run(command):
        import subprocess
        return subprocess.run(command, capture_output=True).stdout
    attempt("environment", lambda: [secret for secret in wanted["secrets"] if secret in str(dict(os.environ))])
    attempt("environment of the gateway", lambda: open(f"/proc/{wanted['gateway']}/environ").read())
    attempt("environment of the parent", lambda: open(f"/proc/{os.getppid()}/environ").read())
    attempt("memory of the gateway", lambda: open(f"/proc/{wanted['gateway']}/mem", "rb").read(1))
    for path in wanted["sockets"]:
        attempt("socket " + path, lambda path=path: connect(socket.AF_UNIX, path))
    attempt("gateway", lambda: connect(socket.AF_INET, ("127.0.0.1", wanted["port"])))
    attempt("process", lambda: run(["true"]))
    attempt("fork", lambda: os.fork() and "forked")
    attempt("signal", lambda: os.kill(wanted["gateway"], signal.SIGTERM))
    attempt("signal to the parent", lambda: os.kill(os.getppid(), signal.SIGTERM))
    attempt("secret file", lambda: open(wanted["file"]).read())
    for name in wanted["writes"]:
        attempt("write " + name, lambda name=name: write(name))
    attempt("remove a version", lambda: os.rename(wanted["version"], wanted["version"] + "-gone"))
    attempt("ptrace", lambda: ctypes.CDLL(None, use_errno=True).ptrace(16, wanted["gateway"], None, None) == -1 and "rejected")
    found["listening"] = [fd for fd in range(3, 64) if listens(fd)]
    with open(os.path.join(os.environ["TMPDIR"], "found.json"), "w") as file:
        json.dump(found, file)


def listens(fd):
    import socket
    try:
        with socket.socket(fileno=os.dup(fd)) as opened:
            return opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) and str(opened.getsockname())
    except OSError:
        return False

'''


def hostile_version(folder: Path) -> Path:
    """A version of sentiment that answers as the bundled version does, and attacks for a text that begins with `attack: `."""
    make_version("sentiment", "hostile", 0, folder)
    code = folder / "pyfunc" / "sentiment_model.py"
    first = '        texts = model_input["text"].tolist()\n'
    replace_once(code, first, first + '        [attack(text[8:]) for text in texts if text.startswith("attack: ")]\n')
    replace_once(code, "class SentimentEnsemble", ATTACK.lstrip() + "\n\nclass SentimentEnsemble")
    Manifest.read(folder).model_copy(update={"files": describe_files(folder)}).write(folder)
    return folder


@pytest.fixture(scope="module", params=["make serve", "bentoml serve", "a Bento"])
def service(
    request: pytest.FixtureRequest, start: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("hardening")
    environment = {**SECRETS, "BUNRIWIKI_MODEL_STORE": str(folder / "store")}
    serve_from_store(folder / "store", hostile_version(folder / "hostile"))
    options: dict[str, Any] = {}
    match request.param:
        case "make serve":
            options["command"] = ["make", "serve"]
        case "a Bento":
            bento: Bento = request.getfixturevalue("bento")
            options |= {"target": bento.tag, "folder": bento.home}  # outside of the repository, whose files it must not need
            environment |= bento.environment
    server = start(grpc=True, environment=environment, **options)
    yield Service(server, folder / "store")
    server.stop()


def test_no_process_listens_on_a_port_that_is_not_configured(service: Service) -> None:
    """circus' control and event sockets were on TCP: any local user could read environments and start commands."""
    inet = [connection for process in service.processes() for connection in process.net_connections(kind="inet")]
    assert {connection.laddr.port for connection in inet if connection.status == psutil.CONN_LISTEN} == service.ports
    assert [connection for connection in inet if connection.type == socket.SOCK_DGRAM] == []


def test_no_other_user_reaches_a_socket(service: Service) -> None:
    paths = sorted(path for path in service.unix_sockets() if not path.startswith("@"))
    assert {"endpoint", "pubsub_endpoint"} <= {Path(path).name for path in paths}
    assert len(paths) >= 2 + 2 * len(MODELS)  # two of circus; of each runner BentoML's and that for calls of the gateway
    assert stat.S_IMODE(service.folder().stat().st_mode) == 0o700
    assert [path for path in paths if _reaches(path, NOBODY)] == []
    assert [path for path in service.unix_sockets() if path.startswith("@")] == []


def test_no_runner_knows_a_secret(service: Service) -> None:
    assert set(service.runners()) == set(MODELS)
    for process in service.runners().values():
        known = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert [secret for secret in SECRETS.values() if secret.encode() in known] == []


def test_nobody_reads_processes_hosts_and_paths(service: Service) -> None:
    """`/v1/models` showed all of them to everybody."""
    wait_until(lambda: all(worker["serving"] for name in MODELS for worker in service.server.model(name)["workers"]))
    told = [str(process.pid) for process in service.processes()]
    told += [socket.gethostname(), str(service.store), str(service.folder()), str(ROOT)]
    pattern = re.compile("|".join(rf"(?<![\w.]){re.escape(text)}(?![\w.])" for text in told))
    index = httpx.post(f"{service.server.url}/v2/repository/index", timeout=10).text
    texts = [index, *(httpx.get(service.server.url + path, timeout=10).text for path in ("/v1/models", "/readyz", "/v2"))]
    assert [text for text in texts if pattern.search(text)] == []
    labels = {
        (name, value)
        for family in Scraped(service.server).families
        for sample in family.samples
        for name, value in sample.labels.items()
    }
    assert [(name, value) for name, value in labels if pattern.search(value)] == []
    assert [(name, value) for name, value in labels if value.startswith("/") and name not in {"path", "endpoint"}] == []
    assert {value for name, value in labels if name == "worker"} == {"0"}
    authorized = httpx.get(f"{service.server.url}/v1/models", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10)
    assert {worker["pid"] for model in authorized.json()["models"] for worker in model["workers"]} == {
        runner.pid for runner in service.runners().values()
    }
    assert httpx.get(f"{service.server.url}/v1/models", headers={"Authorization": "Bearer guess"}).status_code == 401


def _reaches(path: str, user: int) -> bool:
    """Whether another user can connect to a socket, if this user may become another."""
    if os.geteuid() != 0:
        return False  # the test of the folder's mode has to suffice
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        try:
            socket.socket(socket.AF_UNIX).connect(path)
        except PermissionError:
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0


class Command:
    """Runs a command where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self._mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self._mark}",)


def test_no_runner_unpickles(service: Service, tmp_path: Path) -> None:
    """BentoML's runners unpickle what arrives on their sockets: whoever could connect to them could run code in them."""
    mark = tmp_path / "harm"
    payload = pickle.dumps(Command(mark))
    head = (
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/vnd.bentoml+pickle\r\n"
        f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    )
    requests = [head.format(path=path).encode() + payload for path in ("/predict", "/answer", "/")]
    runners = [path for path in service.unix_sockets() if Path(path).name not in {"endpoint", "pubsub_endpoint"}]
    assert len(runners) == 2 * len(MODELS)
    answers = []
    for path in runners:
        for data in (*requests, LENGTH.pack(len(payload)) + payload, payload):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(path)
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                answers.append(connection.recv(100))
    assert not mark.exists()
    assert {answer.split(b"\r\n")[0] for answer in answers} <= {
        b"",  # the socket for calls of the gateway: closed
        b"HTTP/1.1 404 Not Found",  # BentoML's socket has no routes
        b"HTTP/1.1 400 Bad Request",  # not HTTP
    }
    assert b"HTTP/1.1 404 Not Found" in {answer.split(b"\r\n")[0] for answer in answers}
    assert service.answers()


def test_unknown_paths_leave_nothing(service: Service) -> None:
    """BentoML's metrics had the path as a label: 200 paths of 60 KB took 750 MB, and made /metrics 230 MB large."""
    url, gateway = service.server.url, service.gateway()
    assert len(httpx.get(f"{url}/metrics", timeout=30).content) < MB
    before = gateway.memory_info().rss
    with httpx.Client(base_url=url, timeout=30) as client:
        for number in range(200):
            assert client.get(f"/{number}{'x' * 60_000}").status_code == 404
        for number in range(500):
            for path in (
                f"/unknown-{number}",
                f"/static_content/{number}",
                f"/v2/models/{number}/ready",
                f"/v1/models/{number}/pin",
            ):
                assert client.request("GET" if number % 2 else "POST", path).status_code in {401, 403, 404, 405}
    scrape = httpx.get(f"{url}/metrics", timeout=30).text
    assert len(scrape) < MB
    assert "unknown" not in scrape
    assert 'bentoml_service_request_total{endpoint="other"' in scrape
    assert gateway.memory_info().rss - before < 30 * MB


def test_an_answered_request_leaves_nothing(service: Service) -> None:
    """BentoML's timeout middleware kept everything that belonged to a request for 70 s: at least 1 KB each."""
    gateway, requests = service.gateway(), 10_000
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.server.port, timeout=30)) as connection:

        def ask(times: int) -> None:
            for _ in range(times):
                connection.request("GET", "/v2/health/live")
                answer = connection.getresponse()
                answer.read()
                assert answer.status == 200

        ask(2_000)
        before = gateway.memory_info().rss
        ask(requests)
        assert gateway.memory_info().rss - before < requests * 300


def test_a_hostile_model_that_passed_every_gate_can_do_no_harm(service: Service, tmp_path: Path) -> None:
    """A pyfunc ran as the service's user, with its secrets in the environment and write access to the store."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    version = service.store / "models" / "sentiment" / "hostile"
    places = (
        version / "manifest.yaml",
        service.store / "generation.yaml",
        service.store / "models" / "new",
        ROOT / "service.py",
        tmp_path / "harm",
        service.folder() / "harm",
        service.folder() / "kcbert" / "1.ready",
    )
    writes = [str(place) for place in places]
    before = {name: Path(name).read_bytes() if Path(name).exists() else None for name in writes}
    wanted = {
        "secrets": list(SECRETS.values()), "gateway": service.gateway().pid, "port": service.server.port,
        "sockets": sorted(service.unix_sockets()), "file": str(secret), "writes": writes, "version": str(version),
    }  # fmt: skip
    plan = service.store / "run" / "plan.txt"
    plan.write_text(json.dumps(wanted), encoding="utf-8")
    answer = httpx.post(f"{service.server.url}/predict", json={"text": f"attack: {plan}"}, timeout=60)
    assert (answer.status_code, answer.headers["x-model-version"]) == (200, "hostile")
    found: dict[str, Any] = json.loads((service.folder() / "sentiment-tmp" / "found.json").read_text())
    assert found.pop("environment") == "[]"
    # Its own two sockets: for calls of the gateway, and BentoML's.
    assert len(found.pop("listening")) == 2
    assert {name: result for name, result in found.items() if result != "rejected"} == {}
    assert len(found) > 20
    assert {name: Path(name).read_bytes() if Path(name).exists() else None for name in writes} == before
    assert service.answers()


def test_it_still_stops_in_order(service: Service) -> None:
    folder, processes = service.folder(), service.processes()
    service.server.stop()
    wait_until(lambda: not any(process.is_running() for process in processes), describe=lambda: processes)
    assert not folder.exists()


def test_the_sidecar_listens_on_its_configured_port_only(tmp_path: Path) -> None:
    (tmp_path / "registry").mkdir()
    environment = {"BUNRIWIKI_SOURCES": f"kcbert=local:{tmp_path / 'registry'}"}
    sidecar = Sidecar(tmp_path / "store", tmp_path / "log", environment).start()
    try:
        sidecar.wait(lambda: sidecar.state("kcbert"))
        assert sidecar.process
        process = psutil.Process(sidecar.process.pid)
        inet = []
        for child in (process, *process.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # an import that has just ended
                inet += child.net_connections(kind="inet")
        assert [connection.laddr.port for connection in inet if connection.status == psutil.CONN_LISTEN] == [sidecar.port]
        assert [connection for connection in inet if connection.type == socket.SOCK_DGRAM] == []
    finally:
        sidecar.stop()
