from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, save

from bunriwiki.artifacts.manifest import DamagedArtifactError
from runners.engines.onnx import OnnxEngine


def test_named_arrays_in_named_arrays_out(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("twice", "minus")]
    nodes = [helper.make_node("Add", ["x", "x"], ["twice"]), helper.make_node("Neg", ["x"], ["minus"])]
    graph = helper.make_graph(nodes, "test", [x], outputs)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "model.onnx")
    answer = OnnxEngine(tmp_path / "model.onnx", threads=1).run({"x": np.array([[1, 2]], dtype=np.float32)})
    assert {name: array.tolist() for name, array in answer.items()} == {"twice": [[2, 4]], "minus": [[-1, -2]]}


@pytest.mark.parametrize("content", [b"", b"no model", None])
def test_a_file_that_is_no_model_is_rejected(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "model.onnx"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DamagedArtifactError, match="cannot be loaded"):
        OnnxEngine(file, threads=1)
