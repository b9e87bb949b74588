"""Compiles each kind of artifact to a version folder, and opens the result as the data plane does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, BertTokenizerFast

from bunriwiki.artifacts.answers import Detections
from bunriwiki.artifacts.golden import read_golden_photos, read_golden_texts
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import DamagedArtifactError, DetectionOutput, ImageInput, Manifest, TokensInput
from bunriwiki.testing.paths import MODELS, ROOT
from model_sync.errors import RejectedError
from model_sync.importing.compilers.job import make_version
from model_sync.importing.compilers.phases import unreported
from model_sync.importing.compilers.yolo import compile_yolo
from runners.kcbert import KcBert
from runners.yolo import Yolo
from tests.model_sync.importing.compilers.conftest import CLASSES, SIZE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),  # torch's own use of itself
    pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning"),  # ultralytics' anchors
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the exporters' libraries
]


def make(model: str, folder: Path, reference: Path, phase: Any = unreported) -> Manifest:
    output = folder.parent / "version"
    make_version(model, folder, output, version="v1", source="a test", reference=reference, phase=phase)
    manifest = Manifest.read(output)
    manifest.verify(output)
    assert (manifest.model, manifest.version, manifest.source) == (model, "v1", "a test")
    assert not (output / "reference.jsonl").exists()
    return manifest


def require_golden_photos(folder: Path) -> None:
    served = Yolo(folder)
    samples = read_golden_photos(folder)
    assert sum(len(sample.detections) for sample in samples) > 10
    for sample in samples:
        [answer] = served.predict([Photo(data=(folder / sample.image).read_bytes(), confidence=sample.confidence)]).results
        assert sample.differs(answer) is None  # type: ignore[arg-type]


def require_golden_texts(folder: Path, count: int) -> None:
    samples = read_golden_texts(folder)
    assert len(samples) == count
    answers = KcBert(folder).predict([sample.text for sample in samples]).results
    for sample, answer in zip(samples, answers, strict=True):
        assert sample.differs(answer) is None  # type: ignore[arg-type]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    return folder


def test_a_checkpoint_is_compiled(tiny_yolo: Path, published: Path, photos: Path) -> None:
    phases: list[str] = []

    def recording(name: str) -> AbstractContextManager[None]:
        phases.append(name)
        return unreported(name)

    shutil.copy(tiny_yolo, published)
    manifest = make("yolo", published, photos, recording)
    assert phases == ["import", "load", "record", "compile"]
    assert manifest.input == ImageInput(size=SIZE)
    assert manifest.output is None
    assert [label.name for label in manifest.labels] == CLASSES
    require_golden_photos(published.parent / "version")


def test_a_checkpoint_is_compiled_with_its_options(tiny_yolo: Path, published: Path, photos: Path) -> None:
    shutil.copy(tiny_yolo, published)
    (published / "serving.yaml").write_text("size: 128\nuncertain_below: 1\n", encoding="utf-8")
    manifest = make("yolo", published, photos)
    assert manifest.input == ImageInput(size=128)
    assert manifest.output == DetectionOutput(uncertain_below=1)
    output = published.parent / "version"
    require_golden_photos(output)
    sample = next(sample for sample in read_golden_photos(output) if sample.detections)
    [answer] = Yolo(output).predict([Photo(data=(output / sample.image).read_bytes())]).results
    assert isinstance(answer, Detections)
    assert all(box.uncertain and box.how_to_tell for box in answer.detections)


def test_a_detector_in_onnx_agrees_with_its_checkpoint(
    exported: dict[bool, Path], tiny_yolo: Path, published: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copy(exported[True], published)
    (published / "serving.yaml").write_text("uncertain_below: 0.4\n", encoding="utf-8")
    manifest = make("yolo", published, photos)
    assert manifest.output == DetectionOutput(uncertain_below=0.4)
    assert manifest.input == ImageInput(size=SIZE)
    assert [label.name for label in manifest.labels] == CLASSES
    require_golden_photos(tmp_path / "version")

    golden = [tmp_path / "version" / sample.image for sample in read_golden_photos(tmp_path / "version")]
    compile_yolo(tiny_yolo, tmp_path / "of the checkpoint", version="v1", source="a test", golden=golden)
    given = [Photo(data=photo.read_bytes()) for photo in golden]
    answers = Yolo(tmp_path / "version").predict(given).results
    for sample, answer in zip(read_golden_photos(tmp_path / "of the checkpoint"), answers, strict=True):
        assert sample.differs(answer) is None  # type: ignore[arg-type]


def edited(file: Path, folder: Path, **metadata: str | None) -> None:
    model = onnx.load(file)
    changed = {entry.key: entry.value for entry in model.metadata_props} | metadata
    del model.metadata_props[:]
    helper.set_model_props(model, {key: value for key, value in changed.items() if value is not None})
    onnx.save(model, folder / "best.onnx")


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({"names": None}, "lacks the metadata of a detector"),
        ({"task": "segment"}, "lacks the metadata of a detector"),
        ({"end2end": "True"}, "end2end=False"),
        ({"args": "{'nms': True}"}, "nms=False"),
        ({"names": "{0: 'one'}"}, "it has 5 classes"),
        ({"names": "open('x')"}, "not a Python literal"),
        ({"imgsz": "[100, 100]"}, "multiple of 32"),
    ],
)
def test_a_detector_in_onnx_with_other_metadata_is_rejected(
    metadata: dict[str, str | None], reason: str, exported: dict[bool, Path], published: Path, photos: Path
) -> None:
    edited(exported[True], published, **metadata)
    with pytest.raises(RejectedError, match=reason):
        make("yolo", published, photos)


def test_a_detector_in_onnx_with_a_fixed_batch_size_is_rejected(
    exported: dict[bool, Path], published: Path, photos: Path
) -> None:
    shutil.copy(exported[False], published)
    with pytest.raises(RejectedError, match="export it with dynamic=True"):
        make("yolo", published, photos)


def test_a_file_that_is_no_onnx_is_rejected(published: Path, photos: Path) -> None:
    (published / "best.onnx").write_bytes(b"no graph")
    with pytest.raises(RejectedError, match=r"best\.onnx is not an ONNX model"):
        make("yolo", published, photos)


def test_a_classifier_logged_to_mlflow_is_compiled(tiny_bert: Path, published: Path, texts: Path) -> None:
    (published / "MLmodel").touch()
    shutil.copytree(tiny_bert, published / "model")
    (published / "components" / "tokenizer").mkdir(parents=True)
    shutil.move(published / "model" / "tokenizer.json", published / "components" / "tokenizer")
    manifest = make("kcbert", published, texts)
    assert manifest.input == TokensInput(max_tokens=64, vocabulary=30_000)
    assert [label.name for label in manifest.labels] == ["none", "offensive", "hate"]
    require_golden_texts(published.parent / "version", 4)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "좋아", "##요", "그냥", "그래", "아", "진짜", "A", "a"]


@pytest.mark.parametrize("lower", [False, True])
def test_a_classifier_with_a_bin_and_a_vocab_txt_is_compiled(lower: bool, published: Path, texts: Path) -> None:
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, num_labels=2,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(published)
    torch.save(load_file(published / "model.safetensors"), published / "pytorch_model.bin")
    (published / "model.safetensors").unlink()
    (published / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    (published / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}), encoding="utf-8")
    make("kcbert", published, texts)
    require_golden_texts(published.parent / "version", 4)
    theirs = BertTokenizerFast.from_pretrained(published)
    ours = Tokenizer.from_file(str(published.parent / "version" / "tokenizer.json"))
    assert ours.encode("A 좋아요").ids == theirs("A 좋아요")["input_ids"]
    assert ours.encode("A").tokens == ["[CLS]", "a" if lower else "A", "[SEP]"]


def test_a_network_that_was_never_a_classifier_is_rejected(tiny_bert: Path, published: Path, texts: Path) -> None:
    """transformers would add a classifier with random weights."""
    BertForMaskedLM(BertConfig.from_pretrained(tiny_bert)).save_pretrained(published)
    shutil.copy(tiny_bert / "tokenizer.json", published)
    with pytest.raises(
        RejectedError, match=r"classifier.bias, classifier.weight.*: the network was not trained as a classifier"
    ):
        make("kcbert", published, texts)


def test_a_classifier_whose_classes_are_not_mutually_exclusive_is_rejected(
    tiny_bert: Path, published: Path, texts: Path
) -> None:
    shutil.copytree(tiny_bert, published, dirs_exist_ok=True)
    config = json.loads((published / "config.json").read_text(encoding="utf-8"))
    changed = config | {"problem_type": "multi_label_classification"}
    (published / "config.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(RejectedError, match="mutually exclusive"):
        make("kcbert", published, texts)


def test_a_pickle_in_a_bin_is_rejected_and_nothing_is_called(tiny_bert: Path, published: Path, texts: Path) -> None:
    class Call:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(published / "trace"),)

    shutil.copytree(tiny_bert, published, dirs_exist_ok=True)
    (published / "model.safetensors").unlink()
    torch.save({"classifier.weight": Call()}, published / "pytorch_model.bin")
    with pytest.raises(Exception, match=r"posix.mkdir"):
        make("kcbert", published, texts)
    assert not (published / "trace").exists()


def test_a_classifier_in_onnx_agrees_with_its_original(
    exported_bert: Path, tiny_bert: Path, published: Path, texts: Path
) -> None:
    shutil.copytree(exported_bert, published, dirs_exist_ok=True)
    manifest = make("kcbert", published, texts)
    assert manifest.input == TokensInput(max_tokens=64, vocabulary=30_000)
    version = published.parent / "version"
    require_golden_texts(version, 4)
    network = BertForSequenceClassification.from_pretrained(tiny_bert).eval()
    tokenizer = Tokenizer.from_file(str(tiny_bert / "tokenizer.json"))
    for sample in read_golden_texts(version):
        with torch.inference_mode():
            ids = torch.tensor([tokenizer.encode(sample.text).ids])
            expected = network(ids).logits[0].softmax(0).tolist()
        assert np.allclose(list(sample.details.values()), expected, atol=1e-4)


def renamed(model: onnx.ModelProto, old: str, new: str) -> None:
    for part in (*model.graph.input, *model.graph.output):
        part.name = new if part.name == old else part.name
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def test_a_classifier_in_onnx_whose_scores_are_no_probabilities_is_rejected(
    exported_bert: Path, published: Path, texts: Path
) -> None:
    shutil.copytree(exported_bert, published, dirs_exist_ok=True)
    model = onnx.load(published / "model.onnx")
    renamed(model, "logits", "scores")
    onnx.save(model, published / "model.onnx")
    with pytest.raises(RejectedError, match="for the classes none, offensive, hate: probabilities are required"):
        make("kcbert", published, texts)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: renamed(model, "attention_mask", "position_ids"), "takes input_ids, position_ids, token_type_ids"),
        (lambda model: renamed(model, "logits", "last_hidden_state"), "gives last_hidden_state first"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type, "elem_type", TensorProto.INT32), "not int64|not an ONNX"),
        (lambda model: setattr(model.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 9), "dynamic axes"),
    ],
)
def test_a_classifier_in_onnx_with_other_inputs_or_outputs_is_rejected(
    change: Any, reason: str, exported_bert: Path, published: Path, texts: Path
) -> None:
    shutil.copytree(exported_bert, published, dirs_exist_ok=True)
    model = onnx.load(published / "model.onnx")
    change(model)
    onnx.save(model, published / "model.onnx")
    with pytest.raises(RejectedError, match=reason):
        make("kcbert", published, texts)


def test_a_tokenizer_of_another_model_is_rejected(exported_bert: Path, published: Path, texts: Path) -> None:
    shutil.copytree(exported_bert, published, dirs_exist_ok=True)
    (published / "tokenizer.json").unlink()
    (published / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    with pytest.raises(DamagedArtifactError, match="13 tokens, the model's embedding table 30000 rows"):
        make("kcbert", published, texts)


def run(*arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    command = [sys.executable, "-m", "model_sync.importing.compilers.job", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    begun, *lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert begun == {"begun": True}
    return done.returncode, lines, done.stderr


def test_an_unreadable_reference_set_is_an_environment_error(published: Path, tmp_path: Path) -> None:
    options = ("--version", "v1", "--source", "s3://here", "--reference", tmp_path)
    code, [line], _ = run("kcbert", published, published.parent / "version", *options)
    assert code == 4
    assert "reference.jsonl has no valid samples" in line["environment_error"]


def test_the_job_reports_its_phases(tmp_path: Path) -> None:
    bundled = MODELS / "kcbert"
    code, lines, errors = run(
        "kcbert", bundled, tmp_path / "version", "--version", "v1", "--source", "s3://here", "--reference", bundled
    )
    assert (code, errors) == (0, "")
    [phase, last] = lines
    assert phase["phase"] == "import precompiled"
    assert 0 <= phase["seconds"] < 60
    assert last == {"done": True}
    assert Manifest.read(tmp_path / "version").version == "v1"
    assert [path.name for path in tmp_path.iterdir()] == ["version"]


def test_the_job_rejects_a_folder_without_an_artifact(published: Path, texts: Path) -> None:
    code, lines, _ = run(
        "kcbert", published, published.parent / "version", "--version", "v1", "--source", "s3://here", "--reference", texts
    )
    assert code == 3
    [line] = lines
    assert line["rejected"].startswith("the folder holds no version of kcbert; expected a Hugging Face folder")


def test_the_job_rejects_an_artifact_that_fails_and_leaves_nothing(tiny_pyfunc: Any, tmp_path: Path, texts: Path) -> None:
    """A pyfunc that writes to standard output and exits."""
    folder = tiny_pyfunc("print('hello'); raise SystemExit('goodbye')")
    code, lines, errors = run(
        "sentiment", folder, tmp_path / "version", "--version", "v1", "--source", "s3://here", "--reference", texts
    )
    assert code == 3
    assert [line.get("phase") for line in lines[:-1]] == ["import", "load"]
    assert lines[-1] == {"rejected": "SystemExit: goodbye"}
    assert "hello" in errors
    assert "Traceback" in errors
    assert list(tmp_path.iterdir()) == [folder]
