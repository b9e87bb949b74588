from __future__ import annotations

import json

import pytest
from mlflow.entities.webhook import WebhookAction, WebhookEntity
from mlflow.webhooks import delivery
from mlflow.webhooks.types import EVENT_TO_PAYLOAD_CLASS
from starlette.datastructures import Headers

from model_sync.errors import WebhookRejectedError
from model_sync.triggers.mlflow_webhooks import WebhookVerifier, concerns

SECRET = "a secret"  # noqa: S105
BODY = json.dumps({"entity": "model_version", "action": "created", "data": {"name": "감정", "version": "2"}})
NOW = 1_800_000_000


class Now:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = float(NOW)

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def verifier(now: Now) -> WebhookVerifier:
    return WebhookVerifier(SECRET, now=now)


def signed(delivery_id: str = "d-1", timestamp: float = NOW, body: str = BODY, secret: str = SECRET) -> Headers:
    """The headers as MLflow itself makes them."""
    at = str(int(timestamp))
    signature = delivery._generate_hmac_signature(secret, delivery_id, at, body)
    return Headers({"X-MLflow-Delivery-Id": delivery_id, "X-MLflow-Timestamp": at, "X-MLflow-Signature": signature})


def changed(**headers: str) -> Headers:
    """Good headers but for some; an empty one is left out."""
    given = {**signed(), **{f"x-mlflow-{name.replace('_', '-')}": value for name, value in headers.items()}}
    return Headers({name: value for name, value in given.items() if value})


def rejection(verifier: WebhookVerifier, headers: Headers, body: str = BODY) -> int:
    with pytest.raises(WebhookRejectedError) as raised:
        verifier.check(headers, body.encode())
    return raised.value.status


def test_what_mlflow_signs_is_taken(verifier: WebhookVerifier) -> None:
    verifier.check(signed(), BODY.encode())


def test_a_wrong_secret_is_rejected(verifier: WebhookVerifier) -> None:
    assert rejection(verifier, signed(secret="another")) == 403


def test_a_changed_body_is_rejected(verifier: WebhookVerifier) -> None:
    assert rejection(verifier, signed(), BODY.replace("created", "deleted")) == 403


def test_another_delivery_id_or_timestamp_is_not_signed(verifier: WebhookVerifier) -> None:
    assert rejection(verifier, changed(delivery_id="d-2")) == 403
    assert rejection(verifier, changed(timestamp=str(NOW + 1))) == 403


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_timestamp_too_far_from_now_is_rejected(verifier: WebhookVerifier, seconds: int) -> None:
    assert rejection(verifier, signed(timestamp=NOW + seconds)) == 403


@pytest.mark.parametrize("seconds", [-300, 300])
def test_a_timestamp_within_the_tolerance_is_taken(verifier: WebhookVerifier, seconds: int) -> None:
    verifier.check(signed(timestamp=NOW + seconds), BODY.encode())


@pytest.mark.parametrize(
    "headers",
    [
        changed(signature=""), changed(timestamp=""), changed(delivery_id=""), Headers({}),
        changed(signature="v1,"), changed(signature="v2,YQ=="), changed(signature="YQ=="),
        changed(timestamp="soon"), changed(timestamp="-1"), changed(timestamp="1e9"), changed(timestamp="1" * 400),
        changed(timestamp="\xb2"), changed(delivery_id="a.b"), changed(delivery_id="a" * 129), changed(delivery_id="\xe9"),
    ],
)  # fmt: skip
def test_malformed_headers_are_rejected_as_such(verifier: WebhookVerifier, headers: Headers) -> None:
    assert rejection(verifier, headers) == 400


@pytest.mark.parametrize("signature", ["v1,\xe9", "v1,no base64", "v1,YQ=="])
def test_a_signature_of_any_kind_that_is_not_the_right_one_is_rejected(verifier: WebhookVerifier, signature: str) -> None:
    assert rejection(verifier, changed(signature=signature)) == 403


def test_a_delivery_is_taken_once_as_long_as_its_timestamp_is_good(verifier: WebhookVerifier, now: Now) -> None:
    verifier.check(signed(timestamp=NOW + 300), BODY.encode())
    for now.seconds in (NOW, NOW + 300, NOW + 600):
        assert rejection(verifier, signed(timestamp=NOW + 300)) == 409
    now.seconds = NOW + 601
    assert rejection(verifier, signed(timestamp=NOW + 300)) == 403


def test_mlflow_sends_nothing_again_for_any_rejection() -> None:
    retries = delivery._create_webhook_session().get_adapter("https://example.org").max_retries
    assert retries.status_forcelist  # 5xx and 429: otherwise this test would hold for anything
    assert not {400, 403, 409} & set(retries.status_forcelist)
    assert not any(retries.is_retry("POST", status) for status in (400, 403, 409))


def test_only_what_verifies_is_remembered(verifier: WebhookVerifier) -> None:
    rejection(verifier, signed(secret="another"))
    rejection(verifier, signed(timestamp=NOW - 400))
    verifier.check(signed(), BODY.encode())


def test_what_it_remembers_is_bounded_by_time(verifier: WebhookVerifier, now: Now) -> None:
    for number in range(2000):
        now.seconds = NOW + 10 * number
        verifier.check(signed(f"d-{number}", now.seconds), BODY.encode())
    assert len(verifier._seen) == 61  # those of the last 600 s


def test_an_empty_secret_is_none() -> None:
    with pytest.raises(ValueError, match="empty"):
        WebhookVerifier("")


@pytest.mark.parametrize("kind", EVENT_TO_PAYLOAD_CLASS, ids=lambda kind: f"{kind[0]}.{kind[1]}")
def test_new_versions_and_aliases_concern_us_and_nothing_else(kind: tuple[WebhookEntity, WebhookAction]) -> None:
    """Over every event that MLflow has."""
    data = {**EVENT_TO_PAYLOAD_CLASS[kind].example(), "name": "감정"}
    body = json.dumps(
        {"entity": kind[0].value, "action": kind[1].value, "timestamp": "2026-01-01T00:00:00+00:00", "data": data}
    )
    expected = {"model_version.created", "model_version_alias.created", "model_version_alias.deleted"}
    assert concerns(body.encode(), {"감정"}) == (f"{kind[0]}.{kind[1]}" in expected)
    assert not concerns(body.encode(), {"example_model"})


def test_a_version_that_is_signed_concerns_us() -> None:
    data = {"name": "감정", "version": "1", "key": "bunriwiki.signature", "value": "c2ln"}
    body = {"entity": "model_version_tag", "action": "set", "timestamp": "2026-01-01T00:00:00+00:00", "data": data}
    assert concerns(json.dumps(body).encode(), {"감정"})
    assert not concerns(json.dumps(body).encode(), {"another"})


@pytest.mark.parametrize("body", ["", "no JSON", "[]", "{}", '{"entity": "moon", "action": "rises", "data": {}}', BODY[:-1]])
def test_an_event_that_is_not_known_does_not_concern_us(body: str) -> None:
    assert not concerns(body.encode(), {"감정"})
