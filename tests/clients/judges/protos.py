"""Messages and methods as they go over the wire: of a .proto that protoc compiles, and of the descriptors of SDKs."""

import importlib
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc_tools
from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

_WELL_KNOWN = str(Path(grpc_tools.__file__).parent / "_proto")
_SDKS = {
    "tritonclient": ("tritonclient.grpc.service_pb2", "tritonclient.grpc.model_config_pb2"),
    "kserve": ("kserve.protocol.grpc.grpc_predict_v2_pb2",),
}


def of_file(path: str) -> dict[str, Any]:
    """A .proto file. No pool gets it: the SDKs have messages of the same names."""
    with tempfile.NamedTemporaryFile() as compiled:
        folder = str(Path(path).parent)
        command = ["protoc", f"-I{folder}", f"-I{_WELL_KNOWN}", f"--descriptor_set_out={compiled.name}", path]
        assert protoc.main(command) == 0
        files = FileDescriptorSet.FromString(Path(compiled.name).read_bytes()).file
    return _described(files)


def of_sdk(name: str) -> dict[str, Any]:
    """What an SDK talks. Only one of them fits into a process."""
    files = []
    for module in _SDKS[name]:
        file = FileDescriptorProto()
        importlib.import_module(module).DESCRIPTOR.CopyToProto(file)
        files.append(file)
    return _described(files)


def _described(files: Iterable[FileDescriptorProto]) -> dict[str, Any]:
    messages: dict[str, Any] = {}
    methods: dict[str, Any] = {}
    for file in files:
        _add(messages, f".{file.package}", file.message_type, file.enum_type)
        for service in file.service:
            for one in service.method:
                ends = [one.input_type, one.output_type, one.client_streaming, one.server_streaming]
                methods[f"{file.package}.{service.name}/{one.name}"] = ends
    return {"messages": messages, "methods": methods}


def _add(
    messages: dict[str, Any],
    scope: str,
    added: Iterable[DescriptorProto],
    enums: Iterable[EnumDescriptorProto],
) -> None:
    """By full name: of a message each field as number, type, label, type name and group; of an enum its values."""
    for enum in enums:
        messages[f"{scope}.{enum.name}"] = {value.name: value.number for value in enum.value}
    for message in added:
        name = f"{scope}.{message.name}"
        groups = [one.name for one in message.oneof_decl]
        messages[name] = {
            field.name: [
                field.number,
                field.type,
                field.label,
                field.type_name,
                groups[field.oneof_index] if field.HasField("oneof_index") else "",
            ]
            for field in message.field
        }
        _add(messages, name, message.nested_type, message.enum_type)
