"""Evaluate the bundled models in `models/`, with the runners' own pre- and post-processing.

    python -m training.evaluate --data DIR [--only yolo] [--write] [--draw PHOTOS]

Each model is evaluated on data that training never saw: `training.photos`, `training.comments`, `training.reviews`. The
figures are compared with those in the model's card, or written into it. The slowest and the worst examples are written
to `<output>/<model>/`.
"""

from __future__ import annotations

from pathlib import Path

from bunriwiki.artifacts.manifest import MODELS
from training import cards, judge_photos
from training.arguments import add_output, needed, parser
from training.cards import Report
from training.drawing import draw_all
from training.judge_texts import judge_kcbert, judge_sentiment


def judge(name: str, folder: Path, data: Path, output: Path) -> Report:
    """The evaluation of the version in `folder`; drawings are written to `output`."""
    if name == "yolo":
        return judge_photos.judge_yolo(folder, data, output)
    return judge_kcbert(folder, data) if name == "kcbert" else judge_sentiment(folder, data)


def main() -> None:
    arguments = parser(__doc__)
    add_output(arguments, "evaluation")
    arguments.add_argument("--models", type=Path, default=Path("models"), help="folder of the models (default: %(default)s)")
    arguments.add_argument("--only", choices=MODELS, help="evaluate this model only")
    arguments.add_argument("--write", action="store_true", help="write the figures into the cards")
    arguments.add_argument("--draw", type=Path, help="folder of photos: draw what the detector finds in them")
    given = arguments.parse_args()
    if given.draw:
        needed(given.draw, "--draw requires a folder of photos")

    for name in [given.only] if given.only else MODELS:
        output = given.output / name
        output.mkdir(parents=True, exist_ok=True)
        report = judge(name, given.models / name, given.data, output)
        (output / "examples.md").write_text(report.examples + "\n", encoding="utf-8")
        card = given.models / name / "README.md"
        section = report.section()
        print(f"\n# {name}\n\n{section}\n")
        if given.write:
            cards.write(card, section)
        elif cards.read(card) == section:
            print(f"{card} has the same figures.")
        else:
            print(f"{card} has other figures:\n\n{cards.read(card)}")
        print(f"The slowest and the worst examples are in {output}.")
    if given.draw:
        draw_all(given.models / "yolo", given.draw, given.output / "drawn")


if __name__ == "__main__":
    main()
