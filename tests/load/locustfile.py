"""A load as the clients of Bunriwiki make it: photos, comments and reviews, over REST and over gRPC.

`make load` starts it with Locust's page. Locust replaces Python's blocking functions (gevent), so it runs in a process of its
own, and no test imports this file.
"""

from __future__ import annotations

import io
import json
import random
import time
from argparse import ArgumentParser
from typing import Any

import grpc
import grpc.experimental.gevent
from locust import FastHttpUser, User, between, events, task
from PIL import Image

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.protocols.grpc.open_inference_pb2_grpc import GRPCInferenceServiceStub
from bunriwiki.testing.paths import PHOTOS, SAMPLES

grpc.experimental.gevent.init_gevent()

DEADLINE_SECONDS = 30.0  # of a request
CAMERA_PIXELS = 1600  # the longer side of a photo that a phone's browser has scaled down before it sends it
TEXTS = (SAMPLES / "texts.txt").read_text(encoding="utf-8").splitlines()


def as_from_a_camera(photo: bytes) -> bytes:
    """The photo with the size that a phone sends."""
    with Image.open(io.BytesIO(photo)) as image:
        scale = CAMERA_PIXELS / max(image.size)
        large = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    encoded = io.BytesIO()
    large.save(encoded, "JPEG", quality=85)
    return encoded.getvalue()


SMALL_PHOTOS = [path.read_bytes() for path in sorted(PHOTOS.glob("*.jpg"))]
ALL_PHOTOS = [*SMALL_PHOTOS, *map(as_from_a_camera, SMALL_PHOTOS)]


def some(texts: list[str]) -> list[str]:
    """One to eight texts, mostly few."""
    return random.sample(texts, min(8, 1 + int(random.expovariate(0.7))))


@events.init_command_line_parser.add_listener
def add_grpc_host(parser: ArgumentParser) -> None:
    parser.add_argument("--grpc-host", default="127.0.0.1:3001", help="host and port of the gRPC server")


class RestUser(FastHttpUser):
    """Somebody in front of the web page: a photo, then what to do with it; comments and reviews."""

    weight = 3
    wait_time = between(0.2, 1.0)
    network_timeout = connection_timeout = DEADLINE_SECONDS

    def on_start(self) -> None:
        """Every kind of request once, so that a short run has them all."""
        for send in (self.photo, self.comment, self.review, self.comments):
            send()

    @task(3)
    def photo(self) -> None:
        self._post("/yolo/prediction?advice=true", random.choice(ALL_PHOTOS), "image/jpeg", "detections")

    @task(4)
    def comment(self) -> None:
        self._post("/kcbert/prediction", json.dumps({"text": random.choice(TEXTS)}).encode(), "application/json", "label")

    @task(4)
    def review(self) -> None:
        self._post("/predict", json.dumps({"text": random.choice(TEXTS)}).encode(), "application/json", "sentiment")

    @task(1)
    def comments(self) -> None:
        """Several in one call, over Open Inference."""
        texts = some(TEXTS)
        tensor = {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}
        body = json.dumps({"inputs": [tensor]}).encode()
        self._post("/v2/models/kcbert/infer", body, "application/json", "outputs")

    def _post(self, path: str, body: Any, media_type: str, expected: str) -> None:
        """Send `body`, bytes (Locust's types lack them). It fails without an answer 200 that has the field `expected`."""
        with self.client.post(path, data=body, headers={"Content-Type": media_type}, catch_response=True) as response:
            if response.status_code == 200 and expected not in response.json():
                response.failure(f"the answer has no {expected}")
            elif response.status_code not in {0, 200}:  # 0: no answer, which Locust describes
                response.failure(f"{response.status_code}: {(response.text or '')[:200]}")


class GrpcUser(User):
    """Another service, with one connection that it keeps open."""

    weight = 1
    wait_time = between(0.1, 0.5)

    def on_start(self) -> None:
        options = self.environment.parsed_options
        # Users share a process, and gRPC would let them share a connection too.
        self._channel = grpc.insecure_channel(options.grpc_host, [("grpc.use_local_subchannel_pool", 1)])
        self._stub: Any = GRPCInferenceServiceStub(self._channel)
        for send in (self.photos, self.comments, self.reviews):  # as above
            send()

    def on_stop(self) -> None:
        self._channel.close()

    @task(1)
    def photos(self) -> None:
        self._infer("yolo", "image", random.sample(ALL_PHOTOS, random.randint(1, 3)))

    @task(3)
    def comments(self) -> None:
        self._infer("kcbert", "text", [text.encode() for text in some(TEXTS)])

    @task(3)
    def reviews(self) -> None:
        self._infer("sentiment", "text", [text.encode() for text in some(TEXTS)])

    def _infer(self, model: str, name: str, elements: list[bytes]) -> None:
        request = pb.ModelInferRequest(model_name=model)
        tensor = request.inputs.add(name=name, datatype="BYTES", shape=[len(elements)])
        tensor.contents.bytes_contents.extend(elements)
        began, size, failure = time.perf_counter(), 0, ""
        try:
            answer = self._stub.ModelInfer(request, timeout=DEADLINE_SECONDS)
            size = answer.ByteSize()
            failure = "" if answer.outputs else "the answer has no outputs"
        except grpc.RpcError as error:
            failure = f"{error.code().name}: {error.details()}"
        self.environment.events.request.fire(
            request_type="gRPC",
            name=f"ModelInfer {model}",
            response_time=1000 * (time.perf_counter() - began),
            response_length=size,
            exception=RuntimeError(failure) if failure else None,
            context={},
        )
