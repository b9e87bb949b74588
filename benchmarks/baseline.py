"""The plain alternative: a single FastAPI process with the same models, a thread pool, and no batching.

python -m benchmarks.baseline PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from bunriwiki.artifacts.inputs import Photo
from bunriwiki.settings import settings
from runners.kcbert import KcBert
from runners.sentiment import Sentiment
from runners.yolo import Yolo


class Text(BaseModel):
    text: str


def application() -> FastAPI:
    app = FastAPI()
    models = settings().models
    yolo, kcbert, sentiment = Yolo(models / "yolo"), KcBert(models / "kcbert"), Sentiment(models / "sentiment")
    for model in (yolo, kcbert, sentiment):
        model.warm_up()

    def find(data: bytes) -> Any:
        return yolo.predict([Photo(data=data)]).results[0]

    @app.post("/yolo/prediction")
    async def detect(request: Request) -> Any:
        return await run_in_threadpool(find, await request.body())

    @app.post("/kcbert/prediction")
    def comment(text: Text) -> Any:
        return kcbert.predict([text.text]).results[0]

    @app.post("/predict")
    def review(text: Text) -> Any:
        return sentiment.predict([text.text]).results[0]

    return app


if __name__ == "__main__":
    uvicorn.run(application(), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
