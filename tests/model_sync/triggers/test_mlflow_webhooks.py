from __future__ import annotations

import json

import pytest
from mlflow.entities.webhook import WebhookAction, WebhookEntity
from mlflow.webhooks import delivery
from mlflow.webhooks.types import EVENT_TO_PAYLOAD_CLASS
from starlette.datastructures import Headers

from model_sync.errors import WebhookRejectedError
from model_sync.triggers.mlflow_webhooks import WebhookVerifier, concerns

pytestmark = pytest.mark.slow  # mlflow

SECRET = "a secret"  # noqa: S105
BODY = json.dumps({"entity": "model_version", "action": "created", "data": {"name": "감정", "version": "2"}})
NOW = 1_800_000_000


class Now:
    """A clock that the test sets."""

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
    """The headers as MLflow's own code makes them."""
    at = str(int(timestamp))
    signature = delivery._generate_hmac_signature(secret, delivery_id, at, body)
    return Headers({"X-MLflow-Delivery-Id": delivery_id, "X-MLflow-Timestamp": at, "X-MLflow-Signature": signature})


def changed(**headers: str) -> Headers:
    """Valid headers, except for `headers`; an empty header is left out."""
    given = {**signed(), **{f"x-mlflow-{name.replace('_', '-')}": value for name, value in headers.items()}}
    return Headers({name: value for name, value in given.items() if value})


def rejection(verifier: WebhookVerifier, headers: Headers, body: str = BODY) -> int:
    with pytest.raises(WebhookRejectedError) as raised:
        verifier.check(headers, body.encode())
    return raised.value.status


def test_a_delivery_signed_by_mlflow_is_accepted(verifier: WebhookVerifier) -> None:
    verifier.check(signed(), BODY.encode())


def test_a_wrong_secret_is_rejected(verifier: WebhookVerifier) -> None:
    assert rejection(verifier, signed(secret="another")) == 403


def test_a_changed_body_is_rejected(verifier: WebhookVerifier) -> None:
    assert rejection(verifier, signed(), BODY.replace("created", "deleted")) == 403


def test_the_signature_covers_the_delivery_id_and_the_timestamp(verifier: WebhookVerifier) -> None:
    assert rejection(verifier, changed(delivery_id="d-2")) == 403
    assert rejection(verifier, changed(timestamp=str(NOW + 1))) == 403


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_timestamp_too_far_from_now_is_rejected(verifier: WebhookVerifier, seconds: int) -> None:
    assert rejection(verifier, signed(timestamp=NOW + seconds)) == 403


@pytest.mark.parametrize("seconds", [-300, 300])
def test_a_timestamp_within_the_tolerance_is_accepted(verifier: WebhookVerifier, seconds: int) -> None:
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
def test_malformed_headers_are_bad_requests(verifier: WebhookVerifier, headers: Headers) -> None:
    assert rejection(verifier, headers) == 400


@pytest.mark.parametrize("signature", ["v1,\xe9", "v1,no base64", "v1,YQ=="])
def test_any_other_signature_is_rejected(verifier: WebhookVerifier, signature: str) -> None:
    assert rejection(verifier, changed(signature=signature)) == 403


def test_a_delivery_is_accepted_once_while_its_timestamp_is_valid(verifier: WebhookVerifier, now: Now) -> None:
    verifier.check(signed(timestamp=NOW + 300), BODY.encode())
    for now.seconds in (NOW, NOW + 300, NOW + 600):
        assert rejection(verifier, signed(timestamp=NOW + 300)) == 409
    now.seconds = NOW + 601
    assert rejection(verifier, signed(timestamp=NOW + 300)) == 403


def test_mlflow_does_not_retry_a_rejected_delivery() -> None:
    retries = delivery._create_webhook_session().get_adapter("https://example.org").max_retries
    assert retries.status_forcelist  # 5xx and 429; if it were empty, the next assertions would prove nothing
    assert not {400, 403, 409} & set(retries.status_forcelist)
    assert not any(retries.is_retry("POST", status) for status in (400, 403, 409))


def test_rejected_deliveries_are_not_remembered(verifier: WebhookVerifier) -> None:
    rejection(verifier, signed(secret="another"))
    rejection(verifier, signed(timestamp=NOW - 400))
    verifier.check(signed(), BODY.encode())


def test_delivery_ids_are_forgotten_after_twice_the_tolerance(verifier: WebhookVerifier, now: Now) -> None:
    for number in range(2000):
        now.seconds = NOW + 10 * number
        verifier.check(signed(f"d-{number}", now.seconds), BODY.encode())
    assert len(verifier._seen) == 61  # the deliveries of the last 600 s


def test_an_empty_secret_is_an_error() -> None:
    with pytest.raises(ValueError, match="empty"):
        WebhookVerifier("")


@pytest.mark.parametrize("kind", EVENT_TO_PAYLOAD_CLASS, ids=lambda kind: f"{kind[0]}.{kind[1]}")
def test_only_new_versions_and_aliases_are_relevant(kind: tuple[WebhookEntity, WebhookAction]) -> None:
    """For every kind of event that MLflow has."""
    data = {**EVENT_TO_PAYLOAD_CLASS[kind].example(), "name": "감정"}
    body = json.dumps(
        {"entity": kind[0].value, "action": kind[1].value, "timestamp": "2026-01-01T00:00:00+00:00", "data": data}
    )
    expected = {"model_version.created", "model_version_alias.created", "model_version_alias.deleted"}
    assert concerns(body.encode(), {"감정"}) == (f"{kind[0]}.{kind[1]}" in expected)
    assert not concerns(body.encode(), {"example_model"})


def test_a_signature_tag_is_relevant() -> None:
    data = {"name": "감정", "version": "1", "key": "bunriwiki.signature", "value": "c2ln"}
    body = {"entity": "model_version_tag", "action": "set", "timestamp": "2026-01-01T00:00:00+00:00", "data": data}
    assert concerns(json.dumps(body).encode(), {"감정"})
    assert not concerns(json.dumps(body).encode(), {"another"})


@pytest.mark.parametrize("body", ["", "no JSON", "[]", "{}", '{"entity": "moon", "action": "rises", "data": {}}', BODY[:-1]])
def test_an_unknown_event_is_not_relevant(body: str) -> None:
    assert not concerns(body.encode(), {"감정"})
