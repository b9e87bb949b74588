"""The sidecar's settings, from the environment. `docs/settings.md` has the table, and the reason of each threshold.

python -m model_sync.settings

Ends with a sentence that names the variable when one is wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import DirectoryPath, Field, FilePath, model_validator

from artifacts.manifest import MODELS
from model_sync.contained import Limits
from model_sync.gates import Thresholds
from settings import CommonSettings, read

ROOT = Path(__file__).parent.parent
SOURCE = re.compile(r"(s3|mlflow|local)(?::(.+))?")


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """The registry of one model: its kind, and the registered model's name (mlflow) or the folder (local)."""

    kind: str
    place: str


class SyncSettings(CommonSettings):
    """What an operator may choose of the sidecar."""

    s3_public_key: FilePath | None = Field(
        default=None, description="PEM file with an Ed25519 public key: what is not signed with its other half is refused."
    )
    mlflow_model: str = Field(default="ensemble-sentiment-model", description="The registered model where a source names none.")
    poll_interval: float = Field(default=300, gt=0, description="Seconds between two looks of the clock, give or take a tenth.")
    sqs_queue_url: str = Field(default="", description="Queue with the bucket's event notifications.")
    webhook_secret: str = Field(default="", description="The secret of MLflow's webhook; without it webhooks are refused.")
    sync_host: str = Field(default="127.0.0.1", description="Address that the sidecar listens on.")
    sync_port: int = Field(default=3002, ge=0, le=65535, description="Port of the sidecar; 0: none.")
    serve_python: Path = Field(
        default=ROOT / ".venv" / "bin" / "python", description="The data plane's interpreter: the last gates run with it."
    )
    reference: DirectoryPath = Field(
        default=ROOT / "models", description="Folder with the reference set of each model, that versions are judged on."
    )
    import_memory: int = Field(default=4096, ge=512, description="MB that an import may take.")
    import_seconds: float = Field(default=600, gt=0, description="Seconds that each step of an import may take.")
    import_threads: int = Field(default=1, ge=1, description="Threads that an import may use.")
    least_speed: float = Field(default=16, gt=0, description="KB/s below which a download counts as stuck, and is begun anew.")
    gate_agreement: float = Field(default=1, ge=0, le=1, description="Share of golden samples answered as the original does.")
    gate_labels: Literal["same", "any"] = Field(default="same", description="`any` lets a version have other classes.")
    gate_quality: float = Field(default=2, ge=0, description="Points of macro F1 that a version may be worse than what serves.")
    gate_batch: float = Field(default=1e-3, ge=0, description="How far a score may differ alone and in a batch.")
    gate_latency: float = Field(default=2, gt=0, description="Times as long as what serves that a version may take.")

    @model_validator(mode="after")
    def _every_model_has_a_registry(self) -> Self:
        for model, choice in self.choices.items():
            if choice.kind == "local" and not Path(choice.place).is_dir():
                raise ValueError(f"BUNRIWIKI_SOURCES: {model} is to come from {choice.place}, which is no folder")
        return self

    @model_validator(mode="after")
    def _the_interpreter_is_there(self) -> Self:
        if not os.access(self.serve_python, os.X_OK):
            raise ValueError(
                f"BUNRIWIKI_SERVE_PYTHON={str(self.serve_python)!r} is no program: name the data plane's Python "
                "(`make serve-env` makes one in .venv)"
            )
        return self

    @property
    def choices(self) -> Mapping[str, SourceChoice]:
        """By model, where it comes from; a model whose registry is not configured comes from nowhere. Raises ValueError."""
        found = {}
        for entry in re.split(r"[\s,]+", self.sources.strip()):
            model, _, source = entry.partition("=")
            match = SOURCE.fullmatch(source)
            if model not in MODELS or match is None or (match[1] == "local" and not match[2]):
                raise ValueError(
                    f"BUNRIWIKI_SOURCES: {entry!r} is to be <model>=s3, =mlflow, =mlflow:<registered model> or "
                    f"=local:<folder>, with a model of {', '.join(MODELS)}"
                )
            found[model] = SourceChoice(match[1], match[2] or (self.mlflow_model if match[1] == "mlflow" else ""))
        configured = {"s3": self.s3_uri, "mlflow": self.mlflow_tracking_uri, "local": "always"}
        return {model: choice for model, choice in found.items() if configured[choice.kind]}

    @property
    def limits(self) -> Limits:
        """What an import may take."""
        return Limits(self.import_memory * 2**20, self.import_seconds, self.import_threads)

    @property
    def thresholds(self) -> Thresholds:
        """What the gates allow."""
        return Thresholds(self.gate_agreement, self.gate_quality, self.gate_batch, self.gate_latency, self.gate_labels)


if __name__ == "__main__":
    read(SyncSettings)
