"""Package an MLflow pyfunc as a version that the data plane serves."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import mlflow.pyfunc
import pandas as pd

from artifacts.answers import DECIMALS
from artifacts.golden import GoldenText, write_golden
from artifacts.manifest import Label, Manifest, TextInput, describe_files
from artifacts.reference import copy_reference

LABELS = ("긍정", "부정", "중립/복합")


def package_sentiment(
    folder: Path, output: Path, *, version: str, source: str, golden: Sequence[str], reference: Path | None = None
) -> Manifest:
    """Copy the pyfunc `folder` (a column `text` in, a column per label out) into the folder `output`.

    The texts `golden` are stored with the model's own scores; the reference set in the folder `reference` is taken over.
    Loading a pyfunc runs code: verify it first.
    """
    output.mkdir(parents=True)
    stored = shutil.copytree(folder, output / "pyfunc")
    answer = mlflow.pyfunc.load_model(str(stored)).predict(pd.DataFrame({"text": list(golden)}))
    write_golden(
        output,
        (
            GoldenText(text=text, details={label: round(float(row[label]), DECIMALS) for label in LABELS})
            for text, (_, row) in zip(golden, answer.iterrows(), strict=True)
        ),
    )
    if reference:
        copy_reference(reference, output)
    shutil.rmtree(stored / "__pycache__", ignore_errors=True)
    manifest = Manifest(
        model="sentiment",
        version=version,
        engine="pyfunc",
        entry="pyfunc",
        input=TextInput(),
        labels=tuple(Label(name=name, ko=name) for name in LABELS),
        source=source,
        license="AGPL-3.0-or-later",
        files=describe_files(output),
    )
    manifest.write(output)
    return manifest
