"""Images that are expensive to decode or to parse, sent to the real service: docs/threat-model.md."""

from __future__ import annotations

import contextlib
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.protocols.inference.tensors import join_bytes
from bunriwiki.testing.hostile_images import (
    exif_with_large_values,
    flat_png,
    jpeg_segment,
    jpeg_without_data,
    many_scans,
    png_chunk,
    text_chunks,
)
from bunriwiki.testing.server import Server
from tests.integration.conftest import FULL

HONEST = 100 if FULL else 12  # photos that an honest client sends, one after the other
FACTOR = 3  # of a photo and a batch of the most expensive images, for the median: it waits for the batch under way and its own
SLOWEST_FACTOR = 8  # the same for the slowest, beside other tests
BATCHES = 3  # whose time is measured
REPEATED = 20  # requests whose CPU time is measured, as the kernel counts it in hundredths of a second


def call_with(images: Sequence[bytes]) -> tuple[bytes, dict[str, str]]:
    """The body and the headers of a /v2 call with raw images."""
    raw = join_bytes(images)
    parameters = {"binary_data_size": len(raw)}
    tensor = {"name": "image", "datatype": "BYTES", "shape": [len(images)], "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + raw, {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}


def send(server: Server, images: Sequence[bytes]) -> httpx.Response:
    body, headers = call_with(images)
    return httpx.post(f"{server.url}/v2/models/yolo/infer", content=body, headers=headers, timeout=60)


def predict(server: Server, image: bytes, media_type: str) -> httpx.Response:
    return httpx.post(f"{server.url}/yolo/prediction", content=image, headers={"Content-Type": media_type}, timeout=60)


def cpu_seconds(server: Server, *, gateway: bool, runner: bool) -> float:
    """The CPU time that the workers of the gateway, of the runner, or of both have used."""
    workers = [
        (service == "yolo", process) for service, process in server.all_workers() if service not in ("kcbert", "sentiment")
    ]
    times = [process.cpu_times() for is_runner, process in workers if (runner if is_runner else gateway)]
    assert times
    return sum(used.user + used.system for used in times)


def latencies(server: Server, photo: bytes) -> list[float]:
    """The seconds in which an honest client gets its answers, all of which must be right."""
    found = []
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(HONEST):
            began = time.monotonic()
            response = client.post("/yolo/prediction", content=photo, headers={"Content-Type": "image/jpeg"})
            found.append(time.monotonic() - began)
            assert response.status_code == 200, response.text
            assert response.json()["detections"]
    return sorted(found)


@contextlib.contextmanager
def repeated_call(server: Server, images: Sequence[bytes]) -> Iterator[Counter[int]]:
    """Sends a call again and again while the block lasts; yields the count of its statuses."""
    statuses: Counter[int] = Counter()
    over = threading.Event()
    first = threading.Event()

    def run() -> None:
        while not over.is_set():
            first.set()
            statuses[send(server, images).status_code] += 1

    thread = threading.Thread(target=run)
    thread.start()
    first.wait()
    try:
        yield statuses
    finally:
        over.set()
        thread.join()


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_small_files_of_large_pictures_cost_nothing(server: Server) -> None:
    images = [flat_png(10_000, 5_000)] * 128
    before = cpu_seconds(server, gateway=False, runner=True)
    for _ in range(5):
        response = send(server, images)
        assert response.status_code == 413
        assert "10000 x 5000 pixels" in response.json()["error"]
    assert cpu_seconds(server, gateway=False, runner=True) - before < 0.2

    request = pb.ModelInferRequest(model_name="yolo")
    request.inputs.add(name="image", datatype="BYTES", shape=[len(images)]).contents.bytes_contents.extend(images)
    with grpc.insecure_channel(server.grpc_address) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=60)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_call_has_a_budget_of_megapixels(server: Server) -> None:
    response = send(server, [flat_png(4000, 3000)] * 22)
    assert response.status_code == 413
    assert "more than 256 megapixels together" in response.json()["error"]


