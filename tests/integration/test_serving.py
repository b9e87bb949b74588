"""Predictions over HTTP, as users request them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import bentoml
import pytest
from PIL import Image

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.disposal.advice import Guide
from bunriwiki.testing.client import CLIENT
from bunriwiki.testing.paths import MODELS, PHOTOS, SERVE_ENV
from bunriwiki.testing.server import Server
from bunriwiki.testing.waiting import wait_until

LOG_LINE = re.compile(r"\[[^\]]+\] - \[[^:\]]+:[\d.]+\] \| \[\w+\] \| \[.*\]")
GUIDE = Guide.read()
SIZE_LIMIT = 1.2e9  # bytes of .venv


@pytest.mark.parametrize(("photo", "label"), [("plastic_bottle", "plastic"), ("can", "metal"), ("cardboard_box", "cardboard")])
def test_a_photo(server: Server, photo: str, label: str) -> None:
    data = (PHOTOS / f"{photo}.jpg").read_bytes()
    response = CLIENT.post(f"{server.url}/yolo/prediction", files={"image": data})
    assert response.status_code == 200
    answer = response.json()
    assert answer["detections"][0]["label"] == label
    with Image.open(PHOTOS / f"{photo}.jpg") as image:
        assert answer["image"] == {"width": image.width, "height": image.height}
    raw = CLIENT.post(f"{server.url}/yolo/prediction", content=data, headers={"Content-Type": "image/jpeg"})
    assert raw.json() == answer
    advised = CLIENT.post(f"{server.url}/yolo/prediction?advice=true", files={"image": data}).json()
    labels = {detection["label"] for detection in answer["detections"]}
    assert advised == {**answer, "advice": {label: GUIDE.classes[label].model_dump(mode="json") for label in labels}}


def test_a_comment(server: Server) -> None:
    response = CLIENT.post(f"{server.url}/kcbert/prediction", json={"text": "좋은 하루 보내세요"})
    answer = response.json()
    assert answer["label"] == "none"
    assert set(answer["details"]) == {"none", "offensive", "hate"}
    assert sum(answer["details"].values()) == pytest.approx(1, abs=1e-5)
    assert answer["truncated"] is False


@pytest.mark.parametrize(("text", "label"), [("정말 재미있어요. 최고!", "긍정"), ("돈이 아깝다. 시간 낭비", "부정")])
def test_a_review(server: Server, text: str, label: str) -> None:
    answer = CLIENT.post(f"{server.url}/predict", json={"text": text}).json()
    assert answer["sentiment"] == label
    assert answer["score"] == max(answer["details"].values())


def test_every_answer_names_its_model_and_version(server: Server) -> None:
    for path, model in {"/kcbert/prediction": "kcbert", "/predict": "sentiment"}.items():
        headers = CLIENT.post(server.url + path, json={"text": "네"}, headers={"X-Request-Id": "id-1"}).headers
        assert headers["x-model-name"] == model
        assert headers["x-model-version"] == Manifest.read(MODELS / model).version
        assert headers["x-request-id"] == "id-1"


def test_with_bentomls_client(server: Server) -> None:
    with bentoml.SyncHTTPClient(server.url) as client:
        photo = client.yolo_prediction(image=PHOTOS / "can.jpg", confidence=0.3, advice=True)
        assert photo["detections"][0]["label"] == "metal"
        assert photo["advice"]["metal"]["bin"] == GUIDE.classes["metal"].bin
        assert client.kcbert_prediction(text="좋은 하루 보내세요")["label"] == "none"
        assert client.predict(text="정말 재미있어요")["sentiment"] == "긍정"


def test_the_page_and_its_assets(server: Server) -> None:
    page = CLIENT.get(server.url)
    assert page.status_code == 200
    assets = re.findall(r'(?:src|href)="\./(static_content[^"]+)"', page.text)
    texts = {asset: CLIENT.get(f"{server.url}/{asset}").raise_for_status().text for asset in assets}
    assert any("./docs.json" in text for text in texts.values())
    assert "/yolo/prediction" in CLIENT.get(f"{server.url}/docs.json").json()["paths"]


def test_probes_and_metrics(server: Server) -> None:
    assert CLIENT.get(f"{server.url}/livez").status_code == 200
    assert CLIENT.get(f"{server.url}/readyz").status_code == 200
    CLIENT.post(f"{server.url}/predict", json={"text": "네"})
    metrics = CLIENT.get(f"{server.url}/metrics").text
    assert re.search(r'bentoml_service_request_total{endpoint="/predict",http_response_code="200".*} \d', metrics)


def test_the_log(server: Server) -> None:
    CLIENT.post(f"{server.url}/predict", json={"text": "비밀 이야기"}, headers={"X-Request-Id": "log-1"})
    [line] = wait_until(lambda: [line for line in server.log().splitlines() if "log-1" in line], describe=server.log)
    assert LOG_LINE.fullmatch(line)
    assert "by sentiment" in line
    assert "비밀" not in server.log()


def test_hostile_input_takes_no_worker_down(server: Server) -> None:
    before = {name: worker.pid for name, worker in server.workers().items()}
    bottle = (PHOTOS / "plastic_bottle.jpg").read_bytes()
    for data in (b"", b"x", bottle[:700], bottle[:200] + bytes(5000), b"\x89PNG\r\n\x1a\n" + bytes(100)):
        response = CLIENT.post(f"{server.url}/yolo/prediction", content=data, headers={"Content-Type": "image/png"})
        assert response.status_code in {400, 415, 422}
    for text in ("\x00" * 9000, "𝕏" * 9999, "a" * 10_000, "가 " * 5000):
        for path in ("/predict", "/kcbert/prediction"):
            assert CLIENT.post(server.url + path, json={"text": text}, timeout=30).status_code in {200, 422}
    assert {name: worker.pid for name, worker in server.workers().items()} == before
    assert server.is_ready()


def test_a_large_upload_gets_its_answer(server: Server) -> None:
    body = bytes(12 * 2**20)
    response = CLIENT.post(f"{server.url}/yolo/prediction", content=body, headers={"Content-Type": "image/jpeg"})
    assert response.status_code == 413
    assert "10 MB" in response.json()["detail"]


def test_a_pickle_is_rejected(server: Server) -> None:
    response = CLIENT.post(
        f"{server.url}/predict",
        content=b"cos\nsystem\n(S'true'\ntR.",
        headers={"Content-Type": "application/vnd.bentoml+pickle"},
    )
    assert response.status_code == 415


def test_the_serving_environment_has_no_torch_and_is_small() -> None:
    torch = subprocess.run([SERVE_ENV / "bin" / "python", "-c", "import torch"], capture_output=True, check=False)
    assert b"ModuleNotFoundError" in torch.stderr
    assert disk_use(SERVE_ENV) < SIZE_LIMIT


def disk_use(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))
