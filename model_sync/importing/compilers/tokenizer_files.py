"""Writes the `tokenizer.json` of a version, from the tokenizer in a Hugging Face folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from model_sync.importing.compilers import torchvision_ops  # noqa: F401  (before transformers, which needs the operators that it declares)

# isort: split

from transformers import BertTokenizerFast

from bunriwiki.artifacts.manifest import DamagedArtifactError

TOKENIZER = "tokenizer.json"


def write_tokenizer(folder: Path, output: Path) -> Path:
    """Write the tokenizer of `folder` to `output`: its `tokenizer.json`, or one converted from its `vocab.txt`.

    Raises DamagedArtifactError if there is neither: transformers would use an empty vocabulary without an error.
    """
    if (folder / TOKENIZER).is_file():
        return shutil.copyfile(folder / TOKENIZER, output / TOKENIZER)
    if not (folder / "vocab.txt").is_file():
        raise DamagedArtifactError(f"{folder.name} has no tokenizer: publish its {TOKENIZER} or vocab.txt with it")
    BertTokenizerFast.from_pretrained(folder, local_files_only=True).backend_tokenizer.save(str(output / TOKENIZER))
    return output / TOKENIZER
