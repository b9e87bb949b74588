"""Pre-train the small BERT on the ratings of film reviews: three classes, `긍정`, `부정`, `중립/복합`.

The result is used twice: `training.kcbert` fine-tunes it on comments, and it is a member of the sentiment ensemble.
Data: `training.reviews`; vocabulary: `training.bert`.

    python -m training.pretraining --data DIR --output build/pretrained
"""

from __future__ import annotations

import logging
from pathlib import Path

from training.arguments import add_output, add_seed, claim, parser
from training.bert import LAYERS, WIDTH, Texts, fit, small_bert, tokenizer
from training.reviews import LABELS, load_reviews

log = logging.getLogger("training.pretraining")

LONGEST = 64  # tokens; 1 % of the reviews are longer
EPOCHS = 3


def pretrain(data: Path, output: Path, *, seed: int, epochs: float = EPOCHS) -> Path:
    """Pre-train the BERT and save it to `output` as a Hugging Face folder, unless that exists; returns `output`."""
    claim(output, seed=seed, epochs=float(epochs), layers=LAYERS, width=WIDTH)
    if (output / "model.safetensors").is_file():
        log.info("%s exists already", output)
        return output
    splits = load_reviews(data, seed)
    tokens = tokenizer(data)
    texts = {name: Texts(tokens, split["review"].tolist(), split["label"].tolist(), LONGEST) for name, split in splits.items()}
    log.info("reviews: %s", {name: len(split) for name, split in splits.items()})
    model = fit(
        small_bert(LABELS, seed),
        tokens,
        texts["train"],
        texts["validation"],
        output,
        epochs=epochs,
        rate=5e-4,
        batch=128,
        evaluations=12,
        patience=4,
        better="accuracy",
        seed=seed,
    )
    model.save_pretrained(output)
    tokens.save_pretrained(output)
    return output


def main() -> None:
    arguments = parser(__doc__)
    add_output(arguments, "pretrained")
    add_seed(arguments)
    arguments.add_argument("--epochs", type=float, default=EPOCHS)
    given = arguments.parse_args()
    pretrain(given.data, given.output, seed=given.seed, epochs=given.epochs)


if __name__ == "__main__":
    main()
