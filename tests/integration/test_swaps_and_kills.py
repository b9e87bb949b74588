"""What goes wrong during a swap: workers that die in each phase of it, loads that are stuck, memory that runs over."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.load import Outcome, mixed_calls, run_load
from bunriwiki.artifacts.manifest import Manifest, describe_files
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import StoreWriter
from tests.integration.conftest import FULL, Server

PHASES = ("preparing", "loading", "prepared", "activated")


@contextmanager
def load(server: Server, clients: int = 8) -> Iterator[Outcome]:
    """Requests of all kinds as long as the block lasts; what came of them is there when it has ended."""
    outcome = Outcome()
    over = False

    def run() -> None:
        came = asyncio.run(run_load(server.url, mixed_calls(), clients=clients, seconds=600, until=lambda: over))
        outcome.counts.update(came.counts)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield outcome
    finally:
        over = True
        thread.join()


class Killer:
    """Kills one worker of a model when a swap comes to a phase."""

    def __init__(self, server: Server, store: StoreWriter, model: str, phase: str) -> None:
        self.server = server
        self.store = store
        self.model = model
        self.phase = phase
        self.killed: list[int] = []

    def progress(self, step: str) -> None:
        """What `promote` tells its steps to."""
        if step == self.phase:
            self._kill(self.server.workers()[self.model].pid)
        elif step == "preparing" and self.phase == "loading":
            threading.Thread(target=self._kill_while_it_loads).start()

    def _kill_while_it_loads(self) -> None:
        while not self.killed:
            for said in self.store.heartbeats.alive():
                if said.role == self.model and "loading" in said.loaded.values() and not self.killed:
                    self._kill(said.pid)
            time.sleep(0.005)

    def _kill(self, pid: int) -> None:
        self.killed.append(pid)
        worker = psutil.Process(pid)
        worker.kill()
        worker.wait()


def test_a_worker_killed_in_each_phase_of_a_swap(pair: Server, store: StoreWriter) -> None:
    with load(pair) as outcome:
        for model in ("kcbert", "yolo", "sentiment") if FULL else ("kcbert", "yolo"):
            for number, phase in enumerate(PHASES):
                version = f"v{number % 2 + 1}"
                killer = Killer(pair, store, model, phase)
                begun = time.monotonic()
                workers = promote(store, model, version, "a test", "operator", progress=killer.progress)
                took = time.monotonic() - begun
                settled = pair.wait_until_it_serves(model, version)
                print(
                    f"{model} killed while {phase}: activated with {workers} workers after {took:.1f} s, "
                    f"all there {settled:.1f} s later"
                )
                assert len(killer.killed) == 1
                assert took < 20
                pair.wait_until_ready(20)
    print(outcome.counts)
    # A killed worker takes its batch along; the gateway asks another one, once.
    assert set(outcome.counts) <= {"200", "503"}
    assert outcome.counts["503"] <= 0.01 * outcome.counts["200"]


def stuck_version(versions: Path, folder: Path, version: str, code: str) -> Path:
    """A version of sentiment that executes `code` when it is loaded."""
    shutil.copytree(versions / "sentiment" / "v1", folder)
    module = folder / "pyfunc" / "sentiment_model.py"
    text = module.read_text(encoding="utf-8")
    place = "        with np.load("
    assert place in text
    module.write_text(text.replace(place, f"        {code}\n{place}"), encoding="utf-8")
    manifest = Manifest.read(folder)
    manifest.model_copy(update={"version": version, "files": describe_files(folder)}).write(folder)
    return folder


def test_a_stuck_load_delays_no_other_model_and_no_newer_version(
    pair: Server, store: StoreWriter, versions: Path, tmp_path: Path
) -> None:
    stuck = stuck_version(versions, tmp_path / "stuck", "v4", "import time; time.sleep(3600)")
    store.publish(stuck, "a test", "operator")
    errors: list[BaseException] = []

    def hopeless() -> None:
        try:
            promote(store, "sentiment", "v4", "a test", "operator")
        except Exception as error:
            errors.append(error)

    waiting = threading.Thread(target=hopeless)
    waiting.start()
    time.sleep(1)
    for model in ("kcbert", "yolo"):
        begun = time.monotonic()
        assert promote(store, model, "v1", "a test", "operator") == 2
        assert time.monotonic() - begun < 10
    assert waiting.is_alive()
    assert pair.model("sentiment")["serving"] == "fallback-2"
    assert promote(store, "sentiment", "v2", "a test", "operator") == 2
    waiting.join(5)
    assert "sentiment:v4 is no longer wanted" in str(errors[0])
    pair.wait_until_it_serves("sentiment", "v2")


def test_a_straggler_is_left_behind_and_comes_back_with_the_new_version(
    pair: Server, store: StoreWriter, versions: Path, tmp_path: Path
) -> None:
    # The first worker that loads it takes the file away and is stuck; the others find none. It lies where workers may write.
    once = store.layout.run / "once"
    once.touch()
    name = repr(str(once))
    code = f"import os, time; os.path.exists({name}) and (os.remove({name}), time.sleep(3600))"
    store.publish(stuck_version(versions, tmp_path / "stuck", "v4", code), "a test", "operator")
    before = {worker.pid for name, worker in pair.all_workers() if name == "sentiment"}
    with load(pair) as outcome:
        assert promote(store, "sentiment", "v4", "a test", "operator", deadline=30) == 1
        pair.wait_until_it_serves("sentiment", "v4")
    after = {worker.pid for name, worker in pair.all_workers() if name == "sentiment"}
    assert len(before & after) == 1
    assert set(outcome.counts) == {"200"}


def test_workers_over_the_memory_limit_are_replaced(start: Callable[..., Server], store: StoreWriter, pair: Server) -> None:
    largest = max(worker["rss"] for model in ("yolo", "kcbert", "sentiment") for worker in pair.model(model)["workers"])
    pair.stop()
    # Room for what they have at the start, and not for a second version beside it.
    limit = str(round(1.1 * largest / 2**20))
    root = str(store.layout.root)
    server = start(environment={"BUNRIWIKI_RUNNER_WORKERS": "2", "BUNRIWIKI_MODEL_STORE": root, "BUNRIWIKI_MAX_RSS_MB": limit})
    before = {worker.pid for name, worker in server.all_workers() if name == "yolo"}
    with load(server) as outcome:
        promote(store, "yolo", "v1", "a test", "operator")
        server.wait_until_it_serves("yolo", "v1")
        time.sleep(3)
        server.wait_until_it_serves("yolo", "v1")
    after = {worker.pid for name, worker in server.all_workers() if name == "yolo"}
    assert len(after - before) >= 1
    assert "BUNRIWIKI_MAX_RSS_MB allows" in server.log()
    assert set(outcome.counts) == {"200"}
    server.stop()
