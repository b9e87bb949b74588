from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry

from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.telemetry.sample_folder import SampleFolder
from bunriwiki.testing.paths import MODELS
from bunriwiki.testing.versions import BUNDLED_VERSION
from bunriwiki.web import tokens
from bunriwiki.web.tickets import ticket_issuer
from bunriwiki.web.tokens import TokenGate
from model_sync.admin.commands import Commands
from model_sync.api.app import make_app
from model_sync.api.feedback import FeedbackRoutes
from model_sync.quality.accuracy import Rated
from model_sync.quality.quality import FeatureDrift, Quality, QualityState, WindowDrift
from tests.model_sync.api.test_app import assert_problem, talk
from tests.model_sync.triggers.fakes import FakeSyncRequests

pytestmark = pytest.mark.anyio

KEY = "k" * 32
ADMIN, RATER = {"Authorization": "Bearer admin"}, {"Authorization": "Bearer rater"}


def ticket(model: str = "sentiment", seconds: float = 3600) -> str:
    return (
        ticket_issuer(KEY, seconds)(model, BUNDLED_VERSION, [("긍정" if model == "sentiment" else "plastic", 0.9)], "r-1") or ""
    )


@pytest.fixture(params=[KEY])
def quality(request: pytest.FixtureRequest, writer: StoreWriter, tmp_path: Path) -> Quality:
    keys = [request.param] if request.param else []
    samples = SampleFolder(tmp_path / "samples", 1, 2**20)
    return Quality(writer.layout, fallbacks=MODELS, window_seconds=60, keys=keys, feedback_days=1, samples=samples)


@pytest.fixture
async def client(quality: Quality, writer: StoreWriter, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[httpx.AsyncClient]:
    monkeypatch.setattr(tokens, "DELAY_SECONDS", 0.01)
    app = make_app(
        FakeSyncRequests("promoted"),
        dict,
        admin_tokens=["admin"],
        verifier=None,
        webhook_names=(),
        commands=Commands(writer),
        metrics=CollectorRegistry(),
        feedback=FeedbackRoutes(quality, admins=TokenGate(["admin"]), raters=TokenGate(["admin", "rater"])),
    )
    async with talk(app) as client:
        yield client
    quality.close()


@pytest.mark.parametrize(("headers", "known"), [({}, False), (RATER, True), (ADMIN, True)])
async def test_feedback_with_a_token_is_known(
    client: httpx.AsyncClient, quality: Quality, headers: dict[str, str], known: bool
) -> None:
    answer = await client.post("/feedback", json={"ticket": ticket(), "label": "긍정"}, headers=headers)
    assert (answer.status_code, answer.json()) == (201, {"correct": True, "known": known})
    assert quality.feedback.rated("sentiment", BUNDLED_VERSION, 0) == (Rated(1, 1) if known else Rated())


async def test_a_wrong_token_is_rejected_and_costs_no_ticket(client: httpx.AsyncClient) -> None:
    body = {"ticket": ticket(), "label": "부정"}
    assert_problem(await client.post("/feedback", json=body, headers={"Authorization": "Bearer no"}), 401)
    answer = await client.post("/feedback", json=body)
    assert (answer.status_code, answer.json()) == (201, {"correct": False, "known": False})


@pytest.mark.parametrize(("labels", "correct"), [(["plastic"], True), ([], False), (["plastic", "glass"], False)])
async def test_a_photo_has_any_number_of_classes(client: httpx.AsyncClient, labels: list[str], correct: bool) -> None:
    answer = await client.post("/feedback", json={"ticket": ticket("yolo"), "labels": labels})
    assert (answer.status_code, answer.json()["correct"]) == (201, correct)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"label": "긍정"}, 422, "ticket"),
        ({"ticket": "x" * 5000, "label": "긍정"}, 422, "ticket"),
        ({"ticket": "x"}, 422, "either `label`"),
        ({"ticket": "x", "label": "긍정", "labels": ["긍정"]}, 422, "either `label`"),
        ({"ticket": "x", "label": "긍정", "text": "a text"}, 422, "text"),
        ({"ticket": "x", "labels": ["긍정"] * 101}, 422, "labels"),
        ({"ticket": "x", "label": "긍정"}, 400, "not valid"),
        ({"ticket": ticket(seconds=-60), "label": "긍정"}, 410, "expired"),
        ({"ticket": ticket(), "label": "좋음"}, 422, "no class '좋음'. The classes are 긍정, 부정, 중립/복합"),
        ({"ticket": ticket(), "labels": []}, 422, "exactly one right label"),
    ],
)
async def test_wrong_feedback(client: httpx.AsyncClient, body: dict[str, object], status: int, words: str) -> None:
    assert_problem(await client.post("/feedback", json=body), status, words)


async def test_a_ticket_is_valid_once(client: httpx.AsyncClient) -> None:
    body = {"ticket": ticket(), "label": "긍정"}
    assert (await client.post("/feedback", json=body)).status_code == 201
    assert_problem(await client.post("/feedback", json=body, headers=RATER), 409, "given before")


@pytest.mark.parametrize("quality", [""], indirect=True)
async def test_without_a_key_feedback_is_closed(client: httpx.AsyncClient) -> None:
    assert_problem(await client.post("/feedback", json={"ticket": ticket(), "label": "긍정"}), 403, "BUNRIWIKI_FEEDBACK_KEY")


async def test_what_is_kept_of_a_request_is_deleted(client: httpx.AsyncClient, tmp_path: Path) -> None:
    await client.post("/feedback", json={"ticket": ticket(), "label": "긍정"})
    SampleFolder(tmp_path / "samples", 1, 2**20).write("sentiment", "r-1", {})
    assert_problem(await client.delete("/feedback/r-1", headers=RATER), 401)
    assert (await client.delete("/feedback/r-1", headers=ADMIN)).json() == {"feedback": 1, "samples": 1}
    assert (await client.get("/quality")).json() == {"window": [], "feedback": []}


async def test_the_quality(client: httpx.AsyncClient) -> None:
    for label in ("긍정", "부정"):
        await client.post("/feedback", json={"ticket": ticket(), "label": label}, headers=RATER)
    [day] = (await client.get("/quality")).json()["feedback"]
    assert (day["model"], day["version"], day["known"], day["answers"], day["accuracy"]) == (
        "sentiment", BUNDLED_VERSION, True, 2, 0.5,
    )  # fmt: skip


async def test_details_of_the_quality_need_an_admin_token(
    client: httpx.AsyncClient, quality: Quality, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A runner names the classes; all else is in the metrics, too."""
    drift = {"label": FeatureDrift(psi=0.5, js_distance=0.25, threshold=0.1, drifted=True)}
    seen = WindowDrift(model="kcbert", version="v1", answers=3, reference="live", labels={"of a runner": 3}, drift=drift)
    monkeypatch.setattr(quality, "state", lambda: QualityState(window=(seen,), feedback=()))
    [shown], [details] = [(await client.get("/quality", headers=headers)).json()["window"] for headers in ({}, ADMIN)]
    assert details == seen.model_dump(mode="json")
    assert shown == {**details, "labels": {}}
    for headers in (RATER, {"Authorization": "Bearer no"}):
        assert_problem(await client.get("/quality", headers=headers), 401)


async def test_a_database_that_cannot_be_used_is_unavailable(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> bool:
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr("model_sync.quality.feedback_store.FeedbackStore.add", failing)
    assert_problem(await client.post("/feedback", json={"ticket": ticket(), "label": "긍정"}), 503, "cannot be used now")
