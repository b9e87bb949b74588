"""Fine-tune the small BERT on comments, and add a linear model on characters that votes with it.

Pre-training: `training.pretraining`, run first if its result does not exist. Data: `training.comments`.

    python -m training.kcbert --data DIR --output build/kcbert

The output is a Hugging Face folder with `ngrams.safetensors`, the linear member, beside the network: slang and insults are
spelled in many ways, which characters show and WordPieces hide.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sklearn.metrics import f1_score
from torch.nn import functional
from transformers import BertForSequenceClassification

from bunriwiki.artifacts.manifest import NgramsInput, digest
from model_sync.importing.compilers.ngrams import write_ngrams
from training.arguments import add_output, add_seed, claim, parser
from training.bert import Texts, fit, logits, shorten, tokenizer
from training.comments import LABELS, load_comments
from training.history import History
from training.linear import count_ngrams, inverse_document_frequency, logistic
from training.pretraining import pretrain
from training.sentiment_model import tf_idf, vote
from training.voting import fit_vote

log = logging.getLogger("training.kcbert")

LONGEST = 128  # tokens: the longest comment of the data has 74
EPOCHS = 4
SPEC = NgramsInput(shortest=1, longest=5, buckets=2**18, characters=600)


def fine_tune(pretrained: Path, data: Path, splits: dict[str, pd.DataFrame], output: Path, *, epochs: float, seed: int) -> Any:
    """Fine-tune the BERT on comments; every class has the same weight."""
    names = dict(enumerate(LABELS))
    network = BertForSequenceClassification.from_pretrained(
        pretrained, id2label=names, label2id={name: index for index, name in names.items()}
    )
    torch.manual_seed(seed)
    network.classifier.reset_parameters()
    frequency = splits["train"]["label"].value_counts().sort_index().to_numpy()
    weight = torch.tensor(frequency.mean() / frequency, dtype=torch.float32)

    def loss(outputs: Any, labels: torch.Tensor, **_: Any) -> torch.Tensor:
        return functional.cross_entropy(outputs.logits.float(), labels, weight=weight, label_smoothing=0.1)

    tokens = tokenizer(data)
    texts = {name: Texts(tokens, split["comment"].tolist(), split["label"].tolist(), LONGEST) for name, split in splits.items()}
    return fit(
        network,
        tokens,
        texts["train"],
        texts["validation"],
        output,
        epochs=epochs,
        rate=1e-4,
        batch=32,
        evaluations=12,
        patience=5,
        better="macro_f1",
        seed=seed,
        loss=loss,
    )


def main() -> None:
    arguments = parser(__doc__)
    add_output(arguments, "kcbert")
    add_seed(arguments)
    arguments.add_argument("--pretrained", type=Path, help="folder of the pre-trained BERT (default: beside the output)")
    arguments.add_argument("--epochs", type=float, default=EPOCHS)
    given = arguments.parse_args()

    splits = load_comments(given.data)
    pretrained = pretrain(given.data, given.pretrained or given.output.parent / "pretrained", seed=given.seed)
    claim(given.output, seed=given.seed, epochs=given.epochs, pretrained=digest(pretrained / "model.safetensors"))
    log.info("comments: %s", {name: len(split) for name, split in splits.items()})

    counts = {name: count_ngrams(SPEC, split["comment"].tolist()) for name, split in splits.items()}
    idf = inverse_document_frequency(counts["train"], at_least=1)
    labels = splits["train"]["label"].to_numpy()
    linear = logistic(tf_idf(counts["train"], idf), labels, strength=1.0, balanced=True)
    network = fine_tune(pretrained, given.data, splits, given.output, epochs=given.epochs, seed=given.seed)
    tokens = tokenizer(given.data)

    found = {
        name: {
            "bert": logits(network, tokens, split["comment"].tolist(), LONGEST),
            "ngrams": tf_idf(counts[name], idf) @ linear["coef"] + linear["bias"],
        }
        for name, split in splits.items()
        if name != "train"
    }
    fitted = fit_vote(found["validation"], splits["validation"]["label"].to_numpy())
    shorten(network, LONGEST)
    network.save_pretrained(given.output)
    tokens.save_pretrained(given.output)
    write_ngrams(
        given.output, SPEC, {name: torch.from_numpy(array) for name, array in {"idf": idf, **linear, **fitted}.items()}
    )
    chosen = vote(found["test"], fitted).argmax(axis=1)
    quality = float(f1_score(splits["test"]["label"], chosen, average="macro"))
    log.info("dev: macro-F1 %.4f", quality)
    with History(given.output) as history:
        history.add({"test/macro_f1": quality}, step=0)


if __name__ == "__main__":
    main()
