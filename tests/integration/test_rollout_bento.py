"""The Bento of a rollout, made by the real `bentoml build`. No engine: the image is not made."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from python_on_whales import DockerClient

from bunriwiki.model_store.layout import Layout
from bunriwiki.model_store.writer import open_writer
from bunriwiki.testing.paths import ROOT, SERVE_ENV
from bunriwiki.testing.versions import make_version
from model_sync.rollout.builder import BentoImages, Recipe
from model_sync.rollout.state import Image
from tests.model_sync.rollout.fake_docker import FakeDocker

IMAGE = Image(name="bunriwiki-versions:0123abcd", versions={"sentiment": "v2"})


def test_a_bento_has_the_code_and_exactly_the_versions(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "store")
    with open_writer(layout.root, "a test") as writer:
        for version in ("v1", "v2"):
            writer.publish(make_version("sentiment", version, 1, tmp_path / version), "a test", "poll")
    recipe = Recipe(
        base="bunriwiki", repository="bunriwiki-versions", pushes=False, root=ROOT,
        dockerfile=ROOT / "deploy" / "rollout" / "Dockerfile", home=tmp_path / "bentoml", python=SERVE_ENV / "bin" / "python",
    )  # fmt: skip
    docker = FakeDocker()
    BentoImages(cast("DockerClient", docker), layout, recipe).build(IMAGE)
    [(_, bento, options)] = docker.calls
    assert options["file"].read_text(encoding="utf-8").endswith("COPY src/store /store\n")
    assert Layout(bento / "src" / "store").published() == {"sentiment": ["v2"]}
    assert (bento / "src" / "service.py").is_file()
    assert (bento / "src" / "bunriwiki" / "supervisor.py").is_file()
    assert "version-sentiment: v2" in (bento / "bento.yaml").read_text(encoding="utf-8")
