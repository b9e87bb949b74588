"""The FastAPI alternative (`baseline.py`) with a model that does nothing.

python -m benchmarks.noop_baseline PORT
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from bunriwiki.artifacts.answers import Classification

ANSWER = Classification(label="none", score=0.9, details={"none": 0.9, "hate": 0.1})


class Text(BaseModel):
    text: str


def application() -> FastAPI:
    app = FastAPI()

    @app.post("/kcbert/prediction")
    def comment(text: Text) -> Any:  # noqa: ARG001 - the request is checked, as with a model
        return ANSWER

    return app


if __name__ == "__main__":
    uvicorn.run(
        application(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )
