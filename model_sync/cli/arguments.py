"""The arguments. argparse's own texts are replaced, so that the help is in one language."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from bunriwiki.artifacts.manifest import MODELS
from bunriwiki.settings import LOG_LEVELS
from model_sync.admin.image_rollout_commands import COMMANDS
from model_sync.admin.status import SHOWN
from model_sync.cli.exits import Exit
from model_sync.cli.words import LANGUAGES, Words
from model_sync.envelope import DEFAULT_DAYS

PROGRAM = "python -m model_sync"
USUAL = "usual"  # the log level that the setting names


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the line breaks of the exit codes, and translates `usage`."""

    def __init__(self, words: Words, prog: str) -> None:
        super().__init__(prog)
        self._words = words

    def add_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Iterable[Any], prefix: str | None = None
    ) -> None:
        super().add_usage(usage, actions, groups, self._words("help.usage") if prefix is None else prefix)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        fill = argparse.HelpFormatter._fill_text
        return super()._fill_text(text, width, indent) if "\n" in text else fill(self, text, width, indent)


class _Parser(argparse.ArgumentParser):
    def __init__(self, words: Words, **options: Any) -> None:
        super().__init__(add_help=False, allow_abbrev=False, formatter_class=partial(_Formatter, words), **options)
        self._words = words
        self._positionals.title = words("help.positionals")
        self._optionals.title = words("help.options")
        self.add_argument("-h", "--help", action="help", help=words("help.help"))
        # Allowed before and after the command; SUPPRESS keeps the first value if it is missing after the command.
        self.add_argument("--lang", choices=LANGUAGES, default=argparse.SUPPRESS, help=words("help.lang"))

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(Exit.USAGE, f"{self.prog}: {self._words('help.wrong', message=message)}\n")


def make_parser(words: Words) -> argparse.ArgumentParser:
    """The parser of the command line; an invalid command line ends the process with exit code 2."""
    parser = _Parser(words, prog=PROGRAM, description=words("help.about"), epilog=words("help.exits"))
    commands = _commands(parser, words, "command")

    def command(name: str, into: Any = commands, prefix: str = "") -> argparse.ArgumentParser:
        text = words(f"{prefix}{name}.help")
        made: argparse.ArgumentParser = into.add_parser(name, words=words, help=text, description=text)
        return made

    command("run")
    sync = _with_json(command("sync"), words)
    sync.add_argument("models", nargs="*", metavar="MODEL", type=_model(words), help=words("help.model"))
    sync.add_argument("--force", action="store_true", help=words("sync.force"))
    sync.add_argument("--no-wait", action="store_true", help=words("sync.no_wait"))
    publish = _with_json(_with_model(command("publish"), words), words)
    publish.add_argument("path", metavar="PATH", type=Path, help=words("publish.path"))
    publish.add_argument("--version", required=True, metavar="V", help=words("publish.version"))
    publish.add_argument("--sign", metavar="KEY.pem", type=Path, help=words("publish.sign"))
    publish.add_argument("--valid-days", metavar="N", type=_count, default=DEFAULT_DAYS, help=words("sign.valid_days"))
    sign = _with_json(_with_model(command("sign"), words), words)
    sign.add_argument("path", metavar="PATH", type=Path, help=words("sign.path"))
    sign.add_argument("--version", required=True, metavar="V", help=words("sign.version"))
    sign.add_argument("--key", required=True, metavar="KEY.pem", type=Path, help=words("sign.key"))
    sign.add_argument("--valid-days", metavar="N", type=_count, default=DEFAULT_DAYS, help=words("sign.valid_days"))
    sign.add_argument("--mlflow", nargs="?", const="", metavar="NAME", help=words("sign.mlflow"))
    _with_json(command("status"), words)
    history = _with_json(command("history"), words)
    history.add_argument("model", nargs="?", metavar="MODEL", type=_model(words), help=words("help.model"))
    history.add_argument("--last", metavar="N", type=_count, default=SHOWN, help=words("history.last"))
    for name in ("rollback", "pin"):
        parsed = _with_json(_with_model(command(name), words), words)
        parsed.add_argument("--to", metavar="V", help=words(f"{name}.to"))
    for name in ("unpin", "pause", "resume", "promote", "abort", "cancel"):
        _with_json(_with_model(command(name), words), words)
    quarantine = _commands(command("quarantine"), words, "quarantine_command")
    _with_json(command("list", quarantine, "quarantine."), words)
    for name in ("add", "release"):
        parsed = _with_json(_with_model(command(name, quarantine, "quarantine."), words), words)
        parsed.add_argument("version", metavar="V", help=words("help.version"))
        if name == "add":
            parsed.add_argument("--reason", required=True, metavar="TEXT", help=words("quarantine.add.reason"))
    _with_json(command("gc"), words)
    rollout = _commands(command("rollout"), words, "rollout_command")
    command("run", rollout, "rollout.")
    for name in ("status", *COMMANDS):
        _with_json(command(name, rollout, "rollout."), words)
    _with_json(command("doctor"), words)
    log_level = _with_json(command("log-level"), words)
    log_level.add_argument("level", metavar="LEVEL", choices=(*LOG_LEVELS, USUAL), help=words("log-level.level"))
    return parser


def _commands(parser: argparse.ArgumentParser, words: Words, name: str) -> Any:
    return parser.add_subparsers(dest=name, required=True, metavar="COMMAND", title=words("help.commands"))


def _with_json(parser: argparse.ArgumentParser, words: Words) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help=words("help.json"))
    return parser


def _with_model(parser: argparse.ArgumentParser, words: Words) -> argparse.ArgumentParser:
    parser.add_argument("model", metavar="MODEL", type=_model(words), help=words("help.model"))
    return parser


def _model(words: Words) -> Any:
    """An argparse type: `choices` would list all names instead of MODEL, and reject an empty list."""

    def model(text: str) -> str:
        if text not in MODELS:
            raise argparse.ArgumentTypeError(f"{text!r}: {words('help.model')}")
        return text

    return model


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 10_000:
        raise argparse.ArgumentTypeError("1..10000")
    return number
