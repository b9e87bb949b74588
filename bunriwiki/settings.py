"""The settings of the service and those that it shares with the sidecar, from the environment.

All variables except `PORT` and MLflow's own start with `BUNRIWIKI_`; `docs/settings.md` has the table. The process does not
start with a wrong value; the error names the variable. `model_sync/settings.py` has the sidecar's own settings.

python -m bunriwiki.settings

Prints `yes` if a sidecar should run, else `no`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import DirectoryPath, Field, FilePath, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.container import sizing
from bunriwiki.container.limits import cores, memory

PREFIX = "BUNRIWIKI_"
LOG_LEVELS = ("TRACE", "DEBUG", "INFO", "WARNING", "ERROR")
SECRETS = ("feedback_key", "SENTRY_DSN")  # settings whose values no error shows
METRICS_PORT_OFFSET = 3  # from PORT, if no other port is set; bunriwiki/container/health.py has it as well
MIN_KEY_CHARACTERS = 32  # a ticket is public: a shorter key could be guessed from one
# The kinds of registry, as BUNRIWIKI_SOURCES may name them. model_sync/registries.py opens each kind.
SOURCE_FORMS = ("s3", "mlflow", "mlflow:<registered model>", "local:<folder>")


@dataclass(frozen=True, slots=True)
class SourceChoice:
    """The registry of one model: its kind, and what follows the colon in BUNRIWIKI_SOURCES (or the default of the kind)."""

    kind: str
    place: str


@dataclass(frozen=True, slots=True)
class VitalLimits:
    """The limits of a worker.

    `max_rss_bytes` is its resident memory, 0 for no limit; `workers` is the number of workers of the whole service;
    `shutdown_seconds` is the time after which a worker that does not end by itself is killed.
    """

    max_rss_bytes: int
    workers: int
    shutdown_seconds: float


def _networks(text: str) -> list[IPv4Network | IPv6Network]:
    return [ip_network(part.strip()) for part in text.split(",") if part.strip()]


@dataclass(frozen=True, slots=True)
class LogChoices:
    """How a process logs. `folder` is that of its log file, None for none; `level_file` may name another level than `level`.

    The file is rolled every `roll_days` days, and when it has `roll_mb` MB; `keep` rolled files are kept.
    """

    role: str
    level: str
    level_file: Path
    json: bool = False
    folder: Path | None = None
    roll_days: float = 3
    roll_mb: int = 100
    keep: int = 10


class CommonSettings(BaseSettings):
    """The settings that service and sidecar share."""

    # Compose passes variables on that are empty.
    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    models: DirectoryPath = Field(
        default=Path(__file__).parent.parent / "models", description="Folder with the fallback version of each model."
    )
    model_store: Path = Field(
        default=Path.home() / "bunriwiki", description="Folder of the model store; created if it does not exist."
    )
    sync: Literal["auto", "off"] = Field(
        default="auto", description="`auto`: the sidecar runs if a registry is configured; `off`: it never does."
    )
    sources: str = Field(
        default="yolo=s3 kcbert=s3 sentiment=mlflow",
        description=f"The registry of each model: `{'`, `'.join(SOURCE_FORMS[:-1])}`, or `{SOURCE_FORMS[-1]}`.",
    )
    s3_uri: str = Field(
        default="", pattern=r"^(s3://[^/]+(/.*)?)?$", description="Folder of `latest_model.yaml`: `s3://bucket/prefix`."
    )
    mlflow_tracking_uri: str = Field(
        default="", validation_alias="MLFLOW_TRACKING_URI", description="URL of the MLflow server."
    )
    mlflow_model: str = Field(
        default="ensemble-sentiment-model", description="The registered model, where `BUNRIWIKI_SOURCES` names none."
    )
    admin_token: str = Field(default="", description="Tokens for the administration routes, separated by commas.")
    sync_port: int = Field(default=3002, ge=0, le=65535, description="Port of the sidecar; 0: none.")
    sync_url: str = Field(
        default="",
        pattern=r"^(https?://[^/]+.*)?$",
        description="URL of the sidecar, for the service and the command line; default: `BUNRIWIKI_SYNC_PORT` on this machine.",
    )
    sync_certificate: FilePath | None = Field(
        default=None,
        description="PEM file with the certificate chain of the sidecar, for TLS; the service and the command line trust it "
        "alone.",
    )
    trusted_proxies: str = Field(
        default="",
        description="Addresses or networks of proxies, separated by commas, whose `X-Forwarded-For` names the client.",
    )
    feedback_key: str = Field(
        default="",
        description="Secrets that sign feedback tickets, separated by commas: the first signs, all are accepted; at least 32 "
        "characters each. If empty, answers have no tickets.",
    )
    feedback_token: str = Field(
        default="",
        description="Tokens whose feedback counts as known, separated by commas; that of `BUNRIWIKI_ADMIN_TOKEN` does as well.",
    )
    samples: Path | None = Field(
        default=None, description="Folder for sampled predictions, outside the model store; if empty, none are kept."
    )
    samples_days: float = Field(default=30, gt=0, description="Days after which a sampled prediction is deleted.")
    samples_max_mb: int = Field(default=1024, ge=1, description="MB of sampled predictions; beyond, the oldest are deleted.")
    yolo_size: int = Field(
        default=0,
        ge=0,
        multiple_of=32,
        description="Pixels of the side of the square in which `yolo` sees a photo, a multiple of 32, and of 64 for the "
        "bundled version: a smaller one is faster and finds fewer small objects; 0, or more than the version's own: the "
        "version's own.",
    )
    log_level: str = Field(
        default="INFO",
        pattern=f"^({'|'.join(LOG_LEVELS)})$",
        description="Lowest level that is logged, unless `log-level` changed it.",
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="`json`: each line of the log is an object with the field names of OpenTelemetry."
    )
    log_folder: Path | None = Field(
        default=None, description="Folder of `logfile.log`, outside the model store; if empty, there is no log file."
    )
    log_roll_days: float = Field(default=3, gt=0, description="Days after which the log file is rolled.")
    log_roll_mb: int = Field(default=100, ge=1, description="MB at which the log file is rolled.")
    log_keep: int = Field(default=10, ge=0, description="Rolled log files that are kept, compressed; older ones are deleted.")

    sentry_dsn: str = Field(
        default="",
        validation_alias="SENTRY_DSN",
        description="Address of a Sentry project, for errors; if empty, none are sent.",
    )

    def logs(self, role: str) -> LogChoices:
        """How a process logs. `role` is `gateway`, `supervisor`, `sidecar`, or a model: of its runner's workers.

        A runner's workers have a folder of their own in it: third-party code cannot forge or delete the lines of others.
        """
        return LogChoices(
            role=role,
            level=self.log_level,
            level_file=self.model_store / "log_level",  # that of bunriwiki/model_store/layout.py
            json=self.log_format == "json",
            folder=self.log_folder / role if self.log_folder and role in MODELS else self.log_folder,
            roll_days=self.log_roll_days,
            roll_mb=self.log_roll_mb,
            keep=self.log_keep,
        )

    @property
    def sidecar_url(self) -> str | None:
        """The URL of the sidecar; None if it has neither a port nor a URL."""
        if self.sync_url:
            return self.sync_url.rstrip("/")
        scheme = "https" if self.sync_certificate else "http"
        return f"{scheme}://127.0.0.1:{self.sync_port}" if self.sync_port else None

    @property
    def admin_tokens(self) -> list[str]:
        """The tokens in `admin_token`."""
        return [token.strip() for token in self.admin_token.split(",") if token.strip()]

    @property
    def proxies(self) -> list[IPv4Network | IPv6Network]:
        """The networks in `trusted_proxies`."""
        return _networks(self.trusted_proxies)

    @property
    def feedback_keys(self) -> list[str]:
        """The secrets in `feedback_key`."""
        return [key.strip() for key in self.feedback_key.split(",") if key.strip()]

    @property
    def feedback_tokens(self) -> list[str]:
        """The tokens whose feedback counts as known."""
        return [*self.admin_tokens, *(token.strip() for token in self.feedback_token.split(",") if token.strip())]

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, proxies: str) -> str:
        _networks(proxies)
        return proxies

    @field_validator("feedback_key")
    @classmethod
    def _check_keys_are_long(cls, keys: str) -> str:
        if any(len(key.strip()) < MIN_KEY_CHARACTERS for key in keys.split(",") if key.strip()):
            # The value is a secret, which the error must not show: `_sentence` leaves it out.
            raise ValueError(f"a key has fewer than {MIN_KEY_CHARACTERS} characters; `openssl rand -hex 32` makes one")
        return keys

    @field_validator("sentry_dsn")
    @classmethod
    def _check_dsn(cls, dsn: str) -> str:
        address = urlsplit(dsn)
        if dsn and not (address.scheme in ("http", "https") and address.username and address.hostname and address.path[1:]):
            raise ValueError("a DSN has the form https://KEY@HOST/PROJECT")
        return dsn

    @model_validator(mode="after")
    def _no_runner_may_read_samples_or_logs(self) -> Self:
        # Third-party code must not read what users sent (bunriwiki/runner_launch.py has what a runner may read).
        for name, private in (("SAMPLES", self.samples), ("LOG_FOLDER", self.log_folder)):
            for folder in (self.model_store, self.models, Path(__file__).parent.parent):
                if private and private.resolve().is_relative_to(folder.resolve()):
                    raise ValueError(f"{PREFIX}{name} must be outside {folder}, which runners may read")
        return self

    @field_validator("sources")
    @classmethod
    def _check_sources(cls, sources: str) -> str:
        pattern = "|".join(re.sub("<.+>", ".+", form) for form in SOURCE_FORMS)
        for entry in re.split(r"[\s,]+", sources.strip()):
            model, _, source = entry.partition("=")
            if model not in MODELS or not re.fullmatch(pattern, source):
                raise ValueError(
                    f"{entry!r} must be <model>=<registry>, with a model of {', '.join(MODELS)} "
                    f"and a registry of {', '.join(SOURCE_FORMS)}"
                )
        return sources

    @property
    def choices(self) -> Mapping[str, SourceChoice]:
        """The registry of each model. A model whose registry is not configured is left out."""
        addresses = {"s3": self.s3_uri, "mlflow": self.mlflow_tracking_uri}
        defaults = {"mlflow": self.mlflow_model}
        found = {}
        for entry in re.split(r"[\s,]+", self.sources.strip()):
            model, _, source = entry.partition("=")
            kind, _, place = source.partition(":")
            if addresses.get(kind, place):  # a kind without a setting for its address is configured by its place
                found[model] = SourceChoice(kind, place or defaults.get(kind, ""))
        return found

    @property
    def syncs(self) -> bool:
        """Whether a sidecar should run."""
        return self.sync == "auto" and bool(self.choices)


class Settings(CommonSettings):
    """The settings of the service. With the defaults it serves the bundled fallback models."""

    port: int = Field(default=3000, ge=1, le=65535, validation_alias="PORT", description="Port of the REST server.")
    # What the container was given decides, not what the machine has. Read the values as they are: a 0 has been replaced.
    gateway_workers: int = Field(
        default=0, ge=0, validate_default=True, description="Processes that serve HTTP and gRPC; 0: one per 4 cores."
    )
    runner_workers: int = Field(
        default=0,
        ge=0,
        validate_default=True,
        description="Runner processes per model; 0: one per 4 cores, and at most one per 2 GB of memory.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        validate_default=True,
        description="Threads per forward pass; 0: as many as there are cores, at most 4.",
    )
    max_queue_size: int = Field(
        default=512, ge=1, description="Requests that may wait per model; further ones are answered with 503."
    )
    max_queue_megapixels: int = Field(
        default=1024,
        ge=256,  # MAX_CALL_PIXELS of bunriwiki/artifacts/models.py
        description="Megapixels of the photos that may wait for `yolo`; further ones are answered with 503. A baseline JPEG "
        "counts a quarter of its pixels, no photo less than one megapixel, and a WebP that may be lossless no less than eight. "
        "At least 256.",
    )
    deadline_seconds: float = Field(default=30, gt=0, description="Seconds after which a request is answered with 504.")
    body_memory_mb: int = Field(
        default=512,
        ge=64,
        description="MB that request bodies may take in a gateway worker, of all protocols together. Half of it is never "
        "given out: it is for what arrives of gRPC messages before it is counted, and for the allocator.",
    )
    small_body_memory_mb: int = Field(default=64, ge=1, description="MB of them that are for bodies of at most 64 KB alone.")
    body_min_bytes_per_second: int = Field(
        default=1000,
        ge=0,
        description="Bytes per second that a body has at least to arrive with, on average over `BUNRIWIKI_BODY_GRACE_SECONDS`.",
    )
    body_grace_seconds: float = Field(
        default=10, gt=0, description="Seconds over which the rate of a body is averaged; a slower one is answered with 408."
    )
    max_rss_mb: int = Field(
        default=0,
        ge=0,
        validate_default=True,
        description="Resident memory in MB above which a worker is replaced; 0: half of the container's, if it has a limit.",
    )
    drain_seconds: float = Field(
        default=1, ge=0, description="Seconds on SIGTERM between becoming unready and rejecting new connections."
    )
    # All addresses, like BentoML's HTTP port by default.
    grpc_host: str = Field(default="0.0.0.0", description="Address that the gRPC server listens on.")  # noqa: S104
    grpc_port: int = Field(default=3001, ge=0, le=65535, description="Port of the gRPC server; 0: no gRPC.")
    metrics_host: str = Field(default="0.0.0.0", description="Address of the port for health checks and metrics.")  # noqa: S104
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port for health checks and metrics alone, which answers although the other ports are overloaded; default: "
        "`PORT` + 3; 0: none.",
    )
    grpc_certificate: FilePath | None = Field(
        default=None, description="PEM file with the certificate chain of the gRPC server, for TLS."
    )
    grpc_key: FilePath | None = Field(default=None, description="PEM file with the key of the certificate.")
    grpc_clients: FilePath | None = Field(
        default=None, description="PEM file with the certificate authorities of accepted clients, for mutual TLS."
    )
    start_wait_seconds: float = Field(
        default=60, ge=0, description="Seconds that the start waits at most for the first sync with the registries."
    )
    feedback_ticket_seconds: float = Field(
        default=604_800, gt=0, description="Seconds for which feedback can be given on an answer."
    )
    samples_share: float = Field(
        default=0.01, ge=0, le=1, description="Share of the predictions that are kept in `BUNRIWIKI_SAMPLES`."
    )
    samples_inputs: Literal["off", "on"] = Field(
        default="off", description="`on`: samples include the texts and photos themselves."
    )
    log_requests: bool = Field(default=True, description="Whether each request is logged.")

    @field_validator("gateway_workers", "runner_workers", "threads", "max_rss_mb")
    @classmethod
    def _follow_the_container(cls, value: int, field: ValidationInfo) -> int:
        if value:
            return value
        match field.field_name:
            case "gateway_workers":
                return sizing.gateway_workers(cores())
            case "runner_workers":
                return sizing.runner_workers(cores(), memory())
            case "threads":
                return sizing.threads(cores())
            case _:
                return sizing.max_rss_mb(memory())

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Self:
        if (self.grpc_certificate is None) != (self.grpc_key is None):
            raise ValueError("BUNRIWIKI_GRPC_CERTIFICATE and BUNRIWIKI_GRPC_KEY must be set together")
        if self.grpc_clients and not self.grpc_certificate:
            raise ValueError("BUNRIWIKI_GRPC_CLIENTS requires BUNRIWIKI_GRPC_CERTIFICATE and BUNRIWIKI_GRPC_KEY")
        return self

    @model_validator(mode="after")
    def _large_bodies_have_memory(self) -> Self:
        if self.large_body_memory_mb < 32:
            raise ValueError(
                "BUNRIWIKI_SMALL_BODY_MEMORY_MB must leave 32 MB of half of BUNRIWIKI_BODY_MEMORY_MB for large bodies"
            )
        return self

    @property
    def large_body_memory_mb(self) -> int:
        """The part of `body_memory_mb` that is neither spare nor for small bodies alone."""
        return self.body_memory_mb // 2 - self.small_body_memory_mb

    @property
    def health_port(self) -> int:
        """The port in `metrics_port`, or its default; 0 for none."""
        if self.metrics_port is not None:
            return self.metrics_port
        return self.port + METRICS_PORT_OFFSET if self.port + METRICS_PORT_OFFSET <= 65535 else 0

    @property
    def vital_limits(self) -> VitalLimits:
        """The limits of each worker."""
        return VitalLimits(
            max_rss_bytes=self.max_rss_mb * 2**20,
            workers=self.gateway_workers + len(MODELS) * self.runner_workers,
            shutdown_seconds=self.drain_seconds + 2 * self.deadline_seconds + 10,  # HTTP, then gRPC, and the steps between
        )


SettingsT = TypeVar("SettingsT", bound=BaseSettings)


def read(kind: type[SettingsT]) -> SettingsT:
    """Read settings from the environment. Ends the process if a value is wrong."""
    try:
        return kind()
    except ValidationError as error:
        sys.exit("Wrong setting. " + "; ".join(_sentence(detail) for detail in error.errors()))


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of the service, read once. Ends the process if a value is wrong."""
    return read(Settings)


def _variable(name: str) -> str:
    return name if name.isupper() else PREFIX + name.upper()


def _sentence(error: ErrorDetails) -> str:
    if not error["loc"]:  # about several settings: the message names them
        return error["msg"].removeprefix("Value error, ")
    message = error["msg"].removeprefix("Value error, ")
    name = str(error["loc"][0])
    shown = "" if name in SECRETS else f"={error['input']!r}"
    return f"{_variable(name)}{shown}: {message}"


if __name__ == "__main__":
    sys.stdout.write("yes\n" if settings().syncs else "no\n")
