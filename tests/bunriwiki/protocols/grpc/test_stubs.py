"""The generated files are current, and their messages are compatible with those of other implementations."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from bunriwiki.protocols.grpc import open_inference_pb2 as pb
from bunriwiki.testing.paths import ROOT


def test_they_are_current(tmp_path: Path) -> None:
    proto = "bunriwiki/protocols/grpc/open_inference.proto"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--python_out={tmp_path}", f"--pyi_out={tmp_path}"]
    subprocess.run([*command, f"--grpc_python_out={tmp_path}", proto], cwd=ROOT, check=True)
    for made in sorted((tmp_path / "bunriwiki" / "protocols" / "grpc").iterdir()):
        assert made.read_text() == (ROOT / "bunriwiki" / "protocols" / "grpc" / made.name).read_text(), (
            f"{made.name}: run `make stubs`"
        )
    assert importlib.metadata.version("grpcio") == importlib.metadata.version("grpcio-tools")


def fields(message: descriptor_pb2.DescriptorProto, prefix: str = "") -> dict[str, tuple[object, ...]]:
    """Every field's number, type and label, by its full name."""
    name = f"{prefix}{message.name}"
    found: dict[str, tuple[object, ...]] = {
        f"{name}.{field.name}": (field.number, field.type, field.label, field.type_name) for field in message.field
    }
    for nested in message.nested_type:
        found |= fields(nested, f"{name}.")
    return found


@pytest.mark.integration
def test_they_are_compatible_with_tritons() -> None:
    [client] = (ROOT / ".venv-clients" / "lib").glob("python3.*/site-packages/tritonclient/grpc")
    source = (client / "service_pb2.py").read_text()
    serialized = re.search(r"AddSerializedFile\((b'.*?')\)\n", source, re.DOTALL)
    assert serialized
    theirs, ours = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    theirs.ParseFromString(eval(serialized.group(1)))  # noqa: S307  (a literal of the installed package)
    pb.DESCRIPTOR.CopyToProto(ours)
    their_fields = {name: field for message in theirs.message_type for name, field in fields(message).items()}
    our_fields = {name: field for message in ours.message_type for name, field in fields(message).items()}
    assert {name: their_fields.get(name) for name in our_fields} == our_fields
    their_methods = {method.name: method for method in theirs.service[0].method}
    for method in ours.service[0].method:
        other = their_methods[method.name]
        assert (method.input_type, method.output_type) == (other.input_type, other.output_type)
        assert (method.client_streaming, method.server_streaming) == (other.client_streaming, other.server_streaming)
