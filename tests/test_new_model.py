"""Follows docs/new-model.md: runs the code on that page, and serves the model that it adds, without a server."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bentoml
import pytest
from starlette.datastructures import Headers

import runners
import training
from bunriwiki.artifacts import models
from bunriwiki.artifacts.answers import Answers, Classification
from bunriwiki.artifacts.golden import read_golden_texts
from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.artifacts.models import ModelSpec
from bunriwiki.disposal.advice import Guide
from bunriwiki.ipc.frames import LENGTH, AnswersDecoder, batch_frame
from bunriwiki.ipc.server import Replies
from bunriwiki.model_store.generation_watcher import GenerationWatcher
from bunriwiki.model_store.layout import Layout
from bunriwiki.protocols.admin.sidecar import Sidecar
from bunriwiki.protocols.handlers.dataplane import DataPlane, Limits, Model
from bunriwiki.protocols.handlers.feedback import Feedback
from bunriwiki.protocols.handlers.shadowing import Comparisons
from bunriwiki.protocols.inference import models as inference
from bunriwiki.protocols.inference.handlers import InferRequest, OpenInference
from bunriwiki.protocols.inference.tensors import Tensor
from bunriwiki.protocols.rest import endpoints
from bunriwiki.protocols.rest.requests import Request
from bunriwiki.testing.paths import MODELS, ROOT
from bunriwiki.web.problems import RequestError
from bunriwiki.web.tokens import TokenGate
from model_sync.evaluation.golden_samples import golden_samples
from model_sync.evaluation.reference_set import ReferenceSet
from model_sync.importing.compilers.precompiled import import_precompiled
from model_sync.importing.published import Compiled, find_artifact
from runners.servable import Servable, servable_class
from runners.throttle import unthrottled
from runners.worker import runner_service
from tests.bunriwiki.protocols.fakes import FakeRoute, FakeStatus

pytestmark = [pytest.mark.slow, pytest.mark.anyio]  # torch

PAGE = (ROOT / "docs" / "new-model.md").read_text(encoding="utf-8")
SPECIFICATION, TENSORS, RUNNER, SERVICE, RELEASE, ENDPOINT, ROUTE = re.findall(
    r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)

Spec = ModelSpec[str, Classification]


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Spec:
    """The specification of step 1, registered, with the modules of steps 3 and 5 in their packages."""
    names = dict(vars(models))
    exec(SPECIFICATION, names)  # noqa: S102
    found: Spec = names["LENGTH"]
    monkeypatch.setattr(models, "LENGTH", found, raising=False)
    monkeypatch.setitem(models.SPECS, found.name, found)
    for package, code in ((runners, RUNNER), (training, RELEASE)):
        folder = tmp_path / "code" / package.__name__
        folder.mkdir(parents=True)
        (folder / "length.py").write_text(code, encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
        monkeypatch.delitem(sys.modules, f"{package.__name__}.length", raising=False)
    return found


@pytest.fixture
def folder(spec: Spec, tmp_path: Path) -> Path:
    """The version of step 5."""
    importlib.import_module("training.length").release_length(tmp_path / "length", "v1")
    return tmp_path / "length"


@pytest.fixture
def version(spec: Spec, folder: Path) -> Servable[str, Classification]:
    found = servable_class(spec)(folder)
    found.warm_up(unthrottled)
    return found


class InProcessRunner:
    """Answers with `version`. Batches and answers pass through the frames of the inter-process call."""

    def __init__(self, spec: Spec, version: Servable[str, Classification]) -> None:
        self.batches: list[int] = []
        self._version = version
        self._replies = Replies(spec.name, spec.input, self._predict)
        self._decoder = AnswersDecoder(spec.answer)

    async def predict(self, inputs: Sequence[str], version: str) -> Answers[Classification]:
        frame = self._replies.to(bytes(batch_frame(version, inputs))[LENGTH.size :])
        return self._decoder.decode(bytes(frame)[LENGTH.size :])

    async def is_ready(self) -> bool:
        return True

    def _predict(self, batch: Sequence[str], _: str) -> Answers[Classification]:
        self.batches.append(len(batch))
        return self._version.predict(batch)


@pytest.fixture
def runner(spec: Spec, version: Servable[str, Classification]) -> InProcessRunner:
    return InProcessRunner(spec, version)


@pytest.fixture
def dataplane(spec: Spec, runner: InProcessRunner) -> DataPlane:
    limits = Limits(max_queue_size=64, parallel_calls=1, deadline_seconds=5)
    model = Model(spec, runner, FakeRoute("v1"), limits, comparisons=Comparisons())
    return DataPlane([model], FakeStatus([spec.name], {"v1": "available"}))


@pytest.fixture
def open_inference(spec: Spec, dataplane: DataPlane, folder: Path, tmp_path: Path) -> OpenInference:
    names = {**vars(inference), "LENGTH": spec}
    exec(TENSORS, names)  # noqa: S102
    watcher = GenerationWatcher(Layout(tmp_path / "store"), {spec.name: folder})
    return OpenInference(dataplane, watcher, Sidecar("http://127.0.0.1:9", TokenGate([]), 1), [names["LENGTH_TENSORS"]])


def test_the_version_answers_as_the_original(folder: Path, version: Servable[str, Classification]) -> None:
    samples = read_golden_texts(folder)
    assert len(samples) >= 64
    for sample, answer in zip(samples, version.predict([sample.text for sample in samples]).results, strict=True):
        assert isinstance(answer, Classification)
        assert sample.differs(answer) is None


def test_a_version_of_another_model_is_rejected(spec: Spec) -> None:
    with pytest.raises(DamagedArtifactError, match="a version of kcbert, not of length"):
        servable_class(spec)(MODELS / "kcbert")


def test_a_damaged_version_is_rejected(spec: Spec, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(b"no model")
    with pytest.raises(DamagedArtifactError, match=r"model\.onnx has 8 bytes"):
        servable_class(spec)(folder)


async def test_a_request_is_answered_in_batches(spec: Spec, dataplane: DataPlane, runner: InProcessRunner) -> None:
    served = await dataplane.infer(spec, ["가" * 5, "가" * 50] * 20)
    assert [answered.answer.label for answered in served] == ["short", "long"] * 20
    assert {(answered.model, answered.version) for answered in served} == {("length", "v1")}
    assert runner.batches == [32, 8]


async def test_an_input_that_the_check_rejects_costs_no_call(spec: Spec, dataplane: DataPlane, runner: InProcessRunner) -> None:
    with pytest.raises(RequestError, match="is empty") as caught:
        await dataplane.infer(spec, ["가", " "])
    assert (caught.value.status, runner.batches) == (422, [])


async def test_open_inference(open_inference: OpenInference) -> None:
    found = await open_inference.model_metadata("length")
    assert (found.platform, found.versions) == ("onnxruntime_onnx", ["v1"])
    assert [(tensor.name, tensor.shape) for tensor in (*found.inputs, *found.outputs)] == [
        ("text", (-1,)), ("label", (-1,)), ("score", (-1,)), ("scores", (-1, 2)),
    ]  # fmt: skip
    text = Tensor("text", "BYTES", (2,), ["가".encode(), ("가" * 40).encode()])
    answer = await open_inference.infer(InferRequest(model="length", inputs=[text], outputs=["label"]))
    assert (answer.version, [list(tensor.data) for tensor in answer.outputs]) == ("v1", [[b"short", b"long"]])
    assert [name for name, _, _ in open_inference.statistics()] == ["length"]


async def test_the_rest_endpoint(spec: Spec, dataplane: DataPlane) -> None:
    names = {**vars(endpoints), "LENGTH": spec}
    exec(f"class WithLength(Endpoints):\n{ENDPOINT}", names)  # noqa: S102
    rest = names["WithLength"](dataplane, Guide.read(), Feedback(), TokenGate([]))
    [route] = eval(f"[{ROUTE}]", names, {"self": rest})  # noqa: S307
    assert (route.method, route.path) == ("POST", "/length/prediction")
    body = json.dumps({"text": "가" * 40}).encode()
    response = await route.endpoint(Request(Headers({"content-type": "application/json"}), body))
    assert json.loads(response.body)["label"] == "long"
    assert response.headers == {"X-Model-Name": "length", "X-Model-Version": "v1"}


def test_bentoml_starts_its_workers(spec: Spec) -> None:
    names: dict[str, Any] = {"bentoml": bentoml, "runner_service": runner_service, "LENGTH": spec}
    exec(f"class WithLength:\n{SERVICE}", names)  # noqa: S102
    assert names["WithLength"].length.on.name == "length"


def test_the_sidecar_imports_and_evaluates_precompiled_versions(
    spec: Spec, folder: Path, version: Servable[str, Classification], tmp_path: Path
) -> None:
    assert find_artifact(spec.name, folder) == Compiled(folder)
    imported = tmp_path / "imported"
    import_precompiled(folder, imported, model=spec.name, version="v2", source="a test")
    Manifest.read(imported).verify(imported)
    samples = list(golden_samples(spec.name, imported))
    answers = version.predict([text for text, _ in samples]).results
    assert [differs(answer) for (_, differs), answer in zip(samples, answers, strict=True)] == [None] * len(samples)
    assert ReferenceSet.read(spec.name, imported).inputs([0]) == ["가"]
