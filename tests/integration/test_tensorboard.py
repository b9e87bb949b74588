"""A run's scalars, from training through `publish` and S3 to TensorBoard, started as training/README.md says."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bunriwiki.testing.paths import MODELS, ROOT
from bunriwiki.testing.ports import free_port
from bunriwiki.testing.publisher import s3_environment
from bunriwiki.testing.seaweedfs import SeaweedFS
from bunriwiki.testing.server_process import BINARIES, ServerProcess
from bunriwiki.testing.untrained import untrained_classifier
from bunriwiki.testing.waiting import wait_until
from tests.training.test_texts import write_comments

RUN = "kcbert/v4"  # TensorBoard's name for it
SYNC_ENV = ".venv-sync/bin"  # in the documented commands; the environment of the tests has the same packages


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    with SeaweedFS(tmp_path_factory.mktemp("seaweedfs")) as server:
        yield server


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `training.kcbert`, run with a tiny BERT on made comments."""
    folder = tmp_path_factory.mktemp("training")
    write_comments(folder / "data")
    (folder / "data" / "kcbert").mkdir()
    vocabulary = json.loads((MODELS / "kcbert" / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = "\n".join(sorted(vocabulary, key=vocabulary.__getitem__))
    (folder / "data" / "kcbert" / "vocab.txt").write_text(words, encoding="utf-8")
    untrained_classifier(folder / "pretrained")
    _run(
        {"OMP_NUM_THREADS": "1"},
        *("-m", "training.kcbert", "--data", folder / "data", "--output", folder / "kcbert"),
        *("--pretrained", folder / "pretrained", "--epochs", "2"),
    )
    return folder / "kcbert"


def _run(environment: dict[str, str], *arguments: str | Path) -> str:
    command = [BINARIES / "python", *arguments]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout


@pytest.fixture(scope="module")
def published(s3: SeaweedFS, trained: Path) -> dict[str, Any]:
    """What `publish` says of the run, as version v4."""
    answer = _run(s3_environment(s3), "-m", "model_sync", "publish", "kcbert", trained, "--version", "v4", "--json")
    return dict(json.loads(answer))


@pytest.fixture
def tensorboard(s3: SeaweedFS, tmp_path: Path) -> ServerProcess:
    """TensorBoard, to be started by the command in training/README.md with another port."""
    text = (ROOT / "training" / "README.md").read_text(encoding="utf-8")
    [documented] = [line for line in text.splitlines() if "tensorboard" in line and "$BUNRIWIKI_S3_URI" in line]
    assert documented.startswith(f"{SYNC_ENV}/python ")
    port = free_port()
    command = documented.replace(SYNC_ENV, str(BINARIES)).replace("6006", str(port))
    environment = {**s3_environment(s3), "PYTHONPATH": str(ROOT)}  # the command is for the repository's folder
    return ServerProcess(["bash", "-c", f"exec {command}"], port, "/", folder=tmp_path, environment=environment)


def test_a_history_is_no_part_of_the_version(published: dict[str, Any]) -> None:
    assert {"config.json", "model.safetensors", "ngrams.safetensors"} <= set(published["uploaded"])
    assert not any("tfevents" in file or "checkpoint" in file for file in published["uploaded"])
    assert len(published["history"]) == 2  # of the training, and of the test at its end


def test_tensorboard_shows_the_scalars_of_a_published_run(
    s3: SeaweedFS, trained: Path, published: dict[str, Any], tensorboard: ServerProcess
) -> None:
    tags: dict[str, Any] = {}
    scalars = f"{tensorboard.url}/data/plugin/scalars"

    def shown() -> bool:
        with contextlib.suppress(httpx.TransportError):
            tags.update(httpx.get(f"{scalars}/tags", timeout=10).json())
        return "test/macro_f1" in tags.get(RUN, {})

    s3.kill()  # it reads them although S3 did not answer at first
    with tensorboard:
        s3.start()
        wait_until(shown, 90, lambda: tags, interval=1)
        assert {"train/loss", "train/learning_rate", "eval/loss", "eval/accuracy", "eval/macro_f1"} <= tags[RUN].keys()
        found = httpx.get(f"{scalars}/scalars", params={"run": RUN, "tag": "eval/macro_f1"}, timeout=10).json()
    assert {step: value for _, step, value in found} == pytest.approx(evaluations(trained))


def evaluations(trained: Path) -> dict[int, float]:
    """The macro-F1 by step that the last checkpoint of the training remembers."""
    last = max(trained.glob(".run/checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return {entry["step"]: entry["eval_macro_f1"] for entry in history if "eval_macro_f1" in entry}
