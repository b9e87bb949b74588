"""Which Python an environment is made with, and what is said where the machine lacks something."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bunriwiki.testing.paths import ROOT

TOOLS = "/usr/bin:/bin"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder on the PATH, with the tools that the scripts use, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("bash", "awk", "cat", "df", "dirname", "realpath", "sha256sum"):
        path = next(path for path in (Path(place) / tool for place in TOOLS.split(":")) if path.exists())
        (folder / tool).symlink_to(path)
    return folder


def executable(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def install(folder: Path, name: str, minor: int, *missing: str) -> str:
    """This interpreter under another name and version, without the modules `missing`."""
    pretend = f"import sys; sys.version_info = (3, {minor}, 0); sys.modules |= dict.fromkeys({missing}); exec(sys.argv[1])"
    executable(folder / name, f"exec {sys.executable} -c '{pretend.replace(chr(39), chr(34))}' \"$2\"")
    return str(folder / name)


def run(folder: Path, *command: str, python: str = "") -> tuple[int, str]:
    """The exit code and the output of a script, with `folder` as PATH."""
    done = subprocess.run(
        ["bash", *command], cwd=ROOT, env={"PATH": str(folder), "PYTHON": python}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout.strip()


def test_the_newest_that_is_supported(folder: Path) -> None:
    for minor in (10, 11, 12, 14):
        install(folder, f"python3.{minor}", minor)
    newest = install(folder, "python3", 13)
    assert run(folder, "scripts/find-python") == (0, newest)


def test_one_that_does_not_run_is_not_there(folder: Path) -> None:
    executable(folder / "python3.13", "echo 'python3.13: command not found' >&2; exit 127")
    older = install(folder, "python3.11", 11)
    assert run(folder, "scripts/find-python") == (0, older)


def test_a_later_folder_of_the_path_has_one_that_runs(folder: Path, tmp_path: Path) -> None:
    executable(folder / "python3.12", "exit 127")
    (tmp_path / "later").mkdir()
    later = install(tmp_path / "later", "python3.12", 12)
    (tmp_path / "later" / "bash").symlink_to("/bin/bash")
    done = subprocess.run(
        ["bash", "scripts/find-python"],
        cwd=ROOT,
        env={"PATH": f"{folder}:{tmp_path / 'later'}"},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert done.stdout.decode().strip() == later


def test_an_older_one_that_can_make_environments(folder: Path) -> None:
    install(folder, "python3.13", 13, "ensurepip")
    older = install(folder, "python3.12", 12)
    assert run(folder, "scripts/find-python") == (0, older)


def test_a_python_of_ones_choice(folder: Path) -> None:
    install(folder, "python3.13", 13)
    chosen = install(folder, "mine", 11)
    assert run(folder, "scripts/find-python", python=chosen) == (0, chosen)
    assert run(folder, "scripts/find-python", python="python3.9") == (
        1,
        "PYTHON=python3.9 is no Python 3.11, 3.12 or 3.13 that runs here.",
    )


def test_no_python(folder: Path) -> None:
    sentence = "Python 3.11, 3.12 or 3.13 is required, and none is on the PATH: install one, or set PYTHON to one."
    assert run(folder, "scripts/find-python") == (1, sentence)


def test_a_python_without_ensurepip(folder: Path) -> None:
    python = install(folder, "python3", 12, "ensurepip")
    sentence = (
        f"{python} lacks ensurepip: install it (Debian, Ubuntu: apt install python3.12-venv), or set PYTHON to another Python."
    )
    assert run(folder, "scripts/find-python") == (1, sentence)


def test_nothing_is_made_without_python(folder: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    code, said = run(folder, "scripts/make-env", str(environment), "serve")
    assert (code, said.count("\n")) == (1, 0)
    assert said.startswith("Python 3.11, 3.12 or 3.13 is required")
    assert not environment.exists()


def test_nothing_is_made_without_room(folder: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    install(folder, "python3", 12)
    (folder / "df").unlink()
    executable(folder / "df", "echo Filesystem 1M-blocks Used Available; echo disk 9000 8200 800")
    assert run(folder, "scripts/make-env", str(environment), "serve") == (
        1, f"{environment} needs 1000 MB of disk, and 800 MB are free in {os.path.realpath(tmp_path)}: make room first."
    )  # fmt: skip
    assert not environment.exists()


def test_an_environment_is_made_once(folder: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    made_from = subprocess.run(["sha256sum", "requirements/serve.txt"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    (environment / ".made-from").write_bytes(made_from)
    assert run(folder, "scripts/make-env", str(environment), "serve") == (0, "")

    (environment / "bin" / "python").unlink()  # the system's Python was replaced
    code, said = run(folder, "scripts/make-env", str(environment), "serve")
    assert (code, said.startswith("Python 3.11, 3.12 or 3.13 is required")) == (1, True)
