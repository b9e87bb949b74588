"""Compiles and serves small models with random weights: the original and the compiled model must agree."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from transformers import BertConfig, BertForSequenceClassification, PretrainedConfig, RobertaConfig

from bunriwiki.artifacts.answers import Classification, Detections
from bunriwiki.artifacts.golden import read_golden_photos
from bunriwiki.artifacts.inputs import Photo
from bunriwiki.artifacts.manifest import DamagedArtifactError, Manifest, NgramsInput, TokensInput
from bunriwiki.artifacts.ngrams import NgramCounter
from bunriwiki.artifacts.reference import read_reference_texts
from bunriwiki.artifacts.text import TextEncoder
from bunriwiki.settings import Settings
from bunriwiki.testing.paths import MODELS, PHOTOS
from model_sync.importing.compilers import yolo
from model_sync.importing.compilers.checkpoints import load_detector
from model_sync.importing.compilers.kcbert import compile_kcbert, max_tokens
from model_sync.importing.compilers.ngrams import write_ngrams
from model_sync.importing.compilers.onnx_files import remove_debug_info, store_in_half
from model_sync.importing.compilers.sentiment import package_sentiment
from model_sync.importing.compilers.yolo import GOLDEN_CONFIDENCE, compile_yolo, record_golden
from runners import yolo as runner
from runners.kcbert import KcBert
from runners.sentiment import Sentiment
from runners.yolo import Yolo
from tests.model_sync.importing.compilers.conftest import CLASSES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.*treespec, LeafSpec.*:FutureWarning"),  # torch's own use of itself
    pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning"),  # ultralytics' anchors
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of the exporters' libraries
]


def test_a_detector_is_compiled_and_served(tiny_yolo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "yolo"
    photos = sorted(PHOTOS.glob("*.jpg"))
    manifest = compile_yolo(tiny_yolo, output, version="v1", source="a test", size=160, golden=photos)
    assert manifest == Manifest.read(output)
    manifest.verify(output)
    assert any(sample.detections for sample in read_golden_photos(output))
    assert Yolo(output).predict([Photo(data=photos[0].read_bytes())]).version == "v1"
    require_class_scores(output, 160)

    # At a smaller size it answers as the original at that size.
    original = load_detector(tiny_yolo)
    (tmp_path / "small").mkdir()
    record_golden(lambda squares: original.network(squares)[0], original.names, 96, photos, tmp_path / "small")

    monkeypatch.setattr(runner, "settings", lambda: Settings(yolo_size=96))
    served = Yolo(output)
    served.warm_up()  # at 160 pixels
    samples = read_golden_photos(tmp_path / "small")
    assert sum(len(sample.detections) for sample in samples) > 10
    given = [Photo(data=photo.read_bytes(), confidence=GOLDEN_CONFIDENCE) for photo in photos]
    for sample, answer in zip(samples, served.predict(given).results, strict=True):
        assert isinstance(answer, Detections)
        assert sample.differs(answer) is None


def require_class_scores(folder: Path, size: int) -> None:
    """A version's graph gives the scores of all classes of a box in a square of `size` pixels; `scores` has the highest."""
    session = ort.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    squares = np.random.default_rng(1).random((2, 3, size, size), dtype=np.float32)
    thresholds = {"iou": np.array([0.5], dtype=np.float32), "confidence": np.array([0.1], dtype=np.float32)}
    found = dict(zip(names, session.run(names, {"images": squares, **thresholds}), strict=True))
    assert len(found["boxes"]) > 10
    assert found["class_scores"].shape == (len(found["boxes"]), len(CLASSES))
    assert np.array_equal(found["class_scores"].max(axis=1), found["scores"])
    assert np.array_equal(found["class_scores"].argmax(axis=1), found["classes"])


def test_a_network_that_torch_traces_for_one_size_only_is_compiled_for_it(
    tiny_yolo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yolo, "MAX_SIZE", 64)  # smaller than the square
    compile_yolo(tiny_yolo, tmp_path / "yolo", version="v1", source="a test", size=96, golden=[])
    [images, *_] = ort.InferenceSession(tmp_path / "yolo" / "model.onnx", providers=["CPUExecutionProvider"]).get_inputs()
    assert images.shape[1:] == [3, 96, 96]


def test_a_classifier_is_compiled_and_served(tiny_bert: Path, tmp_path: Path) -> None:
    output = tmp_path / "kcbert"
    compile_kcbert(tiny_bert, output, version="v1", source="a test", golden=["좋아요", "그냥 그래요 " * 40])
    short, long = KcBert(output).predict(["좋아요", "그냥 그래요 " * 40]).results
    assert isinstance(short, Classification)
    assert isinstance(long, Classification)
    assert (short.truncated, long.truncated) == (False, True)


