"""A writer that is killed at any instant of a real publication: what it leaves reads cleanly, and the next run completes."""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import traceback
from collections import Counter
from pathlib import Path

from bentoml._internal.models import ModelStore

from artifacts.manifest import MODELS, Manifest
from model_store.generation import Generations
from model_store.history import History
from model_store.layout import Layout
from model_store.rollover import roll_over
from model_store.writer import open_writer
from tests.conftest import MODELS as SHIPPED
from tests.integration.conftest import FULL

DEATHS = 200 if FULL else 25
HITS = 5 if FULL else 1  # least deaths after each step
STEPS = (
    "opened", "copied", "verified", "described", "synced", "renamed", "published", "recorded",
    "preparing", "prepared", "flipped",
)  # fmt: skip
VERSION = "fallback-1"


def publish_all(root: Path, tell: int) -> None:
    """Publish the shipped models and have them serve; each step is written to `tell` when it is done."""

    def progress(step: str) -> None:
        os.write(tell, f"{step}\n".encode())

    with open_writer(root, "about to die") as writer:
        progress("opened")
        for model in MODELS:
            writer.publish(SHIPPED / model, "a test", "person", progress)
            serving = writer.generations().of(model).serving
            if serving is None:
                roll_over(writer, model, VERSION, "a test", "person", progress=progress)


def run(root: Path, kill_after: str | None, delay: float) -> str:
    """A run in a process of its own, killed `delay` seconds after a step (None: its start); the last step that it had done."""
    read, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            publish_all(root, tell)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(tell)
    told = b""
    waiting = kill_after is not None
    while waiting:
        chunk = os.read(read, 4096)
        told += chunk
        waiting = bool(chunk) and f"{kill_after}\n" not in told.decode()
    select.select([], [], [], delay)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while chunk := os.read(read, 4096):
        told += chunk
    os.close(read)
    steps = told.decode().split()
    if not os.WIFSIGNALED(status):
        return "not killed"
    return steps[-1] if steps else "started"


def assert_reads_cleanly(layout: Layout) -> None:
    """What every reader sees is whole."""
    for model, versions in layout.published().items():
        for version in versions:
            folder = layout.version(model, version)
            Manifest.read(folder).verify(folder)
    if layout.models.exists():
        ModelStore(layout.models).list()
    for generation in Generations.read(layout.generation).models.values():
        for target in (generation.serving, generation.preparing):
            assert target is None or target.version == VERSION
    list(History(layout.history).read())


def assert_complete(layout: Layout) -> None:
    assert layout.published() == {model: [VERSION] for model in sorted(MODELS)}
    assert list(layout.staging.iterdir()) == []
    assert not list(layout.root.glob(".*"))
    for model in MODELS:
        now = Generations.read(layout.generation).of(model)
        assert now.serving
        assert (now.generation, now.serving.version, now.preparing) == (1, VERSION, None)
        kinds = Counter(event.kind for event in History(layout.history).read(model))
        assert (kinds["published"], kinds["flipped"]) == (1, 1)


def test_a_writer_killed_at_random_instants(tmp_path: Path) -> None:
    chance = random.Random(4)
    hits: Counter[str] = Counter()
    number = 0
    while hits.total() - hits["not killed"] < DEATHS or any(hits[step] < HITS for step in STEPS):
        assert number < 3 * DEATHS, f"some step is never hit: {hits}"
        layout = Layout(tmp_path / str(number))
        # Half at any instant, half soon after a step: the short ones would hardly be hit.
        step = STEPS[number // 2 % len(STEPS)] if number % 2 else None
        hits[run(layout.root, step, chance.uniform(0, 0.0005) if step else chance.uniform(0, 0.8))] += 1
        assert_reads_cleanly(layout)
        read, tell = os.pipe()
        publish_all(layout.root, tell)
        os.close(read)
        os.close(tell)
        assert_complete(layout)
        shutil.rmtree(layout.root)
        number += 1
    print(f"{number} deaths, after: {dict(hits)}")
