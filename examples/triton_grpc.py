"""Calls this service with Triton's gRPC client, unmodified (`pip install tritonclient[grpc]`).

python examples/triton_grpc.py 127.0.0.1:3001
"""

from __future__ import annotations

import queue
import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult

PHOTO = Path(__file__).parent.parent / "tests" / "data" / "photos" / "plastic_bottle.jpg"


def bytes_tensor(name: str, items: list[bytes]) -> InferInput:
    """A BYTES tensor with these elements."""
    tensor = InferInput(name, [len(items)], "BYTES")
    tensor.set_data_from_numpy(np.array(items, dtype=object))
    return tensor


def main(address: str) -> None:
    client = InferenceServerClient(address)
    print("live:", client.is_server_live(), "ready:", client.is_server_ready(), "kcbert:", client.is_model_ready("kcbert"))
    print("server:", list(client.get_server_metadata().extensions))
    print("yolo takes:", client.get_model_metadata("yolo").inputs[0].name)

    found = client.infer("yolo", [bytes_tensor("image", [PHOTO.read_bytes()] * 2)], client_timeout=30)
    print("yolo, two photos:", found.as_numpy("num_detections").tolist(), found.as_numpy("labels").tolist())

    texts = bytes_tensor("text", ["좋은 하루 보내세요".encode(), "정말 재미있어요".encode()])
    answer = client.infer("sentiment", [texts], request_id="42")
    print("sentiment:", [label.decode() for label in answer.as_numpy("label")], answer.as_numpy("scores").shape)
    print("  version", answer.get_response().model_version)

    received: queue.Queue[tuple[InferResult | None, Exception | None]] = queue.Queue()
    client.async_infer("kcbert", [texts], lambda result, error: received.put((result, error)))
    result, _ = received.get(timeout=30)
    assert result is not None
    print("kcbert, later:", [label.decode() for label in result.as_numpy("label")])

    client.start_stream(lambda result, error: received.put((result, error)))
    for number in range(3):
        client.async_stream_infer("kcbert", [texts], request_id=str(number))
    answers = [received.get(timeout=30)[0] for _ in range(3)]
    client.stop_stream()
    print("kcbert, as a stream:", [answer.get_response().id for answer in answers if answer is not None])

    print("statistics:", client.get_inference_statistics("kcbert").model_stats[0].inference_count)
    print("index:", sorted({entry.name for entry in client.get_model_repository_index().models}))
    client.close()


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:3001")
