from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.types import ColSpec, Schema

from bunriwiki.artifacts.answers import Classification
from bunriwiki.artifacts.golden import read_golden_texts
from model_sync.errors import RejectedError
from model_sync.importing.compilers.sentiment import LABELS, package_sentiment
from runners.sentiment import Sentiment
from tests.model_sync.importing.compilers.conftest import NAMED, MakePyfunc

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]  # of mlflow's own code

TEXTS = ["정말 재미있어요", "돈이 아깝다", "그냥"]
SCORES = "return pd.DataFrame([{'중립/복합': 0.1, '긍정': 0.7, 'label': text, '부정': 0.2} for text in texts])"


@pytest.mark.parametrize("inputs", [NAMED, Schema([ColSpec("string")])], ids=["a column of any name", "a list"])
def test_a_pyfunc_with_one_string_input_is_packaged(inputs: Schema, tiny_pyfunc: MakePyfunc, tmp_path: Path) -> None:
    output = tmp_path / "version"
    manifest = package_sentiment(tiny_pyfunc(SCORES, inputs), output, version="v1", source="a test", golden=TEXTS)
    manifest.verify(output)
    assert [label.name for label in manifest.labels] == list(LABELS)
    assert read_golden_texts(output)[0].details == {"긍정": 0.7, "부정": 0.2, "중립/복합": 0.1}
    assert not list(output.rglob("__pycache__"))
    served = Sentiment(output)
    served.warm_up()
    [answer, *_] = served.predict(TEXTS).results
    assert isinstance(answer, Classification)
    assert answer.label == "긍정"


def test_a_pyfunc_with_other_labels_keeps_them(tiny_pyfunc: MakePyfunc, tmp_path: Path) -> None:
    folder = tiny_pyfunc("return [{'분노': 0.25, '기쁨': 0.75} for _ in texts]")
    manifest = package_sentiment(folder, tmp_path / "version", version="v1", source="a test", golden=TEXTS)
    assert [label.name for label in manifest.labels] == ["분노", "기쁨"]
    Sentiment(tmp_path / "version").warm_up()


@pytest.mark.parametrize(
    "inputs",
    [None, Schema([ColSpec("string", "a"), ColSpec("string", "b")]), Schema([ColSpec("double", "a")])],
    ids=["none", "two columns", "numbers"],
)
def test_another_signature_is_rejected(inputs: Schema | None, tiny_pyfunc: MakePyfunc, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="one input is required, a string column of any name or a list of strings"):
        package_sentiment(tiny_pyfunc(SCORES, inputs), tmp_path / "version", version="v1", source="a test", golden=TEXTS)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('no such weights')", "the pyfunc fails on 3 texts: no such weights"),
        ("return [{'label': '긍정'} for _ in texts]", "a row for each text is required, with a column of scores per label"),
        ("return [{'a': 0.5, 'b': 0.5}]", "answers 3 texts with 1 rows"),
        ("return [{'a': 3.1, 'b': -2.0} for _ in texts]", "scores are not probabilities"),
        ("return [{'a': 60.0, 'b': 40.0} for _ in texts]", "scores are not probabilities"),
        ("return [{'a': float('nan'), 'b': 1.0} for _ in texts]", "scores are not probabilities"),
        ("return 'good'", "its answer is not a table"),
    ],
)
def test_a_pyfunc_with_invalid_answers_is_rejected(body: str, reason: str, tiny_pyfunc: MakePyfunc, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match=reason):
        package_sentiment(tiny_pyfunc(body), tmp_path / "version", version="v1", source="a test", golden=TEXTS)


def test_a_pyfunc_that_cannot_be_loaded_is_rejected(tiny_pyfunc: MakePyfunc, tmp_path: Path) -> None:
    folder = tiny_pyfunc(SCORES)
    (folder / "model.py").write_text("import a_library_of_theirs", encoding="utf-8")
    with pytest.raises(RejectedError, match=r"the pyfunc cannot be loaded: .*a_library_of_theirs"):
        package_sentiment(folder, tmp_path / "version", version="v1", source="a test", golden=TEXTS)
