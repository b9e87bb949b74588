"""Live quality: drift is noticed and nothing else is, and a version that answers worse than the last one is rolled back.

The real service and the real sidecar, a folder as the registry, real texts. Nobody calls a command: the feedback decides.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bunriwiki.artifacts.features import LABEL, TEXT_LENGTH, UNKNOWN_TOKENS, Histograms, add, inputs, subtract
from bunriwiki.artifacts.manifest import Manifest, describe_files
from bunriwiki.artifacts.reference import ReferenceText, read_reference_texts
from bunriwiki.model_store.heartbeats import Heartbeats
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.server import Server
from bunriwiki.testing.sidecar import TOKEN, Sidecar
from bunriwiki.testing.versions import ENTRY_CODE, compiled, replace_once
from bunriwiki.testing.waiting import wait_until
from model_sync.quality.drift import compare
from model_sync.quality.references import References
from tests.integration.conftest import FULL

KEY = "a-secret-of-a-test-that-is-long-enough"
RATER = "a-rater"
BATCH = 64
DRAWS = 100 if FULL else 20
INPUTS = 320  # of a draw
WINDOW_SECONDS = 15
MARK = " #추천"  # of 35 % of the live texts, and of no text of the reference set; the bad version has one answer for them all
MAX_RATED = 3000  # until the bad version must be rolled back
KNOWN = {"Authorization": f"Bearer {RATER}"}


@dataclass
class Deployment:
    """All that runs. The n-th text of `rate` is the same whatever version answers it."""

    root: Path
    sidecar: Sidecar
    server: Server
    texts: Iterator[ReferenceText]
    client: httpx.Client

    def publish(self, model: str, version: str, *, worse: bool = False) -> None:
        folder = compiled(model, self.root / f"{model}-{version}", version)
        if worse:
            code = folder / Manifest.read(folder).entry / ENTRY_CODE
            made_up = f'["최악이다" if "{MARK}" in text else text for text in texts]'
            replace_once(code, '["text"].tolist()\n', f'["text"].tolist()\n        texts = {made_up}\n')
            Manifest.read(folder).model_copy(update={"files": describe_files(folder)}).write(folder)
        folder.rename(self.root / "registry" / model / version)
        os.utime(self.root / "registry" / model / version)
        assert self.sidecar.sync(model)["outcomes"][model]["status"] == "promoted"

    def infer(self, texts: Sequence[str]) -> None:
        """Have kcbert answer texts."""
        for start in range(0, len(texts), BATCH):
            batch = list(texts[start : start + BATCH])
            tensor = {"name": "text", "datatype": "BYTES", "shape": [len(batch)], "data": batch}
            answer = self.client.post(f"{self.server.url}/v2/models/kcbert/infer", json={"inputs": [tensor]})
            assert answer.status_code == 200, answer.text
            assert len(answer.json()["parameters"]["feedback_tickets"].split(",")) == len(batch)

    def counted(self) -> Histograms:
        """What the worker of kcbert has counted of v1."""
        total: Histograms = {}
        for heartbeat in Heartbeats(self.sidecar.layout.run).alive():
            total = add(total, heartbeat.observed.get("v1", {}) if heartbeat.role == "kcbert" else {})
        return total

    def answered(self, texts: Sequence[str]) -> Histograms:
        """What the worker counts while kcbert answers these texts."""
        before = self.counted()
        self.infer(texts)
        wait_until(lambda: inputs(self.counted()) >= inputs(before) + len(texts))
        return subtract(self.counted(), before)

    def predict(self, text: str) -> httpx.Response:
        answer = self.client.post(f"{self.server.url}/predict", json={"text": text})
        assert answer.status_code == 200, answer.text
        return answer

    def give(self, body: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
        return self.client.post(f"{self.server.url}/feedback", json=body, headers=headers)

    def rate(self, answers: int, headers: dict[str, str] = KNOWN) -> dict[str, list[bool]]:
        """Answer texts and say what is right; for each version that answered, whether it was right."""
        samples = list(itertools.islice(self.texts, answers))
        found: dict[str, list[bool]] = {}

        def one(sample: ReferenceText) -> None:
            answer = self.predict(sample.text)
            rated = self.give({"ticket": answer.headers["X-Feedback-Ticket"], "label": sample.label}, headers)
            assert rated.status_code == 201, rated.text
            assert rated.json()["correct"] == (answer.json()["sentiment"] == sample.label)
            found.setdefault(answer.headers["X-Model-Version"], []).append(rated.json()["correct"])

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(one, samples))
        return found

    def quality(self) -> dict[str, Any]:
        return dict(self.client.get(f"{self.sidecar.url}/quality").json())

    def feedback(self, version: str, *, known: bool = True) -> int:
        """How much feedback on a version of sentiment is kept."""
        days = self.quality()["feedback"]
        return sum(day["answers"] for day in days if day["version"] == version and day["known"] == known)

    def drifted(self) -> set[str]:
        """The features of kcbert that have drifted, by the sidecar."""
        window = [each["drift"] for each in self.quality()["window"] if each["model"] == "kcbert"]
        return {feature for drift in window for feature, of in drift.items() if of["drifted"]}


def live_texts(seed: int) -> Iterator[ReferenceText]:
    """Reviews with their right labels, over and over; 7 of 20 have the mark."""
    samples = read_reference_texts(MODELS / "sentiment")
    random.Random(seed).shuffle(samples)
    for number, sample in enumerate(itertools.cycle(samples)):
        yield sample.model_copy(update={"text": sample.text + MARK}) if number % 20 < 7 else sample


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("quality")
    for model in ("kcbert", "sentiment"):
        (root / "registry" / model).mkdir(parents=True)
    environment = {
        "BUNRIWIKI_SOURCES": " ".join(f"{model}=local:{root}/registry/{model}" for model in ("kcbert", "sentiment")),
        "BUNRIWIKI_MODEL_STORE": str(root / "store"),
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_MONITOR_SECONDS": "2",  # so that the feedback comes after it
        "BUNRIWIKI_DRIFT_WINDOW_SECONDS": str(WINDOW_SECONDS),
        "BUNRIWIKI_FEEDBACK_KEY": KEY,
        "BUNRIWIKI_FEEDBACK_TOKEN": RATER,
        "BUNRIWIKI_SAMPLES": str(root / "samples"),
        "BUNRIWIKI_SAMPLES_SHARE": "0.05",
        # All versions are the same model: only a busy machine could reject one for its latency.
        "BUNRIWIKI_GATE_LATENCY_RATIO": "100",
        "BUNRIWIKI_MONITOR_LATENCY_RATIO": "100",
    }
    sidecar = Sidecar(root / "store", root / "sidecar.log", environment)
    try:
        sidecar.start()
        sidecar.wait_for_status("kcbert", "unchanged")
        server = Server(root / "server.log", environment={**environment, "BUNRIWIKI_SYNC_URL": sidecar.url})
        try:
            server.wait_until_ready()
            with httpx.Client(timeout=60) as client:
                yield Deployment(root, sidecar, server, live_texts(1), client)
        finally:
            server.stop()
    finally:
        sidecar.stop()


def test_drift_fires_on_skewed_traffic_and_on_no_draw_from_the_reference(deployment: Deployment) -> None:
    deployment.publish("kcbert", "v1")
    deployment.server.wait_until_serving("kcbert", "v1", 1)
    references = References(deployment.sidecar.layout.quality)
    evaluation = references.read("kcbert", "v1").evaluation
    samples = read_reference_texts(MODELS / "kcbert")
    assert evaluation
    assert inputs(evaluation) == len(samples)
    generator = random.Random(2)

    def draw(samples: Sequence[ReferenceText], count: int = INPUTS) -> list[str]:
        return [sample.text for sample in generator.choices(samples, k=count)]

    began = time.monotonic()
    deployment.infer(draw(samples, 1024))
    wait_until(lambda: references.read("kcbert", "v1").kind == "live")
    reference = references.read("kcbert", "v1").current
    assert inputs(reference) >= 1000
    largest = 0.0
    for _ in range(DRAWS):
        drawn = deployment.answered(draw(samples))
        for against in (reference, evaluation):
            found = compare(against, drawn)
            assert {LABEL, TEXT_LENGTH} <= found.keys()
            assert [feature for feature, drift in found.items() if drift.drifted] == []
            largest = max(largest, *(drift.psi / drift.threshold for drift in found.values()))
    assert deployment.drifted() == set()

    offensive = [sample for sample in samples if sample.label != "none"]
    skewed = {
        LABEL: draw(offensive),
        TEXT_LENGTH: [f"{text} {text} {text}" for text in draw(samples)],
        UNKNOWN_TOKENS: [f"{text} 鬱鬱 𓂀 ꙮ" for text in draw(samples)],
    }
    for feature, texts in skewed.items():
        found = compare(reference, deployment.answered(texts))
        print(feature, {name: f"{drift.psi:.2f} of {drift.threshold:.2f}" for name, drift in found.items()})
        assert found[feature].drifted
    deployment.infer([text for texts in skewed.values() for text in texts])
    wait_until(lambda: {TEXT_LENGTH, UNKNOWN_TOKENS} <= deployment.drifted(), 4 * WINDOW_SECONDS)
    assert "kcbert v1: unknown_tokens has drifted from its live reference" in deployment.sidecar.log()
    print(f"{DRAWS} draws of {INPUTS}: the largest PSI was {largest:.0%} of its threshold; {time.monotonic() - began:.0f} s")


def test_a_version_that_answers_worse_is_rolled_back_by_itself(deployment: Deployment) -> None:
    every = len(read_reference_texts(MODELS / "sentiment"))
    for version, answers in {"v1": 200, "v2": 2 * every}.items():
        deployment.publish("sentiment", version)
        deployment.server.wait_until_serving("sentiment", version, 1)
        before = deployment.rate(answers)[version]
        assert deployment.sidecar.serving("sentiment") == version  # v2 is as good as v1
    deployment.sidecar.kill()  # what was accepted survives
    deployment.sidecar.start()
    deployment.sidecar.wait_for_status("sentiment", "unchanged", "v2")
    assert deployment.feedback("v2") == len(before)

    deployment.publish("sentiment", "v3", worse=True)  # it passes every gate: the reference set has no text with the mark
    deployment.server.wait_until_serving("sentiment", "v3", 1)
    anonymous = deployment.rate(every, headers={})["v3"]
    assert deployment.sidecar.serving("sentiment") == "v3"  # anonymous feedback decides nothing
    # Ten points on all texts. What the monitor sees when it decides is of a part of them, and may be far from that.
    accuracy, worse = (sum(right) / len(right) for right in (before, anonymous))
    assert 0.1 < accuracy - worse < 0.13
    rated: list[bool] = []
    while deployment.sidecar.serving("sentiment") == "v3" and len(rated) < MAX_RATED:
        rated += deployment.rate(50).get("v3", [])
    deployment.server.wait_until_serving("sentiment", "v2", 1)
    [quarantined] = deployment.sidecar.events("quarantined", "sentiment")
    assert quarantined.version == "v3"
    assert quarantined.by == "monitor"
    found = re.match(r"[\d.]+% of (\d+) rated answers were right \(v2: ", quarantined.reason or "")
    assert found, quarantined.reason
    assert int(found[1]) <= len(rated)  # the anonymous ones do not count
    assert deployment.feedback("v3", known=False) == len(anonymous)
    print(f"accuracy {accuracy:.1%}, then {worse:.1%}; rolled back after {len(rated)} rated answers. {quarantined.reason}")


def test_a_ticket_is_valid_once_and_only_as_it_was_issued(deployment: Deployment) -> None:
    answer = deployment.predict("정말 재미있어요")
    ticket = answer.headers["X-Feedback-Ticket"]
    right = {"ticket": ticket, "label": "긍정"}
    broken = ticket[:-1] + ("0" if ticket[-1] != "0" else "1")
    rejections: Iterable[tuple[dict[str, Any], dict[str, str], int]] = (
        ({**right, "ticket": broken}, {}, 400),
        ({**right, "label": "좋음"}, {}, 422),
        ({"ticket": ticket, "labels": []}, {}, 422),
        ({"ticket": ticket}, {}, 422),
        (right, {"Authorization": "Bearer wrong"}, 401),
    )
    for body, headers, status in rejections:
        rejected = deployment.give(body, headers)
        assert (rejected.status_code, rejected.headers["content-type"]) == (status, "application/problem+json"), body
    assert deployment.give(right, {}).json() == {"correct": answer.json()["sentiment"] == "긍정", "known": False}
    assert deployment.give(right, {}).status_code == 409

    request_id = answer.headers["X-Request-Id"]
    deleted = deployment.client.delete(
        f"{deployment.sidecar.url}/feedback/{request_id}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert deleted.json()["feedback"] == 1
    assert deployment.give(right, {}).status_code == 409  # it stays used
    deployment.sidecar.stop()
    assert deployment.give(right, {}).status_code == 503
    deployment.sidecar.start()
    deployment.sidecar.wait_for_status("kcbert", "unchanged")


def test_samples_have_no_inputs_and_are_deleted_by_request(deployment: Deployment) -> None:
    found = {path.name.split("~")[1]: path for path in (deployment.root / "samples" / "sentiment").glob("*.json")}
    assert len(found) > 5
    request_id, path = found.popitem()
    assert json.loads(path.read_text()).keys() == {"request_id", "version", "labels", "scores"}
    deleted = deployment.client.delete(
        f"{deployment.sidecar.url}/feedback/{request_id}", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    assert deleted.json()["samples"] == 1
    assert not path.exists()
