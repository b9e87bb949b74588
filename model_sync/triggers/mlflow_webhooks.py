"""MLflow's webhooks: verification of a delivery, and whether its event concerns the models of this service."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Collection

from pydantic import BaseModel, ConfigDict, ValidationError
from starlette.datastructures import Headers

from model_sync.errors import WebhookRejectedError
from model_sync.sources import MLFLOW_SIGNATURE_TAG

SIGNATURE = "X-MLflow-Signature"
DELIVERY_ID = "X-MLflow-Delivery-Id"
TIMESTAMP = "X-MLflow-Timestamp"
CHANGES = {("model_version", "created"), ("model_version_alias", "created"), ("model_version_alias", "deleted")}
TAGGED = ("model_version_tag", "set")


class WebhookVerifier:
    """Accepts each delivery that MLflow signed with `secret` once, if its timestamp is at most `tolerance` seconds from now.

    It keeps the id of an accepted delivery for as long as its timestamp is acceptable. Not safe to use from several threads.
    Raises ValueError for an empty secret, with which anybody could sign.
    """

    def __init__(self, secret: str, *, tolerance: float = 300.0, now: Callable[[], float] = time.time) -> None:
        if not secret:
            raise ValueError("The webhook secret is empty")
        self._secret = secret.encode()
        self._tolerance = tolerance
        self._now = now
        self._seen: dict[str, float] = {}  # time of acceptance by delivery id, the oldest first

    def check(self, headers: Headers, body: bytes) -> None:
        """Accept a new delivery from MLflow; raises WebhookRejectedError for anything else.

        A repeated delivery is rejected with 409. MLflow repeats a delivery with the same id if the response was 429, 500, 502,
        503 or 504, or if the connection was lost. It does not repeat it after a 409, and does not log that as an error.
        """
        delivery, timestamp = headers.get(DELIVERY_ID, ""), headers.get(TIMESTAMP, "")
        version, _, signature = headers.get(SIGNATURE, "").partition(",")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", delivery):
            raise WebhookRejectedError(400, f"{DELIVERY_ID} is missing or not a delivery id.")
        if not re.fullmatch(r"[0-9]{1,12}", timestamp):
            raise WebhookRejectedError(400, f"{TIMESTAMP} is missing or not a Unix time in seconds.")
        if version != "v1" or not signature:
            raise WebhookRejectedError(
                400, f"{SIGNATURE} is missing or not of the form `v1,<base64>`. Set a secret on the webhook in MLflow."
            )

        expected = base64.b64encode(hmac.digest(self._secret, f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256))
        if not hmac.compare_digest(signature.encode(), expected):
            raise WebhookRejectedError(
                403, "The signature is wrong. Set the same secret on the webhook in MLflow and in BUNRIWIKI_WEBHOOK_SECRET."
            )
        now = self._now()
        if abs(now - int(timestamp)) > self._tolerance:
            sentence = f"The timestamp differs from this machine's clock by more than {self._tolerance:g} s. Set both clocks."
            raise WebhookRejectedError(403, sentence)
        self._forget(now - 2 * self._tolerance)
        if delivery in self._seen:
            raise WebhookRejectedError(409, "This delivery was accepted before. There is nothing to do.")
        self._seen[delivery] = now

    def _forget(self, before: float) -> None:
        for delivery in [delivery for delivery, seen in self._seen.items() if seen < before]:
            del self._seen[delivery]


class _Part(BaseModel):
    """A part of MLflow's event. Other fields are ignored."""

    model_config = ConfigDict(frozen=True)


class _Subject(_Part):
    name: str
    key: str = ""  # of a tag


class _Event(_Part):
    entity: str
    action: str
    data: _Subject


def concerns(body: bytes, names: Collection[str]) -> bool:
    """Whether an event may change which version of the registered models `names` should serve.

    These events are a new version, an alias that is set or deleted, and the signature tag of a version. For other tags, for
    prompts and for unknown events it returns False.
    """
    try:
        event = _Event.model_validate_json(body)
    except ValidationError:
        return False
    change = (event.entity, event.action)
    return event.data.name in names and (change in CHANGES or (change == TAGGED and event.data.key == MLFLOW_SIGNATURE_TAG))
