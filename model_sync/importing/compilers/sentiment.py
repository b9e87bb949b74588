"""Packages an MLflow pyfunc as a version that the data plane can serve."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.types import DataType

from bunriwiki.artifacts.answers import DECIMALS
from bunriwiki.artifacts.golden import GoldenText, write_golden
from bunriwiki.artifacts.manifest import Label, Manifest, TextInput, describe_files
from bunriwiki.artifacts.reference import copy_reference
from model_sync.errors import RejectedError
from model_sync.importing.compilers.phases import Phase, unreported

LABELS = ("긍정", "부정", "중립/복합")
SUM_TOLERANCE = 1e-3  # by which the sum of a text's scores may differ from 1


def package_sentiment(
    folder: Path,
    output: Path,
    *,
    version: str,
    source: str,
    golden: Sequence[str],
    reference: Path | None = None,
    phase: Phase = unreported,
) -> Manifest:
    """Copy the pyfunc `folder` (one string in, a column of probabilities per label out) to the folder `output`.

    The texts `golden`, at least one, are stored with the model's scores; the reference set in the folder `reference` is copied.
    Loading a pyfunc runs third-party code. Raises RejectedError if the pyfunc has another signature, or fails.
    """
    output.mkdir(parents=True)
    stored = shutil.copytree(folder, output / "pyfunc")
    with phase("load"):
        try:
            # The importer has checked its requirements.
            model = mlflow.pyfunc.load_model(str(stored), suppress_warnings=True)
        except Exception as error:  # third-party code runs here
            raise RejectedError(f"the pyfunc cannot be loaded: {error}") from error
        column = _column(model)
    with phase("record"):
        texts = list(golden)
        try:
            # Called as in the data plane: with a DataFrame if the input has a name, with a list otherwise.
            answer = model.predict(pd.DataFrame({column: texts}) if column else texts)
        except Exception as error:  # and here
            raise RejectedError(f"the pyfunc fails on {len(texts)} texts: {error}") from error
        scores = _scores(answer, len(texts))
        labels = [str(label) for label in scores.columns]
        rows = scores.to_numpy().round(DECIMALS).tolist()
        write_golden(
            output,
            (GoldenText(text=text, details=dict(zip(labels, row, strict=True))) for text, row in zip(texts, rows, strict=True)),
        )
    if reference:
        copy_reference(reference, output)
    for cache in list(stored.rglob("__pycache__")):
        shutil.rmtree(cache)
    manifest = Manifest(
        model="sentiment",
        version=version,
        engine="pyfunc",
        entry="pyfunc",
        input=TextInput(),
        labels=tuple(Label(name=name, ko=name) for name in labels),
        source=source,
        license="AGPL-3.0-or-later",
        files=describe_files(output),
    )
    manifest.write(output)
    return manifest


def _column(model: mlflow.pyfunc.PyFuncModel) -> str | None:
    """The name of the input column; None if it has no name. Raises RejectedError if the signature is not one string input."""
    schema = model.metadata.get_input_schema()
    if schema is None or schema.is_tensor_spec() or [column.type for column in schema.inputs] != [DataType.string]:
        raise RejectedError(
            f"its signature takes {schema or 'unspecified inputs'}: one input is required, a string column of any name or a "
            "list of strings. Log the model with such a signature (mlflow.models.infer_signature)"
        )
    return schema.input_names()[0] if schema.has_input_names() else None


def _scores(answer: object, count: int) -> pd.DataFrame:
    """The numeric columns of `answer`, one per label. Raises RejectedError unless they are probabilities for `count` texts."""
    try:
        frame = pd.DataFrame(answer)  # type: ignore[call-overload]  # whatever it is
    except ValueError as error:
        raise RejectedError(f"its answer is not a table: {error}") from error
    scores = frame.select_dtypes("number")
    if set(scores.columns) == set(LABELS):
        scores = scores[list(LABELS)]
    if len(scores) != count or len(scores.columns) < 2:
        raise RejectedError(
            f"it answers {count} texts with {len(scores)} rows and the columns {', '.join(map(str, frame.columns))}: "
            "a row for each text is required, with a column of scores per label"
        )
    values = scores.to_numpy(dtype=np.float64)
    if not ((values >= 0).all() and np.allclose(values.sum(axis=1), 1, rtol=0, atol=SUM_TOLERANCE)):
        raise RejectedError(f"its scores are not probabilities: those of the first text are {values[0].tolist()}")
    return scores
