from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from tests.training.test_history import read_history
from training.bert import CHECKPOINTS, Texts, fit, logits, shorten

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of transformers, torch and tensorboard

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "좋아", "나빠", "정말", "영화"]
GOOD, BAD = ["정말 좋아", "영화 좋아", "좋아 좋아 정말"], ["정말 나빠", "영화 나빠", "나빠 나빠 정말"]


@pytest.fixture
def tokens(tmp_path: Path) -> Any:
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    return BertTokenizer(vocab=str(tmp_path / "vocab.txt"), do_lower_case=False, model_max_length=16)


def tiny() -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return BertForSequenceClassification(BertConfig(vocab_size=len(WORDS), max_position_embeddings=16, num_labels=2, **sizes))


def train(tokens: Any, output: Path, epochs: float) -> Any:
    texts = Texts(tokens, (GOOD + BAD) * 8, ([0] * 3 + [1] * 3) * 8, longest=8)
    return fit(
        tiny(), tokens, texts, texts, output,
        epochs=epochs, rate=1e-2, batch=8, evaluations=4, patience=9, better="macro_f1", seed=0,
    )  # fmt: skip


def test_learns_and_is_reproducible(tokens: Any, tmp_path: Path) -> None:
    once = train(tokens, tmp_path / "once", epochs=4)
    again = train(tokens, tmp_path / "again", epochs=4)
    found = logits(once, tokens, GOOD + BAD, longest=8)
    assert found.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1]
    assert np.array_equal(found, logits(again, tokens, GOOD + BAD, longest=8))


def test_an_interrupted_run_is_resumed(tokens: Any, tmp_path: Path) -> None:
    train(tokens, tmp_path / "run", epochs=1)
    first = evaluations(tmp_path / "run")
    train(tokens, tmp_path / "run", epochs=4)
    assert evaluations(tmp_path / "run")[: len(first)] == first
    assert len(evaluations(tmp_path / "run")) > len(first)


def test_the_history_has_loss_rate_and_quality_of_every_evaluation(tokens: Any, tmp_path: Path) -> None:
    train(tokens, tmp_path, epochs=1)
    train(tokens, tmp_path, epochs=4)  # as if interrupted
    history = read_history(tmp_path)
    assert history.keys() == {
        "train/loss", "train/learning_rate", "train/grad_norm", "eval/loss", "eval/accuracy", "eval/macro_f1",
    }  # fmt: skip
    logged = {entry["step"]: entry["eval_macro_f1"] for entry in evaluations(tmp_path)}
    assert [step for step, _ in history["eval/macro_f1"]] == list(logged)
    assert dict(history["eval/macro_f1"]) == pytest.approx(logged)


def evaluations(run: Path) -> list[dict[str, float]]:
    """All evaluations that the last checkpoint remembers."""
    last = max((run / CHECKPOINTS).glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    history = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))["log_history"]
    return [entry for entry in history if "eval_macro_f1" in entry]


def test_a_shorter_model_answers_the_same(tokens: Any) -> None:
    model = tiny().eval()
    before = logits(model, tokens, GOOD, longest=8)
    shorten(model, 8)
    assert np.array_equal(logits(model, tokens, GOOD, longest=8), before)
    assert model.config.max_position_embeddings == len(model.bert.embeddings.position_embeddings.weight) == 8


def test_texts_are_truncated(tokens: Any) -> None:
    [sample] = Texts(tokens, ["정말 " * 20], [1], longest=8)
    assert (sample["length"], len(sample["input_ids"]), sample["labels"]) == (8, 8, 1)
