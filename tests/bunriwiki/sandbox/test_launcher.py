"""The launcher with the programs that the service runs (servers, threads, libraries), and what it closes and drops."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE

import pytest

from bunriwiki.sandbox import landlock
from bunriwiki.sandbox.landlock import PROC
from bunriwiki.sandbox.policy import Policy
from bunriwiki.sandbox.user import can_change
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.processes import wait_while_running

ENVIRONMENT = [str(Path(sys.prefix)), str(Path(sys.executable).resolve().parent.parent), *map(str, ROOT.glob("*/"))]
SERVER = """
import asyncio, os, socket, sys
import uvloop

async def serve():
    async def answer(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
    listening = socket.socket(fileno=int(os.environ["BUNRIWIKI_IPC_FD"]))
    server = await asyncio.start_unix_server(answer, sock=listening)
    assert await asyncio.to_thread(sum, [1, 2]) == 3
    await server.serve_forever()

{run}(serve())
"""
UVICORN = """
import os
import uvicorn

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"HELLO"})

uvicorn.run(app, fd=int(os.environ["BUNRIWIKI_IPC_FD"]), lifespan="off", log_config=None)
"""
LIBRARIES = """
import os, threading
import numpy as np
import onnx, onnxruntime, prometheus_client, psutil, sklearn.linear_model, watchfiles, mlflow
from onnx import TensorProto, helper

