"""The commands: each takes the parsed arguments and returns an exit code.

A command imports what only it needs, so that a rollback does not wait for the S3 libraries, for example.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.model_store.files import write_atomically
from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.names import FALLBACK
from bunriwiki.settings import CommonSettings
from model_sync.api.routes import HistoryAnswer
from model_sync.cli.arguments import USUAL, make_parser
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.operators import Operator, Reader, operator, reader
from model_sync.cli.screen import STYLES, Screen, megabytes
from model_sync.cli.settings import read_settings
from model_sync.cli.show import show_history, show_image_rollout, show_outcomes, show_quarantine, show_status, shown
from model_sync.cli.words import Words, language
from model_sync.errors import CommandError, PublishError
from model_sync.syncing.requests import Outcome, SyncStatus

SYNC_EXITS: dict[SyncStatus, Exit] = {
    "failed": Exit.FAILED, "rejected": Exit.REJECTED, "unreachable": Exit.UNREACHABLE, "undecided": Exit.UNDECIDED,
}  # fmt: skip
COMMAND_ERROR_EXITS = {"failed": Exit.FAILED, "invalid": Exit.USAGE}  # all other kinds: REJECTED
PUBLISH_ERROR_EXITS = {
    "failed": Exit.FAILED, "settings": Exit.USAGE, "rejected": Exit.REJECTED, "unreachable": Exit.UNREACHABLE,
}  # fmt: skip


class Backends(Protocol):
    """How a command gets its reader or operator (see `operators`)."""

    def reader(self, settings: CommonSettings, words: Words) -> AbstractContextManager[Reader]: ...

    def operator(
        self, settings: CommonSettings, words: Words, *, creates: bool = False
    ) -> AbstractContextManager[Operator]: ...


@dataclass(frozen=True, slots=True)
class _RealBackends:
    reader: Callable[..., AbstractContextManager[Reader]] = reader
    operator: Callable[..., AbstractContextManager[Operator]] = operator


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command line."""

    arguments: argparse.Namespace
    screen: Screen
    backends: Backends

    @property
    def words(self) -> Words:
        return self.screen.words

    def reader(self) -> AbstractContextManager[Reader]:
        return self.backends.reader(read_settings(CommonSettings), self.words)

    def operator(self, *, creates: bool = False) -> AbstractContextManager[Operator]:
        return self.backends.operator(read_settings(CommonSettings), self.words, creates=creates)

    def show(self, result: BaseModel, show_text: Callable[[], None]) -> Exit:
        """Write `result` as JSON, or call `show_text` if the output is for people."""
        if self.screen.as_json:
            self.screen.json(result.model_dump(mode="json"))
        else:
            show_text()
        return Exit.DONE

    def say(self, result: BaseModel, key: str, **facts: object) -> Exit:
        """Write `result` as JSON, or the text of `key` if the output is for people."""
        return self.show(result, lambda: self.screen.say(self.words(key, **facts)))


