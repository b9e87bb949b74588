"""Builds images of the service: a Bento with the serving versions, in one layer on the service's own image.

The base image has the code, the packages and the fallback versions. The layer is a model store at the place where the service
looks for one, with the serving versions and a generation file that names them. Where the real store is mounted, it hides that
of the image, so versions still change without a restart; without a mount, the image serves what it contains.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml
from python_on_whales import DockerClient
from python_on_whales.exceptions import DockerException, NoSuchImage

from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest
from bunriwiki.model_store.files import write_atomically
from bunriwiki.model_store.generation import Generations, ModelGeneration, Target
from bunriwiki.model_store.layout import Layout
from model_sync.rollout.contents import tag_of
from model_sync.rollout.state import Image
from model_sync.rollout.target import TargetError

VERSIONS_LABEL = "bunriwiki.versions"
CODE = ("service.py", "bunriwiki", "runners")  # of the Bento
BENTO = "bunriwiki"  # its name, as service.py has it
BUILD_SECONDS = 600.0
KEPT = 3  # images besides those that are named
SINCE = datetime(2000, 1, 1, tzinfo=UTC)  # in an image, so that its layer depends on the versions alone


@dataclass(frozen=True, slots=True)
class Recipe:
    """What images are made of.

    `base` names the service's own image, `repository` the images made here, `pushes` whether they are pushed. `root` is the
    folder of the code, `dockerfile` that of a Bento, `home` the BENTOML_HOME of the Bentos, and `python` an interpreter that
    has BentoML.
    """

    base: str
    repository: str
    pushes: bool
    root: Path
    dockerfile: Path
    home: Path
    python: Path


class BentoImages:
    """The images, in the engine of `docker`, with the versions of the store at `layout`."""

    def __init__(self, docker: DockerClient, layout: Layout, recipe: Recipe) -> None:
        self._docker = docker
        self._layout = layout
        self._recipe = recipe

    def name(self, versions: Mapping[str, str]) -> Image:
        """The image with these versions, which need not exist yet; without versions, the base. Raises TargetError, OSError."""
        if not versions:
            return Image(name=self.keep(self._recipe.base, self._identity(self._recipe.base)))
        tag = tag_of(self._identity(self._recipe.base), versions, self._layout)
        return Image(name=f"{self._recipe.repository}:{tag}", versions=dict(versions))

    def exists(self, name: str) -> bool:
        return self._has(name) and (not self._recipe.pushes or self._pushed(name).exists())

    def build(self, image: Image) -> None:
        if not self._has(image.name):
            bento = self._bento(image)
            try:
                self._docker.image.legacy_build(
                    bento,
                    file=bento / "env" / "docker" / "Dockerfile.template",
                    build_args={"BASE": self._recipe.base},
                    labels={VERSIONS_LABEL: " ".join(f"{model}={version}" for model, version in image.versions.items())},
                    tags=image.name,
                )
            except DockerException as error:
                raise _failed("the image was not built", error) from error
        if self._recipe.pushes and not self._pushed(image.name).exists():
            try:
                self._docker.image.push(image.name, quiet=True)
            except DockerException as error:
                raise _failed(f"{image.name} was not pushed", error) from error
            self._pushed(image.name).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._pushed(image.name), "")

    def keep(self, name: str, identity: str) -> str:
        if name == identity or name.startswith(f"{self._recipe.repository}:"):
            return name
        kept = f"{self._recipe.repository}:kept-{identity.removeprefix('sha256:')[:12]}"
        try:
            self._docker.image.tag(identity, kept)
        except DockerException as error:
            raise _failed(f"{name} was not tagged", error) from error
        return kept

    def prune(self, kept: Sequence[str]) -> list[str]:
        try:
            images = sorted(self._docker.image.list(self._recipe.repository), key=lambda image: image.created, reverse=True)
        except DockerException as error:
            raise _failed("the images were not listed", error) from error
        tags = [tag for image in images for tag in image.repo_tags if tag.startswith(f"{self._recipe.repository}:")]
        removable = [tag for tag in tags if tag not in kept][KEPT:]
        removed = []
        for tag in removable:
            try:
                self._docker.image.remove(tag)
            except DockerException:  # a container uses it
                continue
            self._pushed(tag).unlink(missing_ok=True)
            removed.append(tag)
        self._prune_bentos({tag.rpartition(":")[2] for tag in tags if tag not in removed})
        return removed

    def _prune_bentos(self, tags: set[str]) -> None:
        bentos = self._recipe.home / "bentos" / BENTO
        for folder in bentos.glob("*/"):
            if folder.name not in tags:
                shutil.rmtree(folder, ignore_errors=True)

    def _bento(self, image: Image) -> Path:
        """The folder of the Bento with the versions of `image`, which is made unless it exists. Raises TargetError."""
        tag = image.name.rpartition(":")[2]
        bento = self._recipe.home / "bentos" / BENTO / tag
        if (bento / "bento.yaml").exists():
            return bento
        staged = self._recipe.home / "staged"
        shutil.rmtree(staged, ignore_errors=True)
        try:
            self._stage(staged, image)
            self._run_bentoml(staged, tag)
            store = Layout(bento / "src" / "store")
            for model, version in image.versions.items():
                Manifest.read(store.version(model, version)).verify(store.version(model, version))
        except (DamagedArtifactError, OSError) as error:
            raise TargetError(f"the Bento was not built: {error}") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        return bento

    def _stage(self, staged: Path, image: Image) -> None:
        """The context of `bentoml build` in the folder `staged`: the code, and a store with exactly the versions."""
        store = Layout(staged / "store")
        for model, version in image.versions.items():
            folder = store.version(model, version)
            shutil.copytree(self._layout.version(model, version), folder)
            Manifest.read(folder).verify(folder)  # the copy, which is what will serve
        entries = {
            model: ModelGeneration(generation=1, serving=Target(version=version, since=SINCE, source="the image", by="start"))
            for model, version in image.versions.items()
        }
        Generations(models=entries).write(store.generation)
        for name in CODE:
            place = self._recipe.root / name
            if place.is_dir():
                shutil.copytree(place, staged / name, ignore=shutil.ignore_patterns("__pycache__", "testing"))
            else:
                shutil.copy(place, staged / name)
        shutil.copy(self._recipe.dockerfile, staged / "Dockerfile")
        for path in staged.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        description = {
            "service": "service:Bunriwiki",
            "labels": {"project": "bunriwiki", **{f"version-{model}": version for model, version in image.versions.items()}},
            "include": ["service.py", "bunriwiki/**", "runners/**", "store/**"],
            "python": {"lock_packages": False},  # packages are those of the base image
            "docker": {"dockerfile_template": "Dockerfile"},
        }
        (staged / "bentofile.yaml").write_text(yaml.safe_dump(description), encoding="utf-8")

    def _run_bentoml(self, staged: Path, tag: str) -> None:
        command: list[str | Path] = [self._recipe.python, "-m", "bentoml", "build", "--version", tag, "--output", "tag", staged]
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self._recipe.home),
            "BENTOML_HOME": str(self._recipe.home),
            "BENTOML_DO_NOT_TRACK": "true",
            "BUNRIWIKI_MODELS": str(self._recipe.root / "models"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        try:
            done = subprocess.run(  # noqa: S603 (a list of arguments, without a shell)
                command, cwd=staged, env=environment, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise TargetError(f"`bentoml build` did not end in {BUILD_SECONDS:g} s") from error
        if done.returncode != 0:
            raise TargetError(f"`bentoml build` failed: {done.stderr.strip()[-500:]}")

    def _identity(self, name: str) -> str:
        try:
            return str(self._docker.image.inspect(name).id)
        except DockerException as error:
            raise _failed(f"the engine does not have the image {name}", error) from error

    def _has(self, name: str) -> bool:
        try:
            self._docker.image.inspect(name)
        except NoSuchImage:
            return False
        except DockerException as error:
            raise _failed(f"{name} was not looked up", error) from error
        return True

    def _pushed(self, name: str) -> Path:
        """Exists if the image was pushed."""
        return self._recipe.home / "pushed" / name.rpartition(":")[2]


def _failed(what: str, error: DockerException) -> TargetError:
    return TargetError(f"{what}: {(error.stderr or '').strip()[-500:]}")
