"""Compiles a published artifact into a version folder: a program for the sandbox.

    python -m model_sync.importing.compilers.job MODEL FOLDER OUTPUT --version V --source URI --reference DIR

It reports its progress as `bunriwiki/artifacts/programs.py` says: `{"phase": "load", "seconds": 1.2}` after each phase, and
`{"done": true}` at the end. OUTPUT must not exist before, and exists after `done` only. The program writes below the parent of
OUTPUT only, and uses no network.
"""

from __future__ import annotations

import argparse
import errno
import os
import pickle
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bunriwiki.artifacts.golden_inputs import golden_photos, golden_texts
from bunriwiki.artifacts.manifest import MODELS, DamagedArtifactError
from bunriwiki.artifacts.programs import ENVIRONMENT_ERROR, REJECTED, ProgressWriter
from bunriwiki.artifacts.reference import REFERENCE, ReferencePhoto, ReferenceText
from bunriwiki.artifacts.samples import read_samples
from model_sync.errors import RejectedError
from model_sync.importing.compilers.detector_options import DetectorOptions
from model_sync.importing.compilers.phases import Phase
from model_sync.importing.compilers.precompiled import import_precompiled
from model_sync.importing.published import (
    ClassifierFolder,
    ClassifierGraph,
    Compiled,
    DetectorGraph,
    DetectorWeights,
    Pyfunc,
    find_artifact,
)

OFFLINE = {  # the libraries must not download, install or report anything
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_OFFLINE": "1",
    "ULTRALYTICS_SAFE_LOAD": "1",
    "YOLO_AUTOINSTALL": "false",
    "YOLO_OFFLINE": "true",
}
SCRATCH = ("HF_HOME", "MPLCONFIGDIR", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "YOLO_CONFIG_DIR")  # where libraries write files


# A compiler is imported only when it is needed: each imports large libraries, and a precompiled version needs none.
# ruff: noqa: PLC0415
def make_version(model: str, folder: Path, output: Path, *, version: str, source: str, reference: Path, phase: Phase) -> None:
    """Compile the artifact for `model` in `folder` into the version folder `output`.

    Golden samples are recorded on inputs of the reference set in the folder `reference`, unless the artifact contains golden
    samples. Raises RejectedError, DamagedArtifactError, and any other exception: the artifact may run third-party code.
    """
    match find_artifact(model, folder):
        case Compiled(compiled):
            with phase("import precompiled"):
                import_precompiled(compiled, output, model=model, version=version, source=source)
        case DetectorWeights(file, architecture, options_file):
            options = DetectorOptions.read(options_file)
            with phase("import"):
                from model_sync.importing.compilers.yolo import compile_yolo

                _limit_threads()
            photos = golden_photos(reference)
            compile_yolo(
                file,
                output,
                version=version,
                source=source,
                golden=photos,
                size=options.size,
                uncertain_below=options.uncertain_below,
                architecture=architecture,
                phase=phase,
            )
        case DetectorGraph(file, options_file):
            options = DetectorOptions.read(options_file).of_graph()
            with phase("import"):
                from model_sync.importing.compilers.yolo_onnx import compile_yolo_onnx

                _limit_threads()
            photos = golden_photos(reference)
            compile_yolo_onnx(
                file,
                output,
                version=version,
                source=source,
                golden=photos,
                uncertain_below=options.uncertain_below,
                phase=phase,
            )
        case ClassifierFolder(weights, tokenizer):
            with phase("import"):
                from model_sync.importing.compilers.kcbert import compile_kcbert

                _limit_threads()
            texts = golden_texts(reference)
            compile_kcbert(weights, output, version=version, source=source, golden=texts, tokenizer=tokenizer, phase=phase)
        case ClassifierGraph(file, config, tokenizer):
            with phase("import"):
                from model_sync.importing.compilers.kcbert_onnx import compile_kcbert_onnx

                _limit_threads()
            texts = golden_texts(reference)
            compile_kcbert_onnx(
                file, output, config=config, tokenizer=tokenizer, version=version, source=source, golden=texts, phase=phase
            )
        case Pyfunc(pyfunc):
            with phase("import"):
                from model_sync.importing.compilers.sentiment import package_sentiment
            texts = golden_texts(reference)
            package_sentiment(pyfunc, output, version=version, source=source, golden=texts, phase=phase)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m model_sync.importing.compilers.job", description="Compile a published artifact."
    )
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("folder", type=Path, help="the published artifact")
    parser.add_argument("output", type=Path, help="the version folder to create")
    parser.add_argument("--version", required=True)
    parser.add_argument("--source", required=True, help="where it was published")
    parser.add_argument("--reference", type=Path, required=True, help="a folder with a reference set")
    given = parser.parse_args()
    if given.output.exists():
        parser.error(f"{given.output} exists already")
    progress = ProgressWriter()
    try:
        read_samples(given.reference / REFERENCE, ReferencePhoto if given.model == "yolo" else ReferenceText)
    except DamagedArtifactError as error:
        progress.write(environment_error=str(error))
        return ENVIRONMENT_ERROR
    with tempfile.TemporaryDirectory(prefix=".import-", dir=given.output.parent) as scratch:
        os.environ |= OFFLINE | dict.fromkeys(SCRATCH, scratch)
        tempfile.tempdir = None  # cached by now: reread TMPDIR
        sys.dont_write_bytecode = True  # bytecode in a pyfunc's folder would become a file of the version
        try:
            make_version(
                given.model,
                given.folder,
                given.output,
                version=given.version,
                source=given.source,
                reference=given.reference,
                phase=_reporting(progress),
            )
        except (Exception, SystemExit) as error:  # third-party code may raise anything
            traceback.print_exc()
            shutil.rmtree(given.output, ignore_errors=True)
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                progress.write(environment_error=os.strerror(errno.ENOSPC))
                return ENVIRONMENT_ERROR
            progress.write(rejected=_reason(error))
            return REJECTED
    progress.write(done=True)
    return 0


def _reason(error: BaseException) -> str:
    ours = isinstance(error, RejectedError | DamagedArtifactError | pickle.UnpicklingError)
    return str(error) if ours else f"{type(error).__name__}: {error}"


def _reporting(progress: ProgressWriter) -> Phase:
    @contextmanager
    def phase(name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        progress.write(phase=name, seconds=round(time.monotonic() - started, 3))

    return phase


def _limit_threads() -> None:
    import torch

    if threads := os.environ.get("OMP_NUM_THREADS"):
        torch.set_num_threads(int(threads))


if __name__ == "__main__":
    sys.exit(main())
