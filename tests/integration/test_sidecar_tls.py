"""The sidecar with TLS, on a real socket: webhooks and the service's client over https, no answer to http."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from mlflow.webhooks import delivery

from bunriwiki.model_store.writer import open_writer
from bunriwiki.protocols.admin.sidecar import Sidecar as Client
from bunriwiki.protocols.admin.sidecar import SidecarResponse
from bunriwiki.testing.certificates import make_certificate
from bunriwiki.testing.sidecar import SECRET, TOKEN, Sidecar
from bunriwiki.testing.versions import compiled
from bunriwiki.web.problems import RequestError
from bunriwiki.web.tls import trusting
from bunriwiki.web.tokens import TokenGate, token_id
from model_sync.sources.local import LocalSource

MODEL = "kcbert"
AUTHORIZATION = f"Bearer {TOKEN}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificates"), "sidecar")[0]


@pytest.fixture(scope="module")
def sidecar(certificate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sidecar]:
    """A sidecar whose registry is a folder without versions. The store has a version that is published there later."""
    root = tmp_path_factory.mktemp("tls")
    (root / "versions").mkdir()
    version = compiled(MODEL, root / "later" / "v1")
    offer = LocalSource({MODEL: root / "later"}).newest(MODEL)
    assert offer
    with open_writer(root / "store", "a test") as writer:
        writer.publish(version, offer.uri, "poll", digest_there=offer.digest)
    settings = {
        "BUNRIWIKI_SOURCES": f"{MODEL}=local:{root / 'versions'}",
        "BUNRIWIKI_POLL_INTERVAL_SECONDS": "3600",
        "BUNRIWIKI_CANARY_SHARE": "0",
        "BUNRIWIKI_SYNC_CERTIFICATE": str(certificate),
        "BUNRIWIKI_SYNC_KEY": str(certificate.with_suffix(".key")),
    }
    running = Sidecar(root / "store", root / "sidecar.log", settings).start()
    running.url = running.url.replace("http:", "https:")
    try:
        running.wait_for_status(MODEL, "unchanged")
        (root / "later" / "v1").rename(root / "versions" / "v1")
        yield running
    finally:
        running.stop()


async def reload(url: str, certificate: Path) -> SidecarResponse:
    """Request a sync with the client that the service has."""
    client = Client(url, TokenGate([TOKEN]), 30, verify=trusting(certificate))
    try:
        return await client.reload(AUTHORIZATION, json.dumps({"models": [MODEL]}).encode())
    finally:
        await client.close()


def test_plain_http_gets_no_answer(sidecar: Sidecar, certificate: Path) -> None:
    plain = sidecar.url.replace("https:", "http:")
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{plain}/sync", headers={"Authorization": AUTHORIZATION})
    with pytest.raises(RequestError, match="No sidecar answers"):
        asyncio.run(reload(plain, certificate))


def test_a_client_that_trusts_another_certificate_sends_no_token(sidecar: Sidecar, tmp_path: Path) -> None:
    pretender, _ = make_certificate(tmp_path, "pretender")
    with pytest.raises(RequestError, match="No sidecar answers"):
        asyncio.run(reload(sidecar.url, pretender))


@pytest.mark.parametrize(("secret", "status"), [(SECRET, 202), ("a guess", 403)], ids=["right", "wrong"])
def test_a_webhook_over_https(sidecar: Sidecar, certificate: Path, secret: str, status: int) -> None:
    context = trusting(certificate)
    assert isinstance(context, ssl.SSLContext)
    body = json.dumps({"entity": "model_version", "action": "created", "data": {"name": "another", "version": "2"}})
    at = str(int(time.time()))
    signature = delivery._generate_hmac_signature(secret, f"delivery-{status}", at, body)
    headers = {"X-MLflow-Delivery-Id": f"delivery-{status}", "X-MLflow-Timestamp": at, "X-MLflow-Signature": signature}
    answer = httpx.post(f"{sidecar.url}/webhooks/mlflow", content=body, headers=headers, verify=context, timeout=10)
    assert answer.status_code == status, answer.text


def test_the_service_reaches_it_over_https_and_the_history_names_the_token(sidecar: Sidecar, certificate: Path) -> None:
    answer = asyncio.run(reload(sidecar.url, certificate))
    assert answer.status == 200, answer.body
    assert json.loads(answer.body)["outcomes"][MODEL]["status"] == "promoted"
    [activated] = sidecar.events("activated", MODEL)
    assert (activated.version, activated.by, activated.token) == ("v1", "operator", token_id(TOKEN))
