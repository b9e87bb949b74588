"""The sidecar's settings, from the environment. `docs/settings.md` has the table, and the reason of each threshold.

python -m model_sync.settings

Ends with a sentence that names the variable when one is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import DirectoryPath, Field, field_validator, model_validator

from bunriwiki.artifacts.reference import REFERENCE
from bunriwiki.model_store.generation import Canary
from bunriwiki.settings import CommonSettings, read
from model_sync.evaluation.gates import Thresholds
from model_sync.live.analysis import LiveLimits
from model_sync.sandbox.run import MB, Limits
from model_sync.signatures import Signatures

ROOT = Path(__file__).parent.parent


class SyncSettings(CommonSettings):
    """What an operator may choose of the sidecar."""

    public_key: str = Field(
        default="",
        description="PEM files with Ed25519 public keys, separated by commas: from any registry, what is not signed with the "
        "other half of one is rejected.",
    )
    poll_interval_seconds: float = Field(
        default=300, gt=0, description="Seconds between two looks of the clock, give or take a tenth."
    )
    sqs_queue_url: str = Field(default="", description="Queue with the bucket's event notifications.")
    webhook_secret: str = Field(default="", description="The secret of MLflow's webhook; without it webhooks are rejected.")
    sync_host: str = Field(default="127.0.0.1", description="Address that the sidecar listens on.")
    sync_port: int = Field(default=3002, ge=0, le=65535, description="Port of the sidecar; 0: none.")
    serve_python: Path = Field(
        default=ROOT / ".venv" / "bin" / "python", description="The data plane's interpreter: the last gates run with it."
    )
    reference: DirectoryPath = Field(
        default=ROOT / "models", description="Folder with the reference set of each model, that versions are judged on."
    )
    import_memory_mb: int = Field(
        default=4096, ge=512, description="MB that each process of an import may take; an evaluation has two."
    )
    import_seconds: float = Field(default=600, gt=0, description="Seconds that each step of an import may take.")
    import_threads: int = Field(default=1, ge=1, description="Threads that an import may use.")
    import_disk_mb: int = Field(default=8192, ge=64, description="MB that each step of an import may write.")
    import_files: int = Field(default=20_000, ge=100, description="Files that each step of an import may make.")
    import_reserve_mb: int = Field(default=512, ge=0, description="MB that have to stay free on the disk during an import.")
    import_user: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto`: imports run as users of their own where the sidecar may change users; `off`: never.",
    )
    import_cgroup: str = Field(
        default="auto",
        description="`auto`: imports run in control groups where the sidecar's own was delegated to it; `off`: never; "
        "or folders of groups, separated by commas, to make them in.",
    )
    min_download_kb_per_second: float = Field(
        default=16, gt=0, description="KB/s below which a download counts as stuck, and is begun anew."
    )
    gate_agreement: float = Field(default=1, ge=0, le=1, description="Share of golden samples answered as the original does.")
    gate_labels: Literal["same", "any"] = Field(default="same", description="`any` lets a version have other classes.")
    gate_quality_points: float = Field(
        default=2, ge=0, description="Points of macro F1 that a version may be worse than what serves."
    )
    gate_batch_tolerance: float = Field(default=1e-3, ge=0, description="How far a score may differ alone and in a batch.")
    gate_latency_ratio: float = Field(default=2, gt=0, description="Times as long as what serves that a version may take.")
    monitor_seconds: float = Field(
        default=120, ge=0, description="Seconds that a new version is watched on live traffic; 0: not at all."
    )
    monitor_requests: int = Field(default=50, ge=1, description="Inputs that have to be answered before a version is judged.")
    monitor_error_points: float = Field(
        default=5, ge=0, description="Points of failed inputs more than before that are allowed."
    )
    monitor_latency_ratio: float = Field(default=2, gt=0, description="Times as long as before that an input may take.")
    monitor_stuck_seconds: float = Field(default=30, gt=0, description="Seconds after which a batch counts as stuck.")
    canary_share: float = Field(
        default=0, ge=0, le=1, description="Share of the batches that a new version answers before it serves; 0: none."
    )
    canary_seconds: float = Field(default=60, gt=0, description="Seconds that it does so at most.")
    shadow: Literal["off", "on"] = Field(
        default="off", description="`on`: it gets copies of them instead, and its answers are only compared."
    )
    shadow_difference_percent: float = Field(
        default=20, ge=0, le=100, description="Percent of the copies that may be answered differently."
    )

    @model_validator(mode="after")
    def _folders_are_there(self) -> Self:
        for model, choice in self.choices.items():
            if choice.kind == "local" and not Path(choice.place).is_dir():
                raise ValueError(f"BUNRIWIKI_SOURCES: {model} is to come from {choice.place}, which is no folder")
            if not (self.reference / model / REFERENCE).is_file():
                raise ValueError(f"BUNRIWIKI_REFERENCE={str(self.reference)!r} has no {model}/{REFERENCE}")
        return self

    @model_validator(mode="after")
    def _a_shadow_has_its_share(self) -> Self:
        if self.shadow == "on" and not self.canary_share:
            raise ValueError("BUNRIWIKI_SHADOW=on needs BUNRIWIKI_CANARY_SHARE, the share of the batches that are copied")
        return self

    @field_validator("import_cgroup")
    @classmethod
    def _are_groups(cls, choice: str) -> str:
        if choice not in {"auto", "off"} and not all((Path(one) / "cgroup.procs").is_file() for one in choice.split(",")):
            raise ValueError("is to be `auto`, `off`, or folders of control groups, separated by commas")
        return choice

    @field_validator("public_key")
    @classmethod
    def _are_keys(cls, paths: str) -> str:
        if paths and not _paths(paths):  # whoever sets it does not mean that nothing is to be signed
            raise ValueError("it names no file")
        try:
            Signatures.read(_paths(paths))
        except OSError as error:
            raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error
        return paths

    @field_validator("serve_python")
    @classmethod
    def _is_a_program(cls, path: Path) -> Path:
        if not os.access(path, os.X_OK):
            raise ValueError("no program is there: name the data plane's Python (`make serve-env` makes one in .venv)")
        return path.absolute()

    @property
    def signatures(self) -> Signatures:
        """Which signatures versions have to carry. Raises OSError and ValueError where a key has gone since the start."""
        return Signatures.read(_paths(self.public_key))

    @property
    def limits(self) -> Limits:
        """What an import may take."""
        return Limits(
            memory=self.import_memory_mb * MB,
            seconds=self.import_seconds,
            threads=self.import_threads,
            disk=self.import_disk_mb * MB,
            files=self.import_files,
            reserve=self.import_reserve_mb * MB,
            user=self.import_user,
            cgroup=self.import_cgroup,
        )

    @property
    def thresholds(self) -> Thresholds:
        """What the gates allow."""
        return Thresholds(
            self.gate_agreement, self.gate_quality_points, self.gate_batch_tolerance, self.gate_latency_ratio, self.gate_labels
        )

    @property
    def live_limits(self) -> LiveLimits:
        """What is allowed on live traffic."""
        return LiveLimits(
            self.monitor_requests,
            self.monitor_error_points,
            self.monitor_latency_ratio,
            self.monitor_stuck_seconds,
            self.shadow_difference_percent,
        )

    @property
    def canary_choice(self) -> Canary | None:
        """How a new version meets live traffic before it serves."""
        return Canary(share=self.canary_share, shadow=self.shadow == "on") if self.canary_share else None


def _paths(text: str) -> list[Path]:
    return [Path(path.strip()) for path in text.split(",") if path.strip()]


if __name__ == "__main__":
    read(SyncSettings)