a = np.ones((500, 500)); assert (a @ a)[0, 0] == 500
sklearn.linear_model.LogisticRegression().fit([[0.0], [1.0]], [0, 1])
value = helper.make_tensor_value_info
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "g", [value("x", 1, [2])], [value("y", 1, [2])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
session = onnxruntime.InferenceSession(model.SerializeToString())
assert session.run(None, {"x": np.ones(2, np.float32)})[0].tolist() == [2, 2]
prometheus_client.Counter("c", "c").inc()
assert [name for name in os.listdir(os.environ["PROMETHEUS_MULTIPROC_DIR"]) if name.endswith(".db")]
assert psutil.Process().memory_info().rss and psutil.Process().num_threads() and psutil.cpu_count()
home = os.environ["HOME"]
changes = watchfiles.watch(home, force_polling=False, rust_timeout=5000, yield_on_timeout=True, debounce=50)
threading.Timer(0.3, lambda: open(home + "/seen", "w").close()).start()
assert any(path.endswith("seen") for _, path in next(changes))
print("fine")
"""


def command(policy: Policy, code: str) -> list[str]:
    return [sys.executable, "-m", "bunriwiki.sandbox", policy.to_json(), sys.executable, "-c", code]


def policy(home: Path, **others: object) -> Policy:
    return Policy(readable=tuple(ENVIRONMENT), writable=(str(home),), **others)  # type: ignore[arg-type]


def run(policy: Policy, code: str, **others: object) -> str:
    done = subprocess.run(command(policy, code), cwd=ROOT, text=True, capture_output=True, timeout=120, check=False, **others)  # type: ignore[call-overload]
    assert not done.returncode, done.stderr
    return str(done.stdout).strip()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@contextmanager
def serving(home: Path, code: str, **others: object) -> Iterator[str]:
    """The path of the socket of a server in the sandbox."""
    listen = policy(home, listen=str(home.parent / "{pid}.sock"), **others)
    process = subprocess.Popen(command(listen, code), cwd=ROOT)
    path = home.parent / f"{process.pid}.sock"
    try:
        wait_while_running(process, lambda: accepts(path), 30, log=str)
        yield str(path)
    finally:
        process.kill()
        process.wait()


def accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def send(path: str, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(path)
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(1000), b""))


@pytest.mark.parametrize("loop", ["asyncio.run", "uvloop.run"])
def test_a_server_answers_on_the_socket_that_it_inherits(home: Path, loop: str) -> None:
    with serving(home, SERVER.format(run=loop)) as path:
        assert Path(path).stat().st_mode & 0o777 == 0o600
        for _ in range(3):
            assert send(path, b"hello\n") == b"HELLO\n"


def test_uvicorn_answers_as_another_user(home: Path) -> None:
    if not can_change():
        pytest.skip("the tests may not change users")
    os.chown(home, 61184, 61184)
    with serving(home, UVICORN, user=61184) as path:
        assert send(path, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").endswith(b"5\r\nHELLO\r\n0\r\n\r\n")


def test_a_socket_file_of_a_dead_process_is_replaced(home: Path) -> None:
    left = home / "left.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(left))
    run(policy(home, listen=str(left)), "import os, socket; socket.socket(fileno=int(os.environ['BUNRIWIKI_IPC_FD'])).listen()")


@pytest.mark.slow
def test_the_libraries_of_runners_and_compilers_work(home: Path) -> None:
    environment = {"HOME": str(home), "PROMETHEUS_MULTIPROC_DIR": str(home), "PATH": os.environ["PATH"], "TMPDIR": str(home)}
    assert run(policy(home, memory=2**32), LIBRARIES, env=environment) == "fine"


def test_other_descriptors_are_closed(home: Path) -> None:
    kept, secret = (os.open(ROOT / "pyproject.toml", os.O_RDONLY) for _ in range(2))
    code = "import json, os; print(json.dumps([fd for fd in map(int, os.listdir('/proc/self/fd'))]))"
    opened = json.loads(run(policy(home, keep=(kept,)), code, pass_fds=(kept, secret)))
    os.close(kept)
    os.close(secret)
    assert kept in opened
    assert secret not in opened
    # 0, 1, 2, the kept descriptor, that of the listed folder, and those that keep inodes of /proc
    assert len(opened) == 5 + len(PROC) * landlock.supported()


def test_a_process_may_read_its_folder_in_proc_after_the_kernel_dropped_its_caches(home: Path) -> None:
    """As it does when memory is short. The rule of the sandbox is about an inode, which must not be among what is dropped."""
    code = (
        "import psutil; read = psutil.Process().memory_info; read(); print('ready', flush=True); input(); print(read().rss > 0)"
    )
    with subprocess.Popen(command(policy(home), code), cwd=ROOT, text=True, stdin=PIPE, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        Path("/proc/sys/vm/drop_caches").write_text("2", encoding="ascii")
        printed, _ = process.communicate("\n", timeout=60)
    assert printed == "True\n"


def test_all_capabilities_are_dropped(home: Path) -> None:
    status = dict(line.split(":\t", 1) for line in run(policy(home), "print(open('/proc/self/status').read())").splitlines())
    assert [int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0, 0, 0, 0]
    assert int(status["CapBnd"], 16) == 0 or os.geteuid()
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_another_user_has_no_supplementary_group_and_one_capability(home: Path) -> None:
    if not can_change():
        pytest.skip("the tests may not change users")
    code = "import os; print(os.getresuid(), os.getresgid(), os.getgroups()); print(open('/proc/self/status').read())"
    ids, *lines = run(policy(home, user=61200), code).splitlines()
    status = dict(line.split(":\t", 1) for line in lines)
    assert ids == f"{(61200,) * 3} {(61200,) * 3} []"
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 2  # CAP_DAC_READ_SEARCH


def test_the_launcher_exits_if_a_writable_folder_does_not_exist(home: Path) -> None:
    done = subprocess.run(command(policy(home / "nowhere"), "print(1)"), cwd=ROOT, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_copying_files_succeeds(home: Path) -> None:
    """`shutil` calls `chmod` and `utime`, which do nothing in the sandbox."""
    code = f"import shutil; code, home = 'bunriwiki/sandbox', {str(home)!r}; shutil.copy2(code + '/rules.py', home)"
    code += "; shutil.copytree(code, home + '/s')"
    run(policy(home), code)
    assert (
        (home / "rules.py").read_bytes()
        == (home / "s" / "rules.py").read_bytes()
        == (ROOT / "bunriwiki/sandbox/rules.py").read_bytes()
    )