def test_an_ensemble_matches_the_formulas_of_its_members(tiny_bert: Path, tmp_path: Path) -> None:
    tiny_bert = shutil.copytree(tiny_bert, tmp_path / "bert")
    spec = NgramsInput(shortest=1, longest=3, buckets=512, characters=20)
    rng = np.random.default_rng(1)
    arrays = {
        "idf": rng.random(512), "coef": rng.normal(size=(512, 3)), "bias": rng.normal(size=3),
        "bert_temperature": np.array(1.3),
        "ngrams_temperature": np.array(0.7), "shares": np.array([0.4, 0.6]), "temperature": np.array(0.8),
    }  # fmt: skip
    write_ngrams(tiny_bert, spec, {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()})
    output = tmp_path / "kcbert"
    texts = ["좋아요", "그냥 그래요 " * 5, "", "아 진짜"]
    manifest = compile_kcbert(tiny_bert, output, version="v1", source="a test", golden=texts)
    assert manifest.input == TokensInput(max_tokens=64, vocabulary=30_000, ngrams=spec)
    served = KcBert(output)
    served.warm_up()

    network = BertForSequenceClassification.from_pretrained(tiny_bert).eval()
    for text, answer in zip(texts, served.predict(texts).results, strict=True):
        assert isinstance(answer, Classification)
        [encoded] = TextEncoder(output / "tokenizer.json", manifest.input).encode([text])
        with torch.no_grad():
            bert = (network(torch.tensor([encoded.ids])).logits[0] / 1.3).softmax(0).numpy()
        counts = NgramCounter(spec).count([text])
        values = np.where(counts[1][0] > 0, 1 + np.log(np.maximum(counts[1][0], 1)), 0) * arrays["idf"][counts[0][0]]
        logits = values @ arrays["coef"][counts[0][0]] / max(np.sqrt((values**2).sum()), 1e-9) + arrays["bias"]
        ngrams = np.exp(logits / 0.7) / np.exp(logits / 0.7).sum()
        expected = (0.4 * bert + 0.6 * ngrams) ** (1 / 0.8)
        assert np.allclose(list(answer.details.values()), expected / expected.sum(), atol=2e-3)
        assert answer.truncated == (len(text) > 20)


def test_the_reference_set_is_copied(tiny_bert: Path, tmp_path: Path) -> None:
    output = tmp_path / "kcbert"
    compile_kcbert(tiny_bert, output, version="v1", source="a test", golden=[], reference=MODELS / "kcbert")
    assert read_reference_texts(output) == read_reference_texts(MODELS / "kcbert")
    Manifest.read(output).verify(output)


def test_a_classifier_without_a_tokenizer_is_rejected(tiny_bert: Path, tmp_path: Path) -> None:
    tiny_bert = shutil.copytree(tiny_bert, tmp_path / "bert")
    (tiny_bert / "tokenizer.json").unlink()
    with pytest.raises(DamagedArtifactError, match="has no tokenizer"):
        compile_kcbert(tiny_bert, tmp_path / "kcbert", version="v1", source="a test", golden=[])


@pytest.mark.parametrize(
    ("config", "expected"),
    [(BertConfig(max_position_embeddings=300), 300), (RobertaConfig(max_position_embeddings=514, pad_token_id=1), 512)],
)
def test_max_tokens_leaves_a_position_for_every_token(config: PretrainedConfig, expected: int) -> None:
    assert max_tokens(config) == expected


def linear(weights: np.ndarray) -> onnx.ModelProto:
    rows, columns = weights.shape
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, columns])
    node = helper.make_node("MatMul", ["x", "w"], ["y"], name="product", doc_string="/home/somebody/model.py")
    graph = helper.make_graph([node], "test", [x], [y], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_weights_are_stored_in_half_precision() -> None:
    weights = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    full, half = linear(weights), store_in_half(linear(weights))
    assert half.ByteSize() < 0.6 * full.ByteSize()
    x = np.ones((1, 64), dtype=np.float32)
    exact, rounded = (onnx.reference.ReferenceEvaluator(model).run(None, {"x": x})[0] for model in (full, half))
    assert np.allclose(exact, rounded, atol=0.02)
    assert rounded.dtype == np.float32


def test_weights_beyond_half_precision_are_not_changed() -> None:
    model = store_in_half(linear(np.full((64, 64), 1e6, dtype=np.float32)))
    assert model.graph.initializer[0].data_type == TensorProto.FLOAT


def test_debug_info_is_removed() -> None:
    model = linear(np.ones((64, 64), dtype=np.float32))
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "stack_trace", "/home/somebody/train.py"
    assert b"somebody" not in remove_debug_info(model).SerializeToString()


def test_a_pyfunc_is_packaged_and_served(tmp_path: Path) -> None:
    output = tmp_path / "sentiment"
    source = MODELS / "sentiment" / "pyfunc"
    manifest = package_sentiment(source, output, version="v1", source="a test", golden=["정말 재미있어요", "돈이 아깝다"])
    manifest.verify(output)
    good, bad = Sentiment(output).predict(["정말 재미있어요", "돈이 아깝다"]).results
    assert isinstance(good, Classification)
    assert isinstance(bad, Classification)
    assert (good.label, bad.label) == ("긍정", "부정")
