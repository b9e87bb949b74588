from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bunriwiki import runner_launch
from bunriwiki.sandbox.support import missing
from bunriwiki.settings import Settings
from bunriwiki.testing.paths import ROOT

SECRETS = {
    "BUNRIWIKI_ADMIN_TOKEN": "a", "BUNRIWIKI_WEBHOOK_SECRET": "b", "BUNRIWIKI_GRPC_KEY": "c", "MLFLOW_TRACKING_URI": "d",
    "MLFLOW_TRACKING_PASSWORD": "e", "AWS_SECRET_ACCESS_KEY": "f", "SOMETHING_NEW": "g",
    "BUNRIWIKI_FEEDBACK_KEY": "h", "BUNRIWIKI_FEEDBACK_TOKEN": "i", "BUNRIWIKI_SAMPLES": "j",
    "BENTOML_API_KEY": "i", "BUNRIWIKI_SOMETHING_NEW": "h",
}  # fmt: skip


def test_the_environment_is_an_allow_list(tmp_path: Path) -> None:
    needed = {"PATH": "/bin", "BUNRIWIKI_MODEL_STORE": "/store", "BUNRIWIKI_DEADLINE_SECONDS": "5", "BENTOML_RUNNER_MAP": "{}"}
    made = runner_launch.environment({**needed, **SECRETS}, tmp_path)
    assert needed.items() <= made.items()
    assert not SECRETS.keys() & made.keys()
    assert made["TMPDIR"] == str(tmp_path)


def test_every_setting_on_the_allow_list_exists() -> None:
    assert set(runner_launch.SETTINGS) <= Settings.model_fields.keys()


def test_the_launcher_is_found_in_any_folder(tmp_path: Path) -> None:
    assert runner_launch.environment({}, tmp_path)["PYTHONPATH"] == str(ROOT)
    assert runner_launch.environment({"PYTHONPATH": "/more"}, tmp_path)["PYTHONPATH"] == f"{ROOT}:/more"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "store" / "run").mkdir(parents=True)
    return Settings(model_store=tmp_path / "store")


def test_a_worker_may_write_only_its_heartbeat_and_its_own_folders(tmp_path: Path, settings: Settings) -> None:
    made = runner_launch.policy("sentiment", settings, sockets=tmp_path, writable=[tmp_path])
    assert set(made.writable) == {str(tmp_path / "store" / "run"), str(tmp_path)}
    assert {str(tmp_path / "store"), str(settings.models), str(ROOT / "runners")} <= set(made.readable)
    assert made.listen == f"{tmp_path}/{{pid}}.sock"
    assert made.devices == ()


def test_a_worker_may_write_its_own_log_and_no_other(tmp_path: Path, settings: Settings) -> None:
    logging = settings.model_copy(update={"log_folder": tmp_path / "logs"})
    made = runner_launch.policy("sentiment", logging, sockets=tmp_path, writable=[])
    assert str(tmp_path / "logs" / "sentiment") in made.writable
    assert str(tmp_path / "logs") not in {*made.readable, *made.writable}


ATTACK = """
import sys
from pathlib import Path
logs = Path(sys.argv[1])
(logs / "sentiment" / "logfile.log").write_text("mine")
for path in (logs / "logfile.log", logs / "yolo" / "logfile.log"):
    for attempt in (path.read_text, lambda: path.open("a"), path.unlink, lambda: path.rename(logs / "sentiment" / "taken")):
        try:
            attempt()
        except OSError:
            continue
        sys.exit(f"{path}: {attempt}")
"""


@pytest.mark.skipif(bool(missing()), reason="; ".join(missing()))
def test_third_party_code_reaches_no_log_but_its_own(tmp_path: Path, settings: Settings) -> None:
    logs = tmp_path / "logs"
    (logs / "yolo").mkdir(parents=True)
    for path in (logs / "logfile.log", logs / "yolo" / "logfile.log"):
        path.write_text("of others")
    logging = settings.model_copy(update={"log_folder": logs})
    made = replace(runner_launch.policy("sentiment", logging, sockets=tmp_path / "sockets", writable=[]), listen=None)
    launch = [sys.executable, "-m", "bunriwiki.sandbox", made.to_json(), sys.executable, "-c", ATTACK, str(logs)]
    done = subprocess.run(launch, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert (logs / "sentiment" / "logfile.log").read_text() == "mine"
    assert [(logs / name / "logfile.log").read_text() for name in ("", "yolo")] == ["of others"] * 2


def test_a_missing_store_is_not_writable(tmp_path: Path) -> None:
    made = runner_launch.policy("yolo", Settings(model_store=tmp_path / "nowhere"), sockets=tmp_path, writable=[])
    assert made.writable == (str(tmp_path),)


def test_hidden_files_of_a_clone_are_not_readable(tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    code = tmp_path / "src"
    code.mkdir()
    for name in (".env", "service.py"):
        (code / name).touch()
    monkeypatch.setattr(runner_launch, "CODE", code)
    readable = runner_launch.policy("yolo", settings, sockets=tmp_path, writable=[]).readable
    assert str(code / "service.py") in readable
    assert not {str(code / ".env"), str(code), str(tmp_path)} & set(readable)
    (tmp_path / "bento.yaml").touch()
    assert str(tmp_path) in runner_launch.policy("yolo", settings, sockets=tmp_path, writable=[]).readable


def test_the_interpreter_and_its_environment_are_readable(tmp_path: Path, settings: Settings) -> None:
    readable = runner_launch.policy("yolo", settings, sockets=tmp_path, writable=[]).readable
    assert {sys.prefix, sys.base_prefix} <= {str(Path(path).resolve()) for path in readable} | set(readable)
