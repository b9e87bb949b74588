"""The `tokenizer.json` of a version, from what lies in a Hugging Face folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from model_sync.importing.compilers import torchvision_ops  # noqa: F401  (first: transformers needs what it declares)

# isort: split

from transformers import BertTokenizerFast

from bunriwiki.artifacts.manifest import DamagedArtifactError

TOKENIZER = "tokenizer.json"


def write_tokenizer(folder: Path, output: Path) -> Path:
    """Put the tokenizer of `folder` into `output`: its `tokenizer.json`, or one made from `vocab.txt` as transformers does.

    Raises DamagedArtifactError when there is neither: transformers would make do with an empty vocabulary.
    """
    if (folder / TOKENIZER).is_file():
        return shutil.copyfile(folder / TOKENIZER, output / TOKENIZER)
    if not (folder / "vocab.txt").is_file():
        raise DamagedArtifactError(
            f"{folder.name} has no {TOKENIZER} and no vocab.txt: without it every text would look the same"
        )
    BertTokenizerFast.from_pretrained(folder, local_files_only=True).backend_tokenizer.save(str(output / TOKENIZER))
    return output / TOKENIZER
