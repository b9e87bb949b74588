"""A sentiment version that loads fast, answers by a rule, and runs whatever code a test wants a third party's model to run."""

from __future__ import annotations

import shutil
from pathlib import Path

from bunriwiki.artifacts.golden import GoldenText, write_golden
from bunriwiki.artifacts.manifest import Manifest, describe_files
from bunriwiki.artifacts.reference import ReferenceText, write_reference
from bunriwiki.testing.paths import MODELS
from model_sync.evaluation.answering import VersionFolder

LABELS = ("긍정", "부정", "중립/복합")
WARM_UP = 4  # calls
CODE = """
import os, struct, sys, time
import mlflow, pandas as pd

FD = int(sys.argv[sys.argv.index("--fd") + 1])
LABELS = {labels!r}
CALLS = 0


def honest(texts):
    return pd.DataFrame([[0.8 if number == len(text) % 3 else 0.1 for number in range(3)] for text in texts], columns=LABELS)


class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        global CALLS
        CALLS += 1
        texts = model_input["text"].tolist()
        scope = {{**globals(), "texts": texts, "answer": honest(texts)}}
        if CALLS > {warm_up}:
            exec({act!r}, scope)
        for text in texts:
            if text.startswith("!"):
                exec(text[1:], scope)
        return scope["answer"]


{load}
mlflow.models.set_model(Model())
"""


def tiny(folder: Path, *, act: str = "", load: str = "") -> VersionFolder:
    """Write a version to `folder` whose class for a text follows from the text's length (`scores`).

    It runs `load` when it is loaded, and at each call after its warm-up `act`, which may change `answer`. A text that begins
    with an exclamation mark is code that it runs.
    """
    bundled = MODELS / "sentiment"
    shutil.copytree(bundled / "pyfunc", folder / "pyfunc", ignore=shutil.ignore_patterns("artifacts"))
    code = CODE.format(labels=list(LABELS), act=act, load=load, warm_up=WARM_UP)
    (folder / "pyfunc" / "sentiment_model.py").write_text(code, encoding="utf-8")
    write_golden(
        folder, [GoldenText(text=text, details=scores(text)) for text in ("가", "나다", "라마바", "사아자차", "카타파하가")]
    )
    Manifest.read(bundled).model_copy(update={"version": "tiny", "files": describe_files(folder)}).write(folder)
    return VersionFolder(folder, Manifest.read(folder))


def scores(text: str) -> dict[str, float]:
    """The scores of a tiny version without `act`."""
    return {label: 0.8 if number == len(text) % 3 else 0.1 for number, label in enumerate(LABELS)}


def reference(folder: Path, number: int = 30) -> Path:
    """Write a reference set to `folder` on which a tiny version without `act` is right."""
    folder.mkdir()
    texts = ["나" * length for length in range(6, 6 + number)]
    write_reference(folder, [ReferenceText(text=text, label=LABELS[len(text) % 3]) for text in texts])
    return folder