def main(arguments: Sequence[str] | None = None, backends: Backends | None = None) -> int:
    """Execute a command line; the exit code. An invalid command line ends the process."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    words = Words(language(typed, os.environ))
    parsed = make_parser(words).parse_args(typed)
    screen = Screen(words, as_json=getattr(parsed, "json", False))
    try:
        return COMMANDS[parsed.command](Call(parsed, screen, backends or _RealBackends()))
    except CliError as error:
        return _fail(screen, str(error), error.code)
    except CommandError as error:
        return _fail(screen, str(error), COMMAND_ERROR_EXITS.get(error.kind, Exit.REJECTED))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _fail(screen: Screen, sentence: str, code: Exit) -> Exit:
    screen.fail(sentence, code)
    return code


def _run(_: Call) -> Exit:
    from bunriwiki.telemetry import error_tracking, logs
    from model_sync.settings import SyncSettings
    from model_sync.sidecar import run

    settings = read_settings(SyncSettings)
    logs.configure(settings.logs("sidecar"))
    error_tracking.start(settings.sentry_dsn, "sidecar")
    run(settings)
    return Exit.DONE


def _sync(call: Call) -> Exit:
    arguments, screen = call.arguments, call.screen
    models = list(dict.fromkeys(arguments.models)) or None
    with call.operator(creates=True) as found, screen.sync_progress() as progress:
        outcomes = found.sync(models, force=arguments.force, wait=not arguments.no_wait, progress=progress)
    if outcomes is None:
        return call.say(_Synced(outcomes=None), "sync.requested")
    without_registry = [model for model in models or MODELS if model not in outcomes]
    if without_registry and (models or not outcomes):
        raise CliError(Exit.USAGE, call.words("sync.nothing", models=", ".join(without_registry)))
    call.show(_Synced(outcomes=outcomes), lambda: show_outcomes(screen, outcomes))
    statuses = {outcome.status for outcome in outcomes.values()}
    return next((code for status, code in SYNC_EXITS.items() if status in statuses), Exit.DONE)


class _Synced(BaseModel):
    outcomes: dict[str, Outcome] | None


def _publish(call: Call) -> Exit:
    from model_sync.publishing.publisher import Publisher
    from model_sync.signing import read_key

    arguments = call.arguments
    settings = read_settings(CommonSettings)
    try:
        key = read_key(arguments.sign) if arguments.sign else None
        with call.screen.transfer_progress() as progress:
            publisher = Publisher(settings.s3_uri)
            done = publisher.publish(
                arguments.model, arguments.path, arguments.version, key=key, days=arguments.valid_days, progress=progress
            )
    except PublishError as error:
        raise CliError(PUBLISH_ERROR_EXITS[error.kind], str(error)) from error

    def tell() -> None:
        sentence = "publish.done" if done.announced else "publish.same"
        facts = {"uploaded": len(done.uploaded), "present": len(done.present)}
        call.screen.say(call.words(sentence, uri=done.uri, model=done.model, **facts))
        if done.history:
            call.screen.say(call.words("publish.history", files=len(done.history)))

    return call.show(done, tell)


def _sign(call: Call) -> Exit:
    from model_sync.signing import read_key, sign_path

    arguments = call.arguments
    settings = read_settings(CommonSettings)
    try:
        signed = sign_path(arguments.model, arguments.path, arguments.version, read_key(arguments.key), arguments.valid_days)
        if arguments.mlflow is None:
            return call.show(signed, lambda: call.screen.bare(signed.signature))
        if not settings.mlflow_tracking_uri:
            raise CliError(Exit.USAGE, call.words("sign.no_mlflow"))
        from model_sync.tagging import tag

        name = arguments.mlflow or _registered_model(settings, arguments.model)
        signed = tag(signed, settings.mlflow_tracking_uri, name)
    except PublishError as error:
        raise CliError(PUBLISH_ERROR_EXITS[error.kind], str(error)) from error
    return call.say(signed, "sign.tagged", uri=signed.uri, model=signed.model)


def _registered_model(settings: CommonSettings, model: str) -> str:
    choice = settings.choices.get(model)
    return choice.place if choice and choice.kind == "mlflow" else settings.mlflow_model


def _status(call: Call) -> Exit:
    with call.reader() as found:
        status = found.status()
    return call.show(status, lambda: show_status(call.screen, status))


def _history(call: Call) -> Exit:
    with call.reader() as found:
        events = found.history(call.arguments.model, call.arguments.last)
    if not events and not call.screen.as_json:
        call.screen.say(call.words("history.none"))
        return Exit.DONE
    return call.show(HistoryAnswer(events=events), lambda: show_history(call.screen, events))


def _rollback(call: Call) -> Exit:
    with call.operator() as found:
        done = found.rollback(call.arguments.model, call.arguments.to)
    left, to = shown(done.left, call.words), shown(done.to, call.words)
    sentence = "rollback.from_fallback" if done.left == FALLBACK else "rollback.done"
    return call.say(done, sentence, model=done.model, left=left, to=to, workers=done.workers, seconds=done.seconds)


def _pin(call: Call) -> Exit:
    with call.operator() as found:
        done = found.pin(call.arguments.model, call.arguments.to)
    return call.say(done, "pin.done", model=done.model, version=shown(done.version, call.words))


def _unpin(call: Call) -> Exit:
    with call.operator() as found:
        done = found.unpin(call.arguments.model)
    return call.say(done, "unpin.done", model=done.model)


def _pause(call: Call) -> Exit:
    with call.operator() as found:
        done = found.pause(call.arguments.model)
    return call.say(done, "pause.done", model=done.model, version=done.version)


def _resume(call: Call) -> Exit:
    with call.operator() as found:
        done = found.resume(call.arguments.model)
    return call.say(done, "resume.done" if done.was_paused else "resume.running", model=done.model, version=done.version)


def _promote(call: Call) -> Exit:
    with call.operator() as found:
        done = found.promote(call.arguments.model)
    return call.say(done, "promote.done", model=done.model, version=done.version, workers=done.workers, seconds=done.seconds)


def _abort(call: Call) -> Exit:
    with call.operator() as found:
        done = found.abort(call.arguments.model)
    return call.say(done, "abort.done", model=done.model, version=done.version)


def _cancel(call: Call) -> Exit:
    with call.operator() as found:
        done = found.cancel(call.arguments.model)
    return call.say(done, "cancel.done", model=done.model, version=done.version)


def _quarantine(call: Call) -> Exit:
    return {"list": _list, "add": _add, "release": _release}[call.arguments.quarantine_command](call)


def _list(call: Call) -> Exit:
    with call.reader() as found:
        quarantined = [entry for model in found.status().models for entry in model.quarantined]
    if call.screen.as_json:
        call.screen.json({"quarantined": [entry.model_dump(mode="json") for entry in quarantined]})
    elif quarantined:
        show_quarantine(call.screen, quarantined)
    else:
        call.screen.say(call.words("quarantine.none"))
    return Exit.DONE


def _add(call: Call) -> Exit:
    with call.operator() as found:
        done = found.quarantine(call.arguments.model, call.arguments.version, call.arguments.reason)
    return call.say(done, "quarantine.added", model=done.model, version=done.version)


def _release(call: Call) -> Exit:
    model, version = call.arguments.model, call.arguments.version
    with call.operator() as found:
        found.release(model, version)
    return call.say(_Released(model=model, version=version), "quarantine.released", model=model, version=version)


class _Released(BaseModel):
    model: str
    version: str


def _gc(call: Call) -> Exit:
    with call.operator() as found:
        done = found.gc()
    if not done.removed:
        return call.say(done, "gc.none")
    size = megabytes(sum(removed.size_bytes for removed in done.removed))
    return call.say(done, "gc.done", number=len(done.removed), size=size)


def _rollout(call: Call) -> Exit:
    command = call.arguments.rollout_command
    if command == "run":
        return _run_rollout()
    if command == "status":
        with call.reader() as found:
            status = found.image_rollout_status()
    else:
        with call.operator() as operator:
            status = operator.image_rollout(command)
    return call.show(status, lambda: show_image_rollout(call.screen, status))


def _run_rollout() -> Exit:
    from bunriwiki.telemetry import error_tracking, logs
    from model_sync.rollout_process import run
    from model_sync.settings import SyncSettings

    settings = read_settings(SyncSettings)
    logs.configure(settings.logs("rollout"))
    error_tracking.start(settings.sentry_dsn, "rollout")
    run(settings)
    return Exit.DONE


def _doctor(call: Call) -> Exit:
    from model_sync.cli.doctor import Doctor

    screen, findings = call.screen, []
    for finding in Doctor(call.words).examine():
        findings.append(finding)
        if not screen.as_json:
            screen.say(f"{finding.level:<5}{finding.check}: {finding.message}", STYLES[finding.level])
    if screen.as_json:
        screen.json({"findings": [finding.model_dump(mode="json") for finding in findings]})
    elif all(finding.level == "ok" for finding in findings):
        screen.say(call.words("doctor.healthy"))
    return Exit.FAILED if any(finding.level == "fail" for finding in findings) else Exit.DONE


def _log_level(call: Call) -> Exit:
    layout = Layout(read_settings(CommonSettings).model_store)
    level = None if call.arguments.level == USUAL else call.arguments.level
    try:
        if level is None:
            layout.log_level.unlink(missing_ok=True)
        else:
            write_atomically(layout.log_level, f"{level}\n")
    except OSError as error:
        raise CliError(Exit.FAILED, f"{layout.log_level}: {error.strerror}") from error
    return call.say(_LogLevel(level=level), "log-level.usual" if level is None else "log-level.done", level=level)


class _LogLevel(BaseModel):
    level: str | None


COMMANDS: dict[str, Callable[[Call], Exit]] = {
    "run": _run, "sync": _sync, "publish": _publish, "sign": _sign, "status": _status, "history": _history,
    "rollback": _rollback, "pin": _pin, "unpin": _unpin, "pause": _pause, "resume": _resume, "promote": _promote,
    "abort": _abort, "cancel": _cancel, "quarantine": _quarantine, "gc": _gc, "rollout": _rollout, "doctor": _doctor,
    "log-level": _log_level,
}  # fmt: skip