def test_texts_in_a_png_cost_no_time_of_the_event_loop(server: Server) -> None:
    image = flat_png(40, 30, before=text_chunks(64_000))
    before = cpu_seconds(server, gateway=True, runner=False)
    for _ in range(REPEATED):
        assert predict(server, image, "image/png").status_code == 200
    assert (cpu_seconds(server, gateway=True, runner=False) - before) / REPEATED < 0.05


@pytest.mark.parametrize(
    ("media_type", "make", "status"),
    [
        ("image/jpeg", lambda: many_scans(4000, 3000, 2000), 413),
        ("image/jpeg", lambda: jpeg_without_data(40, 30, before=jpeg_segment(0xFE) * 2_000_000), 413),
        ("image/jpeg", lambda: b"\xff\xd8" + b"\xff" * 9_000_000, 400),
        ("image/jpeg", lambda: jpeg_without_data(40, 30, before=jpeg_segment(0xE1, exif_with_large_values()) * 100), 200),
        ("image/png", lambda: flat_png(40, 30, after=png_chunk(b"prIv", b"") * 700_000), 413),
        ("image/png", lambda: flat_png(1, 12_000_000), 413),
    ],
    ids=["scans", "comments", "fillers", "EXIF data", "chunks", "one column"],
)
def test_headers_that_are_expensive_to_parse_cost_little(
    server: Server, media_type: str, make: Callable[[], bytes], status: int
) -> None:
    image = make()
    before = cpu_seconds(server, gateway=True, runner=True)
    assert predict(server, image, media_type).status_code == status
    # With the reading of up to 10 MB, and the forward pass.
    assert cpu_seconds(server, gateway=True, runner=True) - before < 0.4


@pytest.mark.alone  # it compares times
@pytest.mark.parametrize(
    ("images", "in_a_batch"),
    [([flat_png(2000, 1000, depth=8, colour=6)] * 128, 4), ([flat_png(4000, 3000, depth=8, colour=6)] * 21, 1)],
    ids=["128 images", "12 megapixels each"],
)
def test_an_honest_photo_waits_for_a_batch_and_not_for_a_call_with_the_most_expensive_images(
    server: Server, bottle: bytes, images: Sequence[bytes], in_a_batch: int
) -> None:
    alone = latencies(server, bottle)
    began = time.monotonic()
    for _ in range(BATCHES):
        assert send(server, images[:in_a_batch]).status_code == 200
    unit = alone[HONEST // 2] + (time.monotonic() - began) / BATCHES
    with repeated_call(server, images) as statuses:
        beside = latencies(server, bottle)
    summary = (
        f"median {alone[HONEST // 2]:.3f} s, beside {beside[HONEST // 2]:.3f} s; slowest {alone[-1]:.3f}, {beside[-1]:.3f}; "
        f"a photo and a batch {unit:.3f} s"
    )
    print(summary)
    assert beside[HONEST // 2] < FACTOR * unit, summary
    assert beside[-1] < SLOWEST_FACTOR * unit, summary
    assert set(statuses) <= {200, 504}, statuses


@pytest.mark.parametrize("progressive", [False, True], ids=["baseline", "progressive"])
def test_a_photo_of_a_camera_of_12_megapixels_is_answered(server: Server, progressive: bool) -> None:
    stream = io.BytesIO()
    noise(4032, 3024).save(stream, "JPEG", quality=80, progressive=progressive)
    assert 5_000_000 < len(stream.getvalue()) < 10 * 2**20
    response = predict(server, stream.getvalue(), "image/jpeg")
    assert response.status_code == 200, response.text
    assert response.json()["image"] == {"width": 4032, "height": 3024}


def test_a_photo_of_a_camera_of_50_megapixels_is_answered(server: Server) -> None:
    stream = io.BytesIO()
    noise(1020, 765).resize((8160, 6120)).save(stream, "JPEG", quality=60)
    response = predict(server, stream.getvalue(), "image/jpeg")
    assert response.status_code == 200, response.text
    assert response.json()["image"] == {"width": 8160, "height": 6120}
