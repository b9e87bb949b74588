"""The rollout's process: connects the settings with the target, the images and the controller."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from loguru import logger
from python_on_whales import DockerClient

from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.lock import StoreLockedError, writer_lock
from model_sync.rollout.builder import BentoImages, Recipe
from model_sync.rollout.comparison import Limits
from model_sync.rollout.compose import ComposeTarget, Project
from model_sync.rollout.controller import Choices, Controller
from model_sync.rollout.engine import docker_client
from model_sync.rollout.health import HealthMonitor, Times
from model_sync.rollout.process import keep_stepping, tidy
from model_sync.rollout.replica_client import ReplicaClient
from model_sync.rollout.state import StateError
from model_sync.rollout.swarm import Stack, SwarmTarget
from model_sync.rollout.target import Target
from model_sync.settings import ROOT, SyncSettings

DOCKERFILE = ROOT / "deploy" / "rollout" / "Dockerfile"
REPOSITORY = "bunriwiki-versions"


def run(settings: SyncSettings) -> None:
    """Roll out what serves until SIGTERM or SIGINT. Exits with a message if it cannot start."""
    if settings.rollout == "none":
        sys.exit("BUNRIWIKI_ROLLOUT is `none`: set it to `compose` or `swarm` (docs/rollout.md)")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    layout = Layout(settings.model_store)
    try:
        layout.rollout.mkdir(parents=True, exist_ok=True)
        with writer_lock(layout.rollout / "lock", "rollout"):
            tidy(layout)
            logger.info("rolling out to {} ({})", settings.rollout_project, settings.rollout)
            keep_stepping(make_controller(settings, docker_client()), stopping)
    except (StoreLockedError, StateError, OSError) as error:
        sys.exit(f"The rollout cannot start: {error}")


def make_images(settings: SyncSettings, docker: DockerClient) -> BentoImages:
    """The images of the settings, in the engine of `docker`."""
    # The Dockerfile has nothing but FROM and COPY. Without BuildKit, a build is one request, which a proxy can let through.
    os.environ["DOCKER_BUILDKIT"] = "0"
    layout = Layout(settings.model_store)
    registry = settings.rollout_registry.rstrip("/")
    recipe = Recipe(
        base=settings.rollout_base,
        repository=f"{registry}/{REPOSITORY}" if registry else REPOSITORY,
        pushes=bool(registry),
        root=ROOT,
        dockerfile=DOCKERFILE,
        home=layout.rollout / "bentoml",
        python=settings.serve_python,
    )
    return BentoImages(docker, layout, recipe)


def make_controller(settings: SyncSettings, docker: DockerClient) -> Controller:
    """The controller of the settings, with the engine of `docker`. Raises StateError, OSError."""
    layout, images = Layout(settings.model_store), make_images(settings, docker)
    health = HealthMonitor(
        ReplicaClient(layout, settings.models, not_compared={"yolo"} if settings.yolo_size else set()),
        Times(settings.rollout_ready_seconds, settings.rollout_observe_seconds),
        Limits(settings.monitor_requests, settings.monitor_error_points, settings.monitor_latency_ratio),
        time.monotonic,
    )
    settle_seconds = max(settings.monitor_seconds, settings.rollout_quiet_seconds)
    choices = Choices(settle_seconds, is_manual=settings.rollout_approval == "manual")
    return Controller(layout, _target(settings, docker, layout), images, health, choices, name=images.name)


def _target(settings: SyncSettings, docker: DockerClient, layout: Layout) -> Target:
    """The target of the settings. A new kind of target is a file in model_sync/rollout/, and an entry here."""
    if settings.rollout == "swarm":
        return SwarmTarget(docker, Stack(settings.rollout_project))
    folder = settings.rollout_folder or ROOT
    files = [folder / name.strip() for name in settings.rollout_files.split(",")]
    memory = f"{settings.rollout_trial_memory_mb}m"
    return ComposeTarget(docker, Project(settings.rollout_project, folder, files, memory=memory), layout.rollout / "compose")
