"""The errors of the control plane, by whose fault they are (docs/adr/0008-errors-by-cause.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class SourceError(Exception):
    """The registry cannot be reached or understood at the moment. The message says what is wrong and how to fix it.

    No version is rejected; the next sync tries again.
    """


class RejectedError(Exception):
    """The version must not serve: it is not what the registry states, or it failed a check.

    The message becomes the reason of its quarantine, and `cause` its label in the metrics (`telemetry/store.py` lists them).
    """

    def __init__(self, message: str, cause: str = "artifact") -> None:
        super().__init__(message)
        self.cause = cause


class SignatureError(RejectedError):
    """The version has no valid signature. Another signature or another key may change that."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "signature")


class ReplayedError(SignatureError):
    """The signature is older than one that was accepted before. The version, which may be a good one, is not quarantined."""


class ImportEnvironmentError(Exception):
    """The import failed through no fault of the version. The message says what is wrong."""


class ReportedEnvironmentError(ImportEnvironmentError):
    """The sandboxed program reported it. If the program runs third-party code, the report may come from that code."""


class ImportCrashedError(Exception):
    """The import died or timed out. It is not known whether the version or the environment is at fault."""


class UndecidedError(Exception):
    """The machine may be the cause of what was found, so it is no finding: the import is tried again later.

    The message says what was found.
    """


class SyncCancelledError(Exception):
    """The sidecar is shutting down; nothing is known about the version."""


class ImportCancelledError(Exception):
    """An operator cancelled the import; nothing is known about the version."""


CommandErrorKind = Literal[
    "invalid", "unknown", "nothing", "quarantined", "serving", "cannot_load", "busy", "superseded", "failed"
]
"""`invalid`: not a valid name. `unknown`: nothing here has that name. `nothing`: there is nothing that the command concerns.
`quarantined`: the version is in quarantine. `serving`: it serves. `cannot_load`: workers cannot load it, or did not in time.
`busy`: another command for the model is running. `superseded`: another version began to serve meanwhile. `failed`: something
on this machine is in the way (a full disk, for example)."""


@dataclass
class CommandError(Exception):
    """The command was not executed, and nothing has changed. `sentence` says why, and what to do."""

    kind: CommandErrorKind
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass
class FeedbackError(Exception):
    """Feedback that is not kept. `sentence` says why.

    `closed`: no key is set. `invalid`: the ticket was not issued here. `expired`: it is too old. `used`: it was used. `wrong`:
    the label is none of the model. `full`: too many tickets were used lately.
    """

    kind: Literal["closed", "invalid", "expired", "used", "wrong", "full"]
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass
class PublishError(Exception):
    """The version was not published. `sentence` says why.

    `rejected`: it is not a version of the model, or its name is already in use. `settings`: the bucket, the credentials or the
    key are wrong. `unreachable`: S3 cannot be reached. `failed`: something on this machine is in the way.
    """

    kind: Literal["rejected", "settings", "unreachable", "failed"]
    sentence: str

    def __str__(self) -> str:
        return self.sentence


@dataclass
class WebhookRejectedError(Exception):
    """A rejected delivery: an HTTP status after which MLflow does not retry, and a sentence that says what to do."""

    status: int
    sentence: str
