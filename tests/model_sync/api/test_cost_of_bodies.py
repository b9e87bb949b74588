"""Bytes in, cost out: whatever the bytes of a body, for every route of the sidecar."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.routing import Route

from bunriwiki.model_store.writer import StoreWriter
from bunriwiki.telemetry.sample_folder import SampleFolder
from bunriwiki.testing.cost import cost_of, request_of
from bunriwiki.testing.hostile_bodies import TYPES, bodies
from bunriwiki.testing.paths import MODELS
from bunriwiki.web.bodies import MAX_COMMAND_BYTES
from bunriwiki.web.tokens import TokenGate
from model_sync.admin.commands import Commands
from model_sync.api.app import make_app
from model_sync.api.feedback import FeedbackRoutes
from model_sync.quality.quality import Quality
from model_sync.triggers.mlflow_webhooks import WebhookVerifier
from tests.model_sync.triggers.fakes import FakeSyncRequests

ROUTES = [
    "/sync", "/webhooks/mlflow", "/feedback", "/models/{model}/rollback", "/models/{model}/pin", "/models/{model}/unpin",
    "/models/{model}/pause", "/models/{model}/resume", "/models/{model}/promote", "/models/{model}/abort",
    "/models/{model}/cancel", "/quarantine", "/gc",
]  # fmt: skip
OVER = 1000  # bytes over the limit that a body may have here


@pytest.fixture
def app(writer: StoreWriter, tmp_path: Path) -> Iterator[Starlette]:
    samples = SampleFolder(tmp_path / "samples", 1, 2**20)
    quality = Quality(writer.layout, fallbacks=MODELS, window_seconds=60, keys=["k" * 32], feedback_days=1, samples=samples)
    gate = TokenGate(["one"])
    yield make_app(
        FakeSyncRequests("promoted"),
        dict,
        admin_tokens=["one"],
        verifier=WebhookVerifier("a secret"),
        webhook_names=(),
        commands=Commands(writer),
        metrics=CollectorRegistry(),
        feedback=FeedbackRoutes(quality, admins=gate, raters=gate),
    )
    quality.close()


def test_these_are_all_routes_that_take_a_body(app: Starlette) -> None:
    assert {route.path for route in app.routes if isinstance(route, Route) and "POST" in (route.methods or ())} == {*ROUTES}


@pytest.mark.parametrize("path", ROUTES)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=bodies(MAX_COMMAND_BYTES + OVER), media_type=st.sampled_from(TYPES))
def test_any_body(app: Starlette, path: str, body: bytes, media_type: bytes) -> None:
    headers = [(b"authorization", b"Bearer one"), (b"content-type", media_type)]
    found = cost_of(app, request_of("POST", path.replace("{model}", "nobody"), headers), body)
    assert found.is_bounded, found
    assert found.status < 500, found
