"""The sidecar's settings, from the environment. `docs/settings.md` lists them, with the reason of each threshold.

python -m model_sync.settings

Exits with a message that names the variable if a value is wrong.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, Self

from pydantic import DirectoryPath, Field, FilePath, field_validator, model_validator

from bunriwiki.artifacts.reference import REFERENCE
from bunriwiki.model_store.generation import Canary
from bunriwiki.model_store.layout import Layout
from bunriwiki.settings import CommonSettings, read
from bunriwiki.telemetry.sample_folder import SampleFolder
from model_sync.evaluation.gates import Thresholds
from model_sync.live.analysis import LiveLimits
from model_sync.quality.quality import Quality
from model_sync.sandbox.run import MB, Limits
from model_sync.signatures import Signatures
from model_sync.sources.artifact_locations import DEFAULT, ArtifactLocations

ROOT = Path(__file__).parent.parent


class SyncSettings(CommonSettings):
    """The settings that only the sidecar reads."""

    public_key: str = Field(
        default="",
        description="PEM files with Ed25519 public keys, separated by commas; versions without a valid signature by one of "
        "them are rejected.",
    )
    mlflow_artifacts: str = Field(
        default=DEFAULT,
        description="Where artifacts of MLflow may be, separated by commas: `mlflow-artifacts` (the tracking server), "
        "`s3://bucket`, `file:///folder`, `https://host`; versions elsewhere are rejected.",
    )
    poll_interval_seconds: float = Field(
        default=300, gt=0, description="Seconds between two polls of a registry, varied by up to 10 %."
    )
    sqs_queue_url: str = Field(default="", description="SQS queue with the bucket's event notifications.")
    webhook_secret: str = Field(default="", description="Secret of the MLflow webhook; if empty, webhooks are rejected.")
    sync_host: str = Field(default="127.0.0.1", description="Address that the sidecar listens on.")
    sync_key: FilePath | None = Field(default=None, description="PEM file with the key of `BUNRIWIKI_SYNC_CERTIFICATE`.")
    serve_python: Path = Field(
        default=ROOT / ".venv" / "bin" / "python",
        description="Python interpreter of the data plane, which runs new versions for their evaluation.",
    )
    reference: DirectoryPath = Field(
        default=ROOT / "models", description="Folder with the reference set of each model, for the evaluation of new versions."
    )
    max_version_mb: int = Field(
        default=4096, ge=1, description="MB that a version may have, in the registry and compiled; a larger one is rejected."
    )
    import_memory_mb: int = Field(
        default=4096, ge=512, description="MB of memory that each process of an import may use; an evaluation has two."
    )
    import_seconds: float = Field(default=600, gt=0, description="Seconds that each step of an import may take.")
    import_threads: int = Field(default=1, ge=1, description="Threads that an import may use.")
    import_disk_mb: int = Field(default=8192, ge=64, description="MB that each step of an import may write.")
    import_files: int = Field(default=20_000, ge=100, description="Files that each step of an import may create.")
    import_reserve_mb: int = Field(default=512, ge=0, description="MB that must stay free on the disk during an import.")
    import_user: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto`: imports run as separate users if the sidecar may change users; `off`: as the sidecar's user.",
    )
    import_cgroup: str = Field(
        default="auto",
        description="`auto`: imports run in control groups if the sidecar's own group was delegated to it; `off`: without "
        "them; or the folders of the groups to create them in, separated by commas.",
    )
    min_download_kb_per_second: float = Field(
        default=16, gt=0, description="KB/s below which a download counts as stuck and is retried."
    )
    gate_agreement: float = Field(
        default=1, ge=0, le=1, description="Minimum share of golden samples with the same answer as the original model."
    )
    gate_labels: Literal["same", "any"] = Field(
        default="same", description="`same`: a version must have the classes of the serving version; `any`: it may have others."
    )
    gate_quality_points: float = Field(
        default=2, ge=0, description="Points of macro F1 that a version may be worse than the serving version."
    )
    gate_floor_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="Share of the way from guessing to perfect answers that the first version must reach; 0: no floor.",
    )
    gate_floor_latency_seconds: float = Field(default=1, gt=0, description="Maximum seconds per input of the first version.")
    gate_batch_tolerance: float = Field(
        default=1e-3, ge=0, description="Maximum difference between the scores of an input alone and in a batch."
    )
    gate_latency_ratio: float = Field(
        default=2, gt=0, description="Maximum latency of a version, as a multiple of the serving version's."
    )
    monitor_seconds: float = Field(
        default=120, ge=0, description="Seconds for which a new version is monitored on live traffic; 0: not at all."
    )
    monitor_requests: int = Field(default=50, ge=1, description="Inputs that a new version must answer before it is judged.")
    monitor_error_points: float = Field(
        default=5, ge=0, description="Percentage points by which the share of failed inputs may exceed the previous version's."
    )
    monitor_latency_ratio: float = Field(
        default=2, gt=0, description="Maximum latency on live traffic, as a multiple of the previous version's."
    )
    monitor_stuck_seconds: float = Field(default=30, gt=0, description="Seconds after which a batch counts as stuck.")
    monitor_accuracy_points: float = Field(
        default=3,
        ge=0,
        le=100,
        description="Percentage points by which the accuracy by known feedback may be lower than the previous version's.",
    )
    drift_window_seconds: float = Field(
        default=3600, ge=10, description="Seconds of the sliding window that is compared with the reference."
    )
    feedback_days: float = Field(default=90, gt=0, description="Days after which feedback is deleted.")
    feedback_database: Path | None = Field(
        default=None, description="SQLite file of the feedback; default: `quality/feedback.db` in the model store."
    )
    canary_share: float = Field(
        default=0, ge=0, le=1, description="Share of the batches that a new version answers as a canary; 0: no canary."
    )
    canary_seconds: float = Field(default=60, gt=0, description="Maximum duration of a canary in seconds.")
    shadow: Literal["off", "on"] = Field(
        default="off", description="`on`: the canary gets copies of the batches, and its answers are only compared."
    )
    shadow_difference_percent: float = Field(
        default=20, ge=0, le=100, description="Maximum percentage of the copies that may be answered differently."
    )
    rollout: Literal["none", "compose", "swarm"] = Field(
        default="none", description="Where the replicas run that get images with the serving versions."
    )
    rollout_project: str = Field(
        default="bunriwiki", pattern=r"^[a-z0-9][a-z0-9_-]*$", description="Name of the Compose project, or of the Swarm stack."
    )
    rollout_files: str = Field(
        default="docker-compose.yml", description="Files of the Compose project, separated by commas, in its folder."
    )
    rollout_folder: DirectoryPath | None = Field(
        default=None, description="Folder of the Compose project, as the rollout sees it; default: that of this code."
    )
    rollout_base: str = Field(
        default="bunriwiki", min_length=1, description="The service's own image, on which images with versions are built."
    )
    rollout_registry: str = Field(
        default="",
        description="Registry and path that images are pushed to, such as `registry.example.org/team`; if empty, none.",
    )
    rollout_quiet_seconds: float = Field(
        default=60,
        ge=0,
        description="Seconds without a change of what serves before a rollout; `BUNRIWIKI_MONITOR_SECONDS`, if longer.",
    )
    rollout_ready_seconds: float = Field(
        default=180, gt=0, description="Seconds that a replica may take to become ready and to answer rightly."
    )
    rollout_observe_seconds: float = Field(
        default=30, ge=0, description="Seconds for which a new replica's metrics are compared with those of the old ones."
    )
    rollout_approval: Literal["auto", "manual"] = Field(
        default="auto", description="`manual`: each step of a rollout waits for `rollout approve`."
    )
    rollout_trial_memory_mb: int = Field(
        default=3072, ge=512, description="MB of memory of the replica that answers golden samples before a rollout."
    )

    @model_validator(mode="after")
    def _check_folders(self) -> Self:
        for model, choice in self.choices.items():
            if choice.kind == "local" and not Path(choice.place).is_dir():
                raise ValueError(f"BUNRIWIKI_SOURCES: {choice.place}, the registry of {model}, is not a folder")
            if not (self.reference / model / REFERENCE).is_file():
                raise ValueError(f"BUNRIWIKI_REFERENCE={str(self.reference)!r} has no {model}/{REFERENCE}")
        return self

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Self:
        if self.sync_key and not self.sync_certificate:
            raise ValueError("BUNRIWIKI_SYNC_KEY requires BUNRIWIKI_SYNC_CERTIFICATE")
        return self

    @model_validator(mode="after")
    def _check_shadow(self) -> Self:
        if self.shadow == "on" and not self.canary_share:
            raise ValueError("BUNRIWIKI_SHADOW=on requires BUNRIWIKI_CANARY_SHARE, the share of the batches that are copied")
        return self

    @field_validator("import_cgroup")
    @classmethod
    def _check_cgroup(cls, choice: str) -> str:
        if choice not in {"auto", "off"} and not all((Path(path) / "cgroup.procs").is_file() for path in choice.split(",")):
            raise ValueError("must be `auto`, `off`, or folders of control groups, separated by commas")
        return choice

    @field_validator("mlflow_artifacts")
    @classmethod
    def _check_artifacts(cls, text: str) -> str:
        ArtifactLocations(text)
        return text

    @field_validator("public_key")
    @classmethod
    def _check_keys(cls, paths: str) -> str:
        if paths and not _paths(paths):  # a variable that is set must not turn signatures off
            raise ValueError("names no file; unset it to accept versions without a signature")
        try:
            Signatures.read(_paths(paths))
        except OSError as error:
            raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error
        return paths

    @field_validator("serve_python")
    @classmethod
    def _check_program(cls, path: Path) -> Path:
        if not os.access(path, os.X_OK):
            raise ValueError("is not an executable: use the data plane's Python (`make serve-env` creates it in .venv)")
        return path.absolute()

    @property
    def signatures(self) -> Signatures:
        """The keys that versions must be signed with. Raises OSError and ValueError if a file changed since the start."""
        return Signatures.read(_paths(self.public_key))

    @property
    def max_version_bytes(self) -> int:
        """The bytes that a version may have."""
        return self.max_version_mb * MB

    @property
    def limits(self) -> Limits:
        """The resource limits of an import."""
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
        """The thresholds of the gates."""
        return Thresholds(
            agreement=self.gate_agreement,
            quality=self.gate_quality_points,
            batch=self.gate_batch_tolerance,
            latency=self.gate_latency_ratio,
            labels=self.gate_labels,
            floor=self.gate_floor_share,
            floor_seconds=self.gate_floor_latency_seconds,
        )

    @property
    def live_limits(self) -> LiveLimits:
        """The thresholds of the rollout monitor and the canary."""
        return LiveLimits(
            self.monitor_requests,
            self.monitor_error_points,
            self.monitor_latency_ratio,
            self.monitor_stuck_seconds,
            self.shadow_difference_percent,
            self.monitor_accuracy_points,
        )

    def quality(self, layout: Layout) -> Quality:
        """Drift and feedback of the store at `layout`. Raises DamagedArtifactError, OSError and sqlite3.Error."""
        samples = SampleFolder(self.samples, self.samples_days, self.samples_max_mb * MB) if self.samples else None
        return Quality(
            layout,
            fallbacks=self.models,
            window_seconds=self.drift_window_seconds,
            keys=self.feedback_keys,
            feedback_days=self.feedback_days,
            database=self.feedback_database,
            samples=samples,
        )

    @property
    def canary_choice(self) -> Canary | None:
        """The canary of a new version; None if there is none."""
        return Canary(share=self.canary_share, shadow=self.shadow == "on") if self.canary_share else None


def _paths(text: str) -> list[Path]:
    return [Path(path.strip()) for path in text.split(",") if path.strip()]


if __name__ == "__main__":
    read(SyncSettings)
