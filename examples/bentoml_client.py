"""Calls this service with BentoML's own client.

python examples/bentoml_client.py http://127.0.0.1:3000
"""

from __future__ import annotations

import sys
from pathlib import Path

import bentoml

PHOTO = Path(__file__).parent.parent / "tests" / "data" / "photos" / "plastic_bottle.jpg"


def main(url: str) -> None:
    with bentoml.SyncHTTPClient(url) as client:
        print("sentiment:", client.predict(text="정말 재미있어요")["sentiment"])
        print("kcbert:", client.kcbert_prediction(text="좋은 하루 보내세요")["label"])
        print("yolo:", [detection["label"] for detection in client.yolo_prediction(image=PHOTO)["detections"]])


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000")
