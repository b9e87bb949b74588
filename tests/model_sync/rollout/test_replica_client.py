from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.layout import Layout
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.tiny import scores, tiny
from bunriwiki.testing.versions import BUNDLED_VERSION
from model_sync.rollout.comparison import Figures
from model_sync.rollout.replica_client import Answered, ReplicaClient

ADDRESS = "replica:3000"
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A store with the version v2 of sentiment, whose answers follow from the length of a text."""
    layout = Layout(tmp_path / "store")
    folder = layout.version("sentiment", "v2")
    folder.mkdir(parents=True)
    tiny(folder)
    return layout


def client(layout: Layout, handler: Handler, fallbacks: Path = MODELS) -> ReplicaClient:
    return ReplicaClient(layout, fallbacks, httpx.MockTransport(handler))


def replica(
    *, version: str = "tiny-1", status: int = 200, change: Callable[[dict[str, Any]], Any] = lambda body: body
) -> Handler:
    """Answers texts for sentiment as the version does; other models as a replica with other fallbacks."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path != "/predict":
            return httpx.Response(200, json={}, headers={"X-Model-Version": "other"})
        text = json.loads(request.content)["text"]
        return httpx.Response(status, json=change({"details": scores(text)}), headers={"X-Model-Version": version})

    return handle


def own_version(layout: Layout) -> str:

    return Manifest.read(layout.version("sentiment", "v2")).version


def test_right_answers(layout: Layout) -> None:
    found = client(layout, replica(version=own_version(layout))).answers(ADDRESS, {"sentiment": "v2"})
    assert found == Answered()


def test_wrong_answers(layout: Layout) -> None:
    def swapped(body: dict[str, Any]) -> dict[str, Any]:
        names = list(body["details"])
        return {"details": dict(zip(names, [body["details"][name] for name in reversed(names)], strict=True))}

    found = client(layout, replica(version=own_version(layout), change=swapped)).answers(ADDRESS, {"sentiment": "v2"})
    assert "answers a golden sample wrongly" in found.wrong


@pytest.mark.parametrize("body", [{}, [], {"details": []}, {"details": {}}, {"details": {"긍정": "x"}}])
def test_answers_that_cannot_be_parsed(layout: Layout, body: object) -> None:
    found = client(layout, replica(version=own_version(layout), change=lambda _: body)).answers(ADDRESS, {"sentiment": "v2"})
    assert "cannot be parsed" in found.wrong


def test_another_version_answers_later(layout: Layout) -> None:
    found = client(layout, replica(version="v1")).answers(ADDRESS, {"sentiment": "v2"})
    assert found.later == "sentiment answers with v1 instead of v2"


@pytest.mark.parametrize(("status", "field"), [(503, "later"), (504, "later"), (500, "wrong"), (400, "wrong")])
def test_errors(layout: Layout, status: int, field: str) -> None:
    found = client(layout, replica(status=status)).answers(ADDRESS, {"sentiment": "v2"})
    assert str(status) in getattr(found, field)


def test_a_version_that_is_not_in_the_store(layout: Layout) -> None:
    found = client(layout, replica()).answers(ADDRESS, {"kcbert": "v9"})
    assert found.later


def test_photos_are_sent_with_their_threshold() -> None:
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(
            200, json={"detections": [], "image": {"width": 1, "height": 1}}, headers={"X-Model-Version": BUNDLED_VERSION}
        )

    found = client(Layout(Path("/nowhere")), handle).answers(ADDRESS, {})
    assert f"yolo {BUNDLED_VERSION} answers a golden sample wrongly" in found.wrong
    assert sent[0].url.params["confidence"] == "0.25"
    assert sent[0].content.startswith(b"\xff\xd8")


def test_a_model_that_is_served_otherwise_than_its_samples_only_has_to_answer() -> None:
    body: dict[str, Any] = {"detections": [], "image": {"width": 1, "height": 1}}

    def handle(request: httpx.Request) -> httpx.Response:
        version = BUNDLED_VERSION if request.url.path == "/yolo/prediction" else "other"
        return httpx.Response(200, json=body, headers={"X-Model-Version": version})

    there = ReplicaClient(Layout(Path("/nowhere")), MODELS, httpx.MockTransport(handle), not_compared={"yolo"})
    assert there.answers(ADDRESS, {}) == Answered()
    body.clear()
    assert "cannot be parsed" in there.answers(ADDRESS, {}).wrong


def test_a_replica_that_cannot_be_reached(layout: Layout) -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    lost = client(layout, handle)
    assert not lost.is_ready(ADDRESS)
    assert lost.figures(ADDRESS) is None
    assert "does not answer" in lost.answers(ADDRESS, {}).later


@pytest.mark.parametrize(("status", "ready"), [(200, True), (503, False)])
def test_readiness_and_figures(layout: Layout, status: int, ready: bool) -> None:
    found = client(layout, lambda _: httpx.Response(status, text=""))
    assert found.is_ready(ADDRESS) is ready
    assert found.figures(ADDRESS) == (Figures() if ready else None)
