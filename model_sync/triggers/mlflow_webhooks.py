"""MLflow's webhooks: who sent one, and whether it is about a model of ours."""

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
from model_sync.signatures import MLFLOW_TAG

SIGNATURE = "X-MLflow-Signature"
DELIVERY_ID = "X-MLflow-Delivery-Id"
TIMESTAMP = "X-MLflow-Timestamp"
CHANGES = {("model_version", "created"), ("model_version_alias", "created"), ("model_version_alias", "deleted")}
TAGGED = ("model_version_tag", "set")


class WebhookVerifier:
    """Takes deliveries that MLflow signed with `secret`, each once, at most `tolerance` seconds from now. For one thread.

    What is remembered of a delivery is its id, for as long as its timestamp could still be taken. Raises ValueError for an
    empty secret, with which anybody could sign.
    """

    def __init__(self, secret: str, *, tolerance: float = 300.0, now: Callable[[], float] = time.time) -> None:
        if not secret:
            raise ValueError("The webhook secret is empty")
        self._secret = secret.encode()
        self._tolerance = tolerance
        self._now = now
        self._seen: dict[str, float] = {}  # when, by delivery id, the oldest first

    def check(self, headers: Headers, body: bytes) -> None:
        """Raises WebhookRejectedError unless `body` is a new delivery of MLflow's.

        A delivery that was taken already is rejected with 409. MLflow sends one again, with the same id, when it did not get
        our answer in time; it does so for 429, 500, 502, 503, 504 and lost connections only, so a 409 ends it, and says nothing
        in MLflow's log.
        """
        delivery, timestamp = headers.get(DELIVERY_ID, ""), headers.get(TIMESTAMP, "")
        version, _, signature = headers.get(SIGNATURE, "").partition(",")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", delivery):
            raise WebhookRejectedError(400, f"{DELIVERY_ID} is missing or no delivery id.")
        if not re.fullmatch(r"[0-9]{1,12}", timestamp):
            raise WebhookRejectedError(400, f"{TIMESTAMP} is missing or no Unix time in seconds.")
        if version != "v1" or not signature:
            raise WebhookRejectedError(
                400, f"{SIGNATURE} is missing or not of the form `v1,<base64>`. Give the webhook a secret."
            )

        expected = base64.b64encode(hmac.digest(self._secret, f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256))
        if not hmac.compare_digest(signature.encode(), expected):
            raise WebhookRejectedError(
                403, "The signature is wrong. Give the webhook and BUNRIWIKI_WEBHOOK_SECRET the same secret."
            )
        now = self._now()
        if abs(now - int(timestamp)) > self._tolerance:
            sentence = f"The timestamp is more than {self._tolerance:g} s from the time here. Set both clocks, or send it anew."
            raise WebhookRejectedError(403, sentence)
        self._forget(now - 2 * self._tolerance)
        if delivery in self._seen:
            raise WebhookRejectedError(409, "This delivery was taken before. There is nothing to do.")
        self._seen[delivery] = now

    def _forget(self, before: float) -> None:
        for delivery in [delivery for delivery, seen in self._seen.items() if seen < before]:
            del self._seen[delivery]


class _Foreign(BaseModel):
    """A part of MLflow's event, which may have more in it."""

    model_config = ConfigDict(frozen=True)


class _Subject(_Foreign):
    name: str
    key: str = ""  # of a tag


class _Event(_Foreign):
    entity: str
    action: str
    data: _Subject


def concerns(body: bytes, names: Collection[str]) -> bool:
    """Whether an event may change which version of the registered models `names` should serve.

    That is a new version, an alias that is set or deleted, and a version that is signed. Of other tags, prompts and what is not
    known it is not.
    """
    try:
        event = _Event.model_validate_json(body)
    except ValidationError:
        return False
    change = (event.entity, event.action)
    return event.data.name in names and (change in CHANGES or (change == TAGGED and event.data.key == MLFLOW_TAG))
