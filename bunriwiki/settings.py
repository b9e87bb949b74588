"""The settings, from the environment: what both planes share, and the data plane's. `model_sync/settings.py` has the sidecar's.

Every variable but `PORT` and MLflow's own starts with `BUNRIWIKI_`; `docs/settings.md` has the table. A wrong value stops the
start with a sentence that names the variable.

python -m bunriwiki.settings

Says whether a sidecar is wanted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import DirectoryPath, Field, FilePath, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from bunriwiki.artifacts.manifest import MODELS

PREFIX = "BUNRIWIKI_"
SOURCE = re.compile(r"s3|mlflow(:.+)?|local:.+")


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """The registry of one model: its kind (s3, mlflow, local), and the registered model's name or the folder; else ""."""

    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class VitalLimits:
    """What a worker may take, and who it is one of.

    `memory` is in bytes, 0 for any; `workers` is how many processes of the service answer when all are there; `last_word` are
    the seconds after which a worker that was told to end is ended.
    """

    memory: int
    workers: int
    last_word: float


class CommonSettings(BaseSettings):
    """What both planes have to know."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True)

    models: DirectoryPath = Field(
        default=Path(__file__).parent.parent / "models", description="Folder with the fallback version of each model."
    )
    model_store: Path = Field(
        default=Path.home() / "bunriwiki", description="Folder with the published versions; made where there is none."
    )
    sync: Literal["auto", "off"] = Field(
        default="auto", description="`auto`: the sidecar runs where a registry is configured; `off`: never."
    )
    sources: str = Field(
        default="yolo=s3 kcbert=s3 sentiment=mlflow",
        description="The registry of each model: `s3`, `mlflow`, `mlflow:<registered model>`, or `local:<folder>`.",
    )
    s3_uri: str = Field(
        default="", pattern=r"^(s3://[^/]+(/.*)?)?$", description="Where `latest_model.yaml` lies: `s3://bucket/prefix`."
    )
    mlflow_tracking_uri: str = Field(default="", validation_alias="MLFLOW_TRACKING_URI", description="The MLflow server.")
    mlflow_model: str = Field(default="ensemble-sentiment-model", description="The registered model where a source names none.")
    admin_token: str = Field(default="", description="Tokens, separated by commas, that open the administration routes.")
    log_level: str = Field(default="INFO", pattern="^(TRACE|DEBUG|INFO|WARNING|ERROR)$", description="Least level logged.")

    @property
    def admin_tokens(self) -> list[str]:
        """The tokens, one by one."""
        return [token.strip() for token in self.admin_token.split(",") if token.strip()]

    @field_validator("sources")
    @classmethod
    def _is_a_table(cls, sources: str) -> str:
        for entry in re.split(r"[\s,]+", sources.strip()):
            model, _, source = entry.partition("=")
            if model not in MODELS or not SOURCE.fullmatch(source):
                raise ValueError(
                    f"{entry!r} is to be <model>=s3, =mlflow, =mlflow:<registered model> or =local:<folder>, "
                    f"with a model of {', '.join(MODELS)}"
                )
        return sources

    @property
    def choices(self) -> Mapping[str, SourceChoice]:
        """By model, where it comes from; a model whose registry is not configured comes from nowhere."""
        found = {}
        for entry in re.split(r"[\s,]+", self.sources.strip()):
            model, _, source = entry.partition("=")
            kind, _, place = source.partition(":")
            if {"s3": self.s3_uri, "mlflow": self.mlflow_tracking_uri}.get(kind, "local"):
                found[model] = SourceChoice(kind, place or (self.mlflow_model if kind == "mlflow" else ""))
        return found

    @property
    def syncs(self) -> bool:
        """Whether a sidecar brings new versions."""
        return self.sync == "auto" and bool(self.choices)


class Settings(CommonSettings):
    """What an operator may choose. The defaults serve the models that the repository ships."""

    port: int = Field(default=3000, ge=1, le=65535, validation_alias="PORT", description="Port of the REST door.")
    gateway_workers: int = Field(default=1, ge=1, description="Processes that speak HTTP.")
    runner_workers: int = Field(default=1, ge=1, description="Processes per model.")
    threads: int = Field(default=0, ge=0, description="Threads per forward pass; 0: as many as there are cores, at most 4.")
    max_queue_size: int = Field(default=512, ge=1, description="Requests that may wait per model; more are answered 503.")
    deadline_seconds: float = Field(default=30, gt=0, description="Seconds after which a request is answered 504.")
    max_rss_mb: int = Field(default=0, ge=0, description="MB of memory above which a worker is replaced; 0: any.")
    drain_seconds: float = Field(
        default=1, ge=0, description="Seconds between becoming unready and closing the door on SIGTERM."
    )
    # All addresses, as BentoML's HTTP port is open to by default.
    grpc_host: str = Field(default="0.0.0.0", description="Address that the gRPC door listens on.")  # noqa: S104
    grpc_port: int = Field(default=3001, ge=0, le=65535, description="Port of the gRPC door; 0: none.")
    grpc_certificate: FilePath | None = Field(
        default=None, description="PEM file with the gRPC door's certificate chain, for TLS."
    )
    grpc_key: FilePath | None = Field(default=None, description="PEM file with its key.")
    grpc_clients: FilePath | None = Field(
        default=None, description="PEM file with the authorities whose clients are let in, for mutual TLS."
    )
    sync_url: str = Field(
        default="http://127.0.0.1:3002", pattern="^https?://.+$", description="Where the sidecar's API answers."
    )
    start_wait_seconds: float = Field(
        default=60, ge=0, description="Seconds that the start waits at most for the sidecar's first look at the registries."
    )
    log_requests: bool = Field(default=True, description="One line per request.")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if (self.grpc_certificate is None) != (self.grpc_key is None):
            raise ValueError("BUNRIWIKI_GRPC_CERTIFICATE and BUNRIWIKI_GRPC_KEY go together")
        if self.grpc_clients and not self.grpc_certificate:
            raise ValueError("BUNRIWIKI_GRPC_CLIENTS needs BUNRIWIKI_GRPC_CERTIFICATE and BUNRIWIKI_GRPC_KEY")
        return self

    @property
    def vital_limits(self) -> VitalLimits:
        """What follows from these settings for each worker."""
        return VitalLimits(
            memory=self.max_rss_mb * 2**20,
            workers=self.gateway_workers + len(MODELS) * self.runner_workers,
            last_word=self.drain_seconds + 2 * self.deadline_seconds + 10,  # HTTP, then gRPC, and what lies between
        )


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def read(kind: type[SettingsT]) -> SettingsT:
    """The settings of this process. Ends the process when one of them is wrong."""
    try:
        return kind()
    except ValidationError as error:
        sys.exit("Wrong setting. " + "; ".join(_sentence(one) for one in error.errors()))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The data plane's settings, read once. Ends the process when one of them is wrong."""
    return read(Settings)


def _variable(name: str) -> str:
    return name if name.isupper() else PREFIX + name.upper()


def _sentence(error: ErrorDetails) -> str:
    if not error["loc"]:  # of several settings together: the message names them
        return error["msg"].removeprefix("Value error, ")
    message = error["msg"].removeprefix("Value error, ")
    return f"{_variable(str(error['loc'][0]))}={error['input']!r}: {message}"


if __name__ == "__main__":
    sys.stdout.write("yes\n" if settings().syncs else "no\n")
