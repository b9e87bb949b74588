"""MLflow pyfunc: the engine for a registered model of any flavour."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import mlflow.models.model
import mlflow.pyfunc
import numpy as np
import pandas as pd

from bunriwiki.artifacts.manifest import DamagedArtifactError
from runners.engines import Array

TEXT = "text"


class PyfuncEngine:
    """Runs an MLflow model folder on a batch of texts.

    Takes `text`, an array of str, and gives one array per column of the model's answer. A signature with a named input
    gets its texts as a DataFrame with that column, any other as a list. Loading a pyfunc runs code: the folder must have
    been verified before. Raises DamagedArtifactError for a folder that cannot be loaded.
    """

    def __init__(self, folder: Path) -> None:
        try:
            # The importer has checked its requirements: to compare their versions again takes 0.15 s of CPU.
            self._model = mlflow.pyfunc.load_model(str(folder), suppress_warnings=True)
            mlflow.models.model.__mlflow_model__ = None  # mlflow keeps the last model-from-code alive here
        except Exception as error:  # third-party code may raise anything
            raise DamagedArtifactError(f"{folder} cannot be loaded: {error}") from error
        schema = self._model.metadata.get_input_schema()
        self._column: str | None = schema.input_names()[0] if schema is not None and schema.has_input_names() else None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        texts = inputs[TEXT].tolist()
        answer = pd.DataFrame(self._model.predict(pd.DataFrame({self._column: texts}) if self._column else texts))
        return {str(column): np.asarray(answer[column]) for column in answer.columns}
