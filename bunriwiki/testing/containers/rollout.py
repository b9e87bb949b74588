"""The rollout's process beside a project of Compose, on this machine, with the engine behind the allow-list."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from loguru import logger
from python_on_whales import DockerClient

from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.promotion import promote
from bunriwiki.model_store.writer import open_writer
from bunriwiki.testing.containers.allow_list import allow_list
from bunriwiki.testing.containers.compose import Composed, compose_program
from bunriwiki.testing.containers.engine import Engine
from bunriwiki.testing.paths import ROOT, SERVE_ENV
from bunriwiki.testing.processes import wait_while_running
from bunriwiki.testing.versions import make_version
from model_sync.rollout.state import Rollout, State
from model_sync.rollout_process import REPOSITORY, make_images
from model_sync.settings import SyncSettings

STOP_SECONDS = 20.0
SETTINGS = {
    "BUNRIWIKI_ROLLOUT": "compose",
    "BUNRIWIKI_ROLLOUT_QUIET_SECONDS": "3",
    "BUNRIWIKI_ROLLOUT_READY_SECONDS": "240",
    "BUNRIWIKI_ROLLOUT_OBSERVE_SECONDS": "5",
    "BUNRIWIKI_MONITOR_SECONDS": "0",
}


@dataclass
class RolloutProcess:
    """`python -m model_sync rollout run` for a project, with the store that its replicas mount."""

    layout: Layout
    environment: Mapping[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "model_sync", "rollout", "run"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)
            self.process = None

    def wait(self, number: int, seconds: float) -> Rollout:
        """The rollout `number`, when it is over. Raises WaitTimeoutError with the log."""
        assert self.process is not None

        def over() -> Rollout | None:
            return next((each for each in State.read(self.layout.rollout_state).results if each.number == number), None)

        found = wait_while_running(self.process, over, seconds, lambda: self.log.read_text(errors="replace"), interval=0.5)
        assert found is not None
        logger.info(described(found))
        return found


def forget_images(engine: Engine) -> None:
    """Remove the images that earlier rollouts built in an engine that is kept: some of them are bad ones, under the names that
    the next rollouts will look for."""
    listed = engine.docker("images", "--format={{.Repository}}:{{.Tag}}").split()
    if names := [name for name in listed if name.rpartition(":")[0].rpartition("/")[2] == REPOSITORY]:
        engine.docker("rmi", "--force", *names)


@contextmanager
def rollout_process(composed: Composed, folder: Path, **settings: str) -> Iterator[RolloutProcess]:
    """The process, not started yet. Its client of Docker reaches the engine through Envoy and deploy/rollout/engine.yaml."""
    forget_images(composed.engine)
    [volume] = composed.engine.docker("volume", "inspect", "--format={{.Mountpoint}}", f"{composed.project}_store").split()
    with ExitStack() as stack:
        host = stack.enter_context(allow_list(composed.engine.socket, folder))
        plugins = folder / "docker" / "cli-plugins"
        plugins.mkdir(parents=True)
        shutil.copy(compose_program(), plugins / "docker-compose")
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BUNRIWIKI_", "DOCKER_"))},
            **composed.environment,
            **SETTINGS,
            **settings,
            "BUNRIWIKI_MODEL_STORE": volume,
            "BUNRIWIKI_SERVE_PYTHON": str(SERVE_ENV / "bin" / "python"),
            "BUNRIWIKI_ROLLOUT_PROJECT": composed.project,
            "BUNRIWIKI_ROLLOUT_FOLDER": str(composed.folder),
            "DOCKER_CONFIG": str(plugins.parent),
            "DOCKER_HOST": host,
            "PATH": f"/usr/bin:{os.environ['PATH']}",
        }
        process = RolloutProcess(Layout(Path(volume)), environment, folder / "rollout.log")
        stack.callback(process.kill)
        yield process


class Versions:
    """Publishes versions of sentiment to the store of the replicas, each with a name of its own, in `folder` before."""

    def __init__(self, layout: Layout, folder: Path) -> None:
        self._layout = layout
        self._folder = folder
        self.number = 0

    def publish(self, made: Path | None = None) -> str:
        """Publish the next version, or one that was made, and have it serve; returns its name."""
        version = self.prepare(made)
        self.promote(version)
        return version

    def make(self) -> Path:
        """Write the next version to a folder, which has its name."""
        self.number += 1
        version = f"v{self.number}"
        return make_version("sentiment", version, self.number % 3, self._folder / version)

    def prepare(self, made: Path | None = None) -> str:
        """Publish the next version, or one that was made, which does not serve yet; returns its name."""
        made = made or self.make()
        version = made.name
        with open_writer(self._layout.root, "a test") as writer:
            writer.publish(made, "a test", "poll")
        folder = self._layout.version("sentiment", version)
        for path in (folder.parent.parent, folder.parent, folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return version

    def promote(self, version: str) -> None:
        """A hot swap."""
        with open_writer(self._layout.root, "a test") as writer:
            promote(writer, "sentiment", version, "a test", "poll")

    def roll_back(self, left: str, to: str) -> None:
        """Have `to` serve again, and hold `left`, as the command does."""
        with open_writer(self._layout.root, "a test") as writer:
            writer.change(lambda old: old.hold("sentiment", left))
            promote(writer, "sentiment", to, "a test", "operator")


def build_bad_image(engine: Engine, environment: Mapping[str, str], version: str, bad: str) -> None:
    """Have a rollout with the variables `environment` find a bad image under the name that it would build for a `version` of
    sentiment: that version in a layer on the image `bad`."""
    with mock.patch.dict(os.environ, environment):
        images = make_images(SyncSettings(), DockerClient())
        image = images.name({"sentiment": version})
        images.build(image)
    store = f"FROM {image.name} AS good\nFROM {bad}\nCOPY --from=good /store /store\n"
    engine.docker("build", "--tag", image.name, "-", data=store.encode())


def described(over: Rollout) -> str:
    """How a rollout ended, and how long it took."""
    assert over.ended is not None
    sentence = f"rollout {over.number}: {over.phase} after {(over.ended - over.began).total_seconds():.1f} s"
    return f"{sentence}, {over.cause}, {seconds_to_go_back(over):.1f} s after its detection" if over.cause else sentence


def seconds_to_go_back(back: Rollout) -> float:
    """From the detection of a bad image until all replicas are old ones again."""
    assert back.failed_at is not None
    assert back.ended is not None
    return (back.ended - back.failed_at).total_seconds()
