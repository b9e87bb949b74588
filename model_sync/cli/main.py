"""From what was typed to an exit code.

A command imports what it alone needs: who rolls back should not wait for the libraries of S3.
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
from model_sync.api.routes import HistoryAnswer
from model_sync.cli.arguments import make_parser
from model_sync.cli.exits import CliError, Exit
from model_sync.cli.operators import Operator, Reader, operator, reader
from model_sync.cli.screen import STYLES, Screen, megabytes
from model_sync.cli.settings import CliSettings, read_settings
from model_sync.cli.show import show_history, show_outcomes, show_quarantine, show_status
from model_sync.cli.words import Words, language
from model_sync.errors import CommandError
from model_sync.syncing.requests import Outcome, Verdict

EXIT_CODES: dict[Verdict, Exit] = {"failed": Exit.FAILED, "rejected": Exit.REJECTED, "unreachable": Exit.UNREACHABLE}
REJECTIONS = {"failed": Exit.FAILED, "invalid": Exit.USAGE}  # by the kind of a command's rejection
PUBLISHING = {
    "failed": Exit.FAILED, "settings": Exit.USAGE, "rejected": Exit.REJECTED, "unreachable": Exit.UNREACHABLE,
}  # fmt: skip


class Reach(Protocol):
    """How a command comes to whoever carries it out (see `operators`)."""

    def reader(self, settings: CliSettings, words: Words) -> AbstractContextManager[Reader]: ...

    def operator(self, settings: CliSettings, words: Words, *, creates: bool = False) -> AbstractContextManager[Operator]: ...


@dataclass(frozen=True, slots=True)
class _RealReach:
    reader: Callable[..., AbstractContextManager[Reader]] = reader
    operator: Callable[..., AbstractContextManager[Operator]] = operator


@dataclass(frozen=True, slots=True)
class Call:
    """One command, as it was typed."""

    given: argparse.Namespace
    screen: Screen
    reach: Reach

    @property
    def words(self) -> Words:
        return self.screen.words

    def reader(self) -> AbstractContextManager[Reader]:
        return self.reach.reader(read_settings(CliSettings), self.words)

    def operator(self, *, creates: bool = False) -> AbstractContextManager[Operator]:
        return self.reach.operator(read_settings(CliSettings), self.words, creates=creates)

    def show(self, what: BaseModel, people: Callable[[], None]) -> Exit:
        """`what` for programs, or what `people` shows."""
        if self.screen.as_json:
            self.screen.json(what.model_dump(mode="json"))
        else:
            people()
        return Exit.DONE

    def say(self, what: BaseModel, key: str, **facts: object) -> Exit:
        """`what` for programs, or a sentence."""
        return self.show(what, lambda: self.screen.say(self.words(key, **facts)))


def main(arguments: Sequence[str] | None = None, reach: Reach | None = None) -> int:
    """Carry out what was typed; the exit code. A wrong command line ends the process."""
    typed = sys.argv[1:] if arguments is None else list(arguments)
    words = Words(language(typed, os.environ))
    given = make_parser(words).parse_args(typed)
    screen = Screen(words, as_json=getattr(given, "json", False))
    try:
        return COMMANDS[given.command](Call(given, screen, reach or _RealReach()))
    except CliError as error:
        return _fail(screen, str(error), error.code)
    except CommandError as error:
        return _fail(screen, str(error), REJECTIONS.get(error.kind, Exit.REJECTED))
    except KeyboardInterrupt:
        return Exit.INTERRUPTED


def _fail(screen: Screen, sentence: str, code: Exit) -> Exit:
    screen.fail(sentence, code)
    return code


def _run(_: Call) -> Exit:
    from bunriwiki.telemetry import logs
    from model_sync.settings import SyncSettings
    from model_sync.sidecar import run

    settings = read_settings(SyncSettings)
    logs.configure(settings.log_level)
    run(settings)
    return Exit.DONE


def _sync(call: Call) -> Exit:
    given, screen = call.given, call.screen
    models = list(dict.fromkeys(given.models)) or None
    with call.operator(creates=True) as found, screen.syncs_done() as tell:
        outcomes = found.sync(models, force=given.force, wait=not given.no_wait, tell=tell)
    if outcomes is None:
        return call.say(_Synced(outcomes=None), "sync.asked")
    left_out = [model for model in models or MODELS if model not in outcomes]
    if left_out and (models or not outcomes):
        raise CliError(Exit.USAGE, call.words("sync.nothing", models=", ".join(left_out)))
    call.show(_Synced(outcomes=outcomes), lambda: show_outcomes(screen, outcomes))
    statuses = {one.status for one in outcomes.values()}
    return next((code for status, code in EXIT_CODES.items() if status in statuses), Exit.DONE)


class _Synced(BaseModel):
    outcomes: dict[str, Outcome] | None


def _publish(call: Call) -> Exit:
    from model_sync.publishing import Publisher, PublishError, read_key

    given = call.given
    settings = read_settings(CliSettings)
    try:
        key = read_key(given.sign) if given.sign else None
        with call.screen.bytes_done() as progress:
            done = Publisher(settings.s3_uri).publish(given.model, given.path, given.version, key=key, progress=progress)
    except PublishError as error:
        raise CliError(PUBLISHING[error.kind], str(error)) from error
    sentence = "publish.done" if done.announced else "publish.same"
    return call.say(done, sentence, uri=done.uri, model=done.model, uploaded=len(done.uploaded), present=len(done.present))


def _sign(call: Call) -> Exit:
    from model_sync.publishing import PublishError, read_key
    from model_sync.signing import sign_path

    given = call.given
    settings = read_settings(CliSettings)
    try:
        signed = sign_path(given.model, given.path, given.version, read_key(given.key))
        if given.mlflow is None:
            return call.show(signed, lambda: call.screen.bare(signed.signature))
        if not settings.mlflow_tracking_uri:
            raise CliError(Exit.USAGE, call.words("sign.no_mlflow"))
        from model_sync.tagging import tag

        signed = tag(signed, settings.mlflow_tracking_uri, given.mlflow or _registered_model(settings, given.model))
    except PublishError as error:
        raise CliError(PUBLISHING[error.kind], str(error)) from error
    return call.say(signed, "sign.tagged", uri=signed.uri, model=signed.model)


def _registered_model(settings: CliSettings, model: str) -> str:
    choice = settings.choices.get(model)
    return choice.place if choice and choice.kind == "mlflow" else settings.mlflow_model


def _status(call: Call) -> Exit:
    with call.reader() as found:
        status = found.status()
    return call.show(status, lambda: show_status(call.screen, status))


def _history(call: Call) -> Exit:
    with call.reader() as found:
        events = found.history(call.given.model, call.given.last)
    if not events and not call.screen.as_json:
        call.screen.say(call.words("history.none"))
        return Exit.DONE
    return call.show(HistoryAnswer(events=events), lambda: show_history(call.screen, events))


def _rollback(call: Call) -> Exit:
    with call.operator() as found:
        done = found.rollback(call.given.model, call.given.to)
    return call.say(
        done, "rollback.done", model=done.model, left=done.left, to=done.to, workers=done.workers, seconds=done.seconds
    )


def _pin(call: Call) -> Exit:
    with call.operator() as found:
        done = found.pin(call.given.model, call.given.to)
    return call.say(done, "pin.done", model=done.model, version=done.version or call.words("status.fallback"))


def _unpin(call: Call) -> Exit:
    with call.operator() as found:
        done = found.unpin(call.given.model)
    return call.say(done, "unpin.done", model=done.model)


def _quarantine(call: Call) -> Exit:
    return {"list": _list, "add": _add, "release": _release}[call.given.quarantine_command](call)


def _list(call: Call) -> Exit:
    with call.reader() as found:
        quarantined = [one for model in found.status().models for one in model.quarantined]
    if call.screen.as_json:
        call.screen.json({"quarantined": [one.model_dump(mode="json") for one in quarantined]})
    elif quarantined:
        show_quarantine(call.screen, quarantined)
    else:
        call.screen.say(call.words("quarantine.none"))
    return Exit.DONE


def _add(call: Call) -> Exit:
    with call.operator() as found:
        done = found.quarantine(call.given.model, call.given.version, call.given.reason)
    return call.say(done, "quarantine.added", model=done.model, version=done.version)


def _release(call: Call) -> Exit:
    model, version = call.given.model, call.given.version
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
    size = megabytes(sum(one.bytes for one in done.removed))
    return call.say(done, "gc.done", number=len(done.removed), size=size)


def _doctor(call: Call) -> Exit:
    from model_sync.cli.doctor import Doctor

    screen, found = call.screen, []
    for finding in Doctor(call.words).examine():
        found.append(finding)
        if not screen.as_json:
            screen.say(f"{finding.level:<5}{finding.check}: {finding.says}", STYLES[finding.level])
    if screen.as_json:
        screen.json({"findings": [one.model_dump(mode="json") for one in found]})
    elif all(one.level == "ok" for one in found):
        screen.say(call.words("doctor.sound"))
    return Exit.FAILED if any(one.level == "fail" for one in found) else Exit.DONE


COMMANDS: dict[str, Callable[[Call], Exit]] = {
    "run": _run, "sync": _sync, "publish": _publish, "sign": _sign, "status": _status, "history": _history,
    "rollback": _rollback, "pin": _pin, "unpin": _unpin, "quarantine": _quarantine, "gc": _gc, "doctor": _doctor,
}  # fmt: skip
