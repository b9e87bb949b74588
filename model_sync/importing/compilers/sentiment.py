"""Package an MLflow pyfunc as a version that the data plane serves."""

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
WHOLE = 1e-3  # by how much the sum of a text's scores may miss 1


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
    """Copy the pyfunc `folder` (one string in, a column with a share per label out) into the folder `output`.

    The texts `golden`, at least one, are stored with the model's own scores; the reference set in the folder `reference` is
    taken over. Loading a pyfunc runs code: verify it first. Raises RejectedError when it does not fit, or fails.
    """
    output.mkdir(parents=True)
    stored = shutil.copytree(folder, output / "pyfunc")
    with phase("load"):
        try:
            # What it requires is looked at elsewhere.
            model = mlflow.pyfunc.load_model(str(stored), suppress_warnings=True)
        except Exception as error:  # other people's code runs here
            raise RejectedError(f"the pyfunc cannot be loaded: {error}") from error
        column = _column(model)
    with phase("record"):
        texts = list(golden)
        try:
            # As the data plane calls it: a named input gets a DataFrame, any other a list.
            answer = model.predict(pd.DataFrame({column: texts}) if column else texts)
        except Exception as error:  # see above
            raise RejectedError(f"the pyfunc fails on {len(texts)} texts: {error}") from error
        shares = _shares(answer, len(texts))
        labels = [str(label) for label in shares.columns]
        rows = shares.to_numpy().round(DECIMALS).tolist()
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
    """What the one input is called; None when it has no name. Raises RejectedError when the signature is another one."""
    schema = model.metadata.get_input_schema()
    if schema is None or schema.is_tensor_spec() or [one.type for one in schema.inputs] != [DataType.string]:
        raise RejectedError(
            f"its signature takes {schema or 'nothing that it says'}: one input is meant, a string column of any name or a "
            "list of strings. Log the model with such a signature (mlflow.models.infer_signature)"
        )
    return schema.input_names()[0] if schema.has_input_names() else None


def _shares(answer: object, count: int) -> pd.DataFrame:
    """The columns with numbers in `answer`, one per label. Raises RejectedError when they are no shares of `count` texts."""
    try:
        frame = pd.DataFrame(answer)  # type: ignore[call-overload]  # whatever it is
    except ValueError as error:
        raise RejectedError(f"its answer is no table: {error}") from error
    shares = frame.select_dtypes("number")
    if set(shares.columns) == set(LABELS):
        shares = shares[list(LABELS)]
    if len(shares) != count or len(shares.columns) < 2:
        raise RejectedError(
            f"it answers {count} texts with {len(shares)} rows and the columns {', '.join(map(str, frame.columns))}: "
            "a row for each is meant, with a column of scores per label"
        )
    values = shares.to_numpy(dtype=np.float64)
    if not ((values >= 0).all() and np.allclose(values.sum(axis=1), 1, rtol=0, atol=WHOLE)):
        raise RejectedError(f"its scores are no shares of 1: the first text has {values[0].tolist()}")
    return shares
