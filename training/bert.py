"""A small BERT with KcBERT's vocabulary, and its training.

Vocabulary: KcBERT-base's 30,000 WordPieces (github.com/Beomi/KcBERT, MIT), `kcbert/vocab.txt`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    EvalPrediction,
    Trainer,
    TrainingArguments,
    set_seed,
)

from training.arguments import needed
from training.history import TrainerHistory

Loss = Callable[..., torch.Tensor]  # of the model's output, the labels, and the number of items in the batch

LAYERS, WIDTH, HEADS = 4, 256, 4  # KcBERT-base has 12, 768, 12
LONGEST = 300  # tokens, as KcBERT
CHECKPOINTS = ".run"


def tokenizer(data: Path) -> Any:
    """KcBERT's tokenizer: cased, WordPiece."""
    return BertTokenizer(vocab=str(needed(data / "kcbert" / "vocab.txt")), do_lower_case=False, model_max_length=LONGEST)


def small_bert(labels: Sequence[str], seed: int) -> BertForSequenceClassification:
    """A BERT with random weights and a class per label."""
    set_seed(seed)
    names = dict(enumerate(labels))
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=30_000,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=4 * WIDTH,
            max_position_embeddings=LONGEST,
            id2label=names,
            label2id={name: index for index, name in names.items()},
        )
    )


def shorten(model: Any, longest: int) -> None:
    """Limit the model to positions for `longest` tokens: the others were never trained."""
    embeddings = model.bert.embeddings
    embeddings.position_embeddings = torch.nn.Embedding.from_pretrained(
        embeddings.position_embeddings.weight[:longest].detach()
    )
    embeddings.position_ids = embeddings.position_ids[:, :longest]
    embeddings.token_type_ids = embeddings.token_type_ids[:, :longest]
    model.config.max_position_embeddings = longest


class Texts(torch.utils.data.Dataset[Mapping[str, Any]]):
    """Texts as tokens with their labels, truncated to `longest` tokens."""

    def __init__(self, tokens: Any, texts: Sequence[str], labels: Sequence[int], longest: int) -> None:
        self._ids = tokens(list(texts), truncation=True, max_length=longest, return_attention_mask=False)["input_ids"]
        self._labels = list(labels)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, index: int) -> Mapping[str, Any]:
        ids = self._ids[index]
        return {"input_ids": ids, "labels": self._labels[index], "length": len(ids)}


def fit(
    model: Any,
    tokens: Any,
    train: Texts,
    validation: Texts,
    output: Path,
    *,
    epochs: float,
    rate: float,
    batch: int,
    evaluations: int,
    patience: int,
    better: str,
    seed: int,
    loss: Loss | None = None,
) -> Any:
    """Train the model; returns it as it was when `better` (a name of `metrics`) was highest on `validation`.

    Evaluates about `evaluations` times, and stops after `patience` evaluations without an improvement. An interrupted run is
    resumed from its last evaluation. Checkpoints go to `.run` in `output`, which `publish` skips because it is hidden, and the
    scalars to `history` (`training.history`).
    """
    torch.set_flush_denormal(True)  # denormal numbers make training on a CPU several times slower
    steps = max(1, round(epochs * len(train) / batch))
    every = max(1, steps // evaluations)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(output / CHECKPOINTS),
            max_steps=steps,
            per_device_train_batch_size=batch,
            per_device_eval_batch_size=256,
            learning_rate=rate,
            lr_scheduler_type="linear",
            warmup_steps=0.06,
            weight_decay=0.01,
            optim="adamw_torch_fused",
            train_sampling_strategy="group_by_length",
            length_column_name="length",
            eval_strategy="steps",
            eval_steps=every,
            save_strategy="steps",
            save_steps=every,
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model=better,
            restore_callback_states_from_checkpoint=True,  # the number of evaluations without an improvement
            report_to="none",
            logging_steps=min(50, every),
            use_cpu=True,
            bf16=True,
            seed=seed,
        ),
        data_collator=DataCollatorWithPadding(tokens, pad_to_multiple_of=8),  # fewer shapes, each of which needs a kernel
        train_dataset=train,
        eval_dataset=validation,
        compute_loss_func=loss,
        compute_metrics=metrics,
        callbacks=[EarlyStoppingCallback(patience), TrainerHistory(output)],
    )
    trainer.train(resume_from_checkpoint=any((output / CHECKPOINTS).glob("checkpoint-*")))
    return model.eval()


def metrics(prediction: EvalPrediction) -> dict[str, float]:
    """Accuracy and macro-F1."""
    chosen = np.argmax(prediction.predictions, axis=1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, chosen)),
        "macro_f1": float(f1_score(prediction.label_ids, chosen, average="macro")),
    }


def logits(model: Any, tokens: Any, texts: Sequence[str], longest: int) -> npt.NDArray[np.float32]:
    """The model's logits, [texts, classes], in single precision."""
    found = []
    with torch.no_grad():
        for start in range(0, len(texts), 128):
            batch = tokens(
                list(texts[start : start + 128]), truncation=True, max_length=longest, padding=True, return_tensors="pt"
            )
            found.append(model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits.numpy())
    return np.concatenate(found)
