from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from python_on_whales import DockerClient

from bunriwiki.artifacts.manifest import Manifest
from bunriwiki.model_store.generation import Generations
from bunriwiki.model_store.layout import Layout
from bunriwiki.testing.paths import ROOT
from bunriwiki.testing.tiny import tiny
from model_sync.rollout.builder import KEPT, BentoImages, Recipe
from model_sync.rollout.target import TargetError
from tests.model_sync.rollout.fake_docker import FakeDocker, failure

VERSIONS = {"sentiment": "tiny"}
# What `bentoml build` leaves, as far as the builder uses it: the context as `src`, and bento.yaml last.
BENTOML = """#!/bin/sh
set -e
bento="$BENTOML_HOME/bentos/bunriwiki/$5"
mkdir -p "$bento/env/docker"
cp -r "$8" "$bento/src"
cp "$8/Dockerfile" "$bento/env/docker/Dockerfile.template"
touch "$bento/bento.yaml"
"""


@pytest.fixture
def docker() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(tmp_path / "store")
    layout.create()
    folder = layout.version("sentiment", "tiny")
    folder.mkdir(parents=True)
    tiny(folder)
    return layout


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    program = tmp_path / "python"
    program.write_text(BENTOML, encoding="utf-8")
    program.chmod(0o755)
    return Recipe(
        base="bunriwiki", repository="bunriwiki-versions", pushes=False, root=ROOT,
        dockerfile=ROOT / "deploy" / "rollout" / "Dockerfile", home=tmp_path / "bentoml", python=program,
    )  # fmt: skip


@pytest.fixture
def images(docker: FakeDocker, layout: Layout, recipe: Recipe) -> BentoImages:
    return BentoImages(cast("DockerClient", docker), layout, recipe)


def test_an_image_contains_a_store_with_exactly_the_versions(docker: FakeDocker, images: BentoImages, layout: Layout) -> None:
    image = images.name(VERSIONS)
    assert not images.exists(image.name)
    images.build(image)
    assert images.exists(image.name)
    [(_, bento, options)] = [call for call in docker.calls if call[0] == "build"]
    assert options["build_args"] == {"BASE": "bunriwiki"}
    assert options["tags"] == image.name
    assert options["file"].read_text(encoding="utf-8").splitlines()[-1] == "COPY src/store /store"
    store = Layout(bento / "src" / "store")
    assert store.published() == {"sentiment": ["tiny"]}
    Manifest.read(store.version("sentiment", "tiny")).verify(store.version("sentiment", "tiny"))
    generations = Generations.read(store.generation)
    assert set(generations.models) == {"sentiment"}
    serving = generations.of("sentiment").serving
    assert serving is not None
    assert serving.version == "tiny"
    described = yaml.safe_load((bento / "src" / "bentofile.yaml").read_text(encoding="utf-8"))
    assert described["labels"]["version-sentiment"] == "tiny"
    assert (bento / "src" / "service.py").exists()
    assert not (bento / "src" / "bunriwiki" / "testing").exists()


def test_to_build_again_changes_nothing(docker: FakeDocker, images: BentoImages) -> None:
    image = images.name(VERSIONS)
    images.build(image)
    before = list(docker.calls)
    images.build(image)
    assert docker.calls == before


def test_the_name_follows_from_the_content(docker: FakeDocker, images: BentoImages, layout: Layout) -> None:
    first = images.name(VERSIONS).name
    assert images.name(VERSIONS).name == first
    manifest = layout.version("sentiment", "tiny") / "manifest.yaml"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    second = images.name(VERSIONS).name
    docker.images["bunriwiki"] = "sha256:" + "c" * 64
    assert len({first, second, images.name(VERSIONS).name}) == 3


def test_without_versions_it_is_the_base(docker: FakeDocker, images: BentoImages) -> None:
    image = images.name({})
    assert image.name == "bunriwiki-versions:kept-bbbbbbbbbbbb"
    assert docker.images[image.name] == docker.images["bunriwiki"]
    assert images.keep(image.name, "sha256:any") == image.name
    docker.images["sha256:" + "d" * 64] = "sha256:" + "d" * 64  # that of a replica, while the name is that of a newer image
    assert images.keep("bunriwiki", "sha256:" + "d" * 64) == "bunriwiki-versions:kept-dddddddddddd"


def test_an_image_that_is_identified_by_its_name_keeps_it(docker: FakeDocker, images: BentoImages) -> None:
    assert images.keep("bunriwiki", "bunriwiki") == "bunriwiki"
    assert not docker.calls


def test_a_damaged_version_is_not_built(images: BentoImages, layout: Layout) -> None:
    image = images.name(VERSIONS)
    [model, *_] = sorted((layout.version("sentiment", "tiny") / "pyfunc").glob("*.py"))
    model.write_text("", encoding="utf-8")
    with pytest.raises(TargetError, match="the Bento was not built"):
        images.build(image)


def test_a_failing_build_says_why(docker: FakeDocker, images: BentoImages, recipe: Recipe) -> None:
    image = images.name(VERSIONS)
    recipe.python.write_text("#!/bin/sh\necho no space >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(TargetError, match="no space"):
        images.build(image)
    assert not (recipe.home / "staged").exists()
    docker.fails = failure()
    with pytest.raises(TargetError, match="the engine says no"):
        images.build(image)


def test_images_are_pushed_where_a_registry_is_configured(docker: FakeDocker, layout: Layout, recipe: Recipe) -> None:

    recipe = replace(recipe, repository="registry.example.org/team/bunriwiki-versions", pushes=True)
    images = BentoImages(cast("DockerClient", docker), layout, recipe)
    image = images.name(VERSIONS)
    docker.images[image.name] = "sha256:1"  # built, and the process died before the push
    assert not images.exists(image.name)
    images.build(image)
    assert ("push", image.name) in docker.calls
    assert images.exists(image.name)


def test_pruning_keeps_what_is_named_used_or_new(docker: FakeDocker, images: BentoImages, recipe: Recipe) -> None:
    names = [f"bunriwiki-versions:{number}" for number in range(8)]
    for name in names:
        docker.images[name] = f"sha256:{name}"
        bento: Any = recipe.home / "bentos" / "bunriwiki" / name.rpartition(":")[2]
        bento.mkdir(parents=True)
    docker.add(names[1], labels={"a": "b"})
    removed = images.prune([names[0]])
    assert sorted(removed) == names[2:5]  # the newest KEPT remain
    assert len(names) - len(removed) == 2 + KEPT
    assert sorted(folder.name for folder in (recipe.home / "bentos" / "bunriwiki").iterdir()) == ["0", "1", "5", "6", "7"]
