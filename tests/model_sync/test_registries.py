from __future__ import annotations

from typing import Any

import pytest

from bunriwiki.settings import SourceChoice
from model_sync.registries import describe, label
from model_sync.settings import SyncSettings


@pytest.mark.parametrize(
    ("choice", "settings", "address", "name"),
    [
        (SourceChoice("local", "/srv/versions"), {}, "/srv/versions", "local"),
        (SourceChoice("s3", ""), {"s3_uri": "s3://bucket/models"}, "s3://bucket/models", "s3://bucket/models"),
        (
            SourceChoice("mlflow", "review"),
            {"mlflow_tracking_uri": "https://user:secret@mlflow.example.org/a"},
            "MLflow mlflow.example.org, review",
            "MLflow mlflow.example.org, review",
        ),
        (
            SourceChoice("mlflow", "review"),
            {"mlflow_tracking_uri": "file:///home/somebody/mlruns"},
            "MLflow file:///home/somebody/mlruns, review",
            "MLflow on this machine, review",
        ),
    ],
    ids=["a folder", "S3", "MLflow", "MLflow in a folder"],
)
def test_the_metrics_name_no_path_of_this_machine(
    choice: SourceChoice, settings: dict[str, Any], address: str, name: str
) -> None:
    given = SyncSettings.model_construct(**{"s3_uri": "", "mlflow_tracking_uri": "", **settings})
    assert (describe(choice, given), label(choice, given)) == (address, name)
