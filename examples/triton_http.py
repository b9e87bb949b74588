"""Calls this service with Triton's HTTP client, unmodified (`pip install tritonclient[http]`).

python examples/triton_http.py 127.0.0.1:3000
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

PHOTO = Path(__file__).parent.parent / "tests" / "data" / "photos" / "plastic_bottle.jpg"


def bytes_tensor(name: str, items: list[bytes], *, binary: bool) -> InferInput:
    """A BYTES tensor with these elements, raw or in JSON."""
    tensor = InferInput(name, [len(items)], "BYTES")
    tensor.set_data_from_numpy(np.array(items, dtype=object), binary_data=binary)
    return tensor


def as_text(item: bytes | str) -> str:
    """An element of a BYTES tensor, which this client returns as str if it was in JSON."""
    return item if isinstance(item, str) else item.decode()


def main(address: str) -> None:
    client = InferenceServerClient(address)
    print("live:", client.is_server_live(), "ready:", client.is_server_ready(), "kcbert:", client.is_model_ready("kcbert"))
    print("server:", client.get_server_metadata()["extensions"])
    print("yolo takes:", client.get_model_metadata("yolo")["inputs"])

    photos = bytes_tensor("image", [PHOTO.read_bytes(), PHOTO.read_bytes()], binary=True)
    found = client.infer("yolo", [photos])
    print("yolo, two photos, raw:", found.as_numpy("num_detections").tolist(), found.as_numpy("labels").tolist())

    for binary in (True, False):
        texts = bytes_tensor("text", ["좋은 하루 보내세요".encode(), "정말 재미있어요".encode()], binary=binary)
        wanted = [InferRequestedOutput("label", binary_data=binary), InferRequestedOutput("scores", binary_data=binary)]
        answer = client.infer("sentiment", [texts], outputs=wanted, request_id="42")
        print("sentiment, raw:" if binary else "sentiment, JSON:", [as_text(label) for label in answer.as_numpy("label")])
        print("  scores", answer.as_numpy("scores").shape, "version", answer.get_response()["model_version"])

    waiting = client.async_infer("kcbert", [bytes_tensor("text", ["좋은 하루 보내세요".encode()], binary=True)])
    print("kcbert, later:", waiting.get_result().as_numpy("label")[0].decode())
    print("statistics:", client.get_inference_statistics("kcbert")["model_stats"][0]["inference_count"])
    print("index:", sorted({entry["name"] for entry in client.get_model_repository_index()}))
    client.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:3000")
