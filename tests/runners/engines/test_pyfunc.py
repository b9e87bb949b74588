from __future__ import annotations

from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

from bunriwiki.artifacts.manifest import DamagedArtifactError
from runners.engines.pyfunc import PyfuncEngine

pytestmark = pytest.mark.slow  # mlflow

CODE = """
import mlflow
import pandas as pd

class Lengths(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pd.DataFrame, params=None):
        texts = model_input if isinstance(model_input, list) else model_input.iloc[:, 0].tolist()
        return pd.DataFrame({"label": texts, "length": [float(len(text)) for text in texts]})

mlflow.models.set_model(Lengths())
"""
TEXTS = {"text": np.array(["가", "나다"], dtype=object)}


def saved(tmp_path: Path, column: ColSpec) -> Path:
    code = tmp_path / "model.py"
    code.write_text(CODE)
    folder = tmp_path / "pyfunc"
    signature = ModelSignature(inputs=Schema([column]))
    mlflow.pyfunc.save_model(path=folder, python_model=str(code), signature=signature, pip_requirements=["pandas"])
    return folder


@pytest.mark.filterwarnings("ignore:.*An input example was not provided:UserWarning")
@pytest.mark.parametrize("column", [ColSpec(DataType.string, "review"), ColSpec(DataType.string)])
def test_texts_in_columns_out_whatever_the_input_is_called(tmp_path: Path, column: ColSpec) -> None:
    answer = PyfuncEngine(saved(tmp_path, column)).run(TEXTS)
    assert answer["label"].tolist() == ["가", "나다"]
    assert answer["length"].tolist() == [1, 2]


def test_a_folder_that_is_no_model_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifactError, match="cannot be loaded"):
        PyfuncEngine(tmp_path)
