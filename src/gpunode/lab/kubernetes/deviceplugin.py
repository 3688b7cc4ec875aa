"""The kubelet's device plugin API, `v1beta1`, from its published field numbers, without generated code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FOLDER = "/var/lib/kubelet/device-plugins"
KUBELET_SOCKET = f"{FOLDER}/kubelet.sock"
VERSION = "v1beta1"
HEALTHY = "Healthy"

_REGISTRATION, _PLUGIN = f"{VERSION}.Registration", f"{VERSION}.DevicePlugin"

# Message → its fields in the order of their numbers, which begin at 1. A type is a scalar's name, another message's, or
# `map` (of text to text); `*` marks a repeated field.
_MESSAGES: dict[str, dict[str, str]] = {
    "Empty": {},
    "DevicePluginOptions": {"pre_start_required": "bool", "get_preferred_allocation_available": "bool"},
    "RegisterRequest": {
        "version": "string",
        "endpoint": "string",
        "resource_name": "string",
        "options": "DevicePluginOptions",
    },
    "NUMANode": {"ID": "int64"},
    "TopologyInfo": {"nodes": "*NUMANode"},
    "Device": {"ID": "string", "health": "string", "topology": "TopologyInfo"},
    "ListAndWatchResponse": {"devices": "*Device"},
    "ContainerAllocateRequest": {"devices_ids": "*string"},
    "AllocateRequest": {"container_requests": "*ContainerAllocateRequest"},
    "Mount": {"container_path": "string", "host_path": "string", "read_only": "bool"},
    "DeviceSpec": {"container_path": "string", "host_path": "string", "permissions": "string"},
    "ContainerAllocateResponse": {
        "envs": "map",
        "mounts": "*Mount",
        "devices": "*DeviceSpec",
    },
    "AllocateResponse": {"container_responses": "*ContainerAllocateResponse"},
}

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {"bool": _Field.TYPE_BOOL, "string": _Field.TYPE_STRING, "int64": _Field.TYPE_INT64}


def _add_field(message: descriptor_pb2.DescriptorProto, number: int, name: str, type_name: str) -> None:
    field = message.field.add(name=name, number=number, label=_Field.LABEL_OPTIONAL)
    if type_name.startswith("*") or type_name == "map":
        field.label = _Field.LABEL_REPEATED
    if type_name == "map":
        entry = message.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        _add_field(entry, 1, "key", "string")
        _add_field(entry, 2, "value", "string")
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{VERSION}.{message.name}.{entry.name}"
        return
    plain = type_name.removeprefix("*")
    if plain in _SCALARS:
        field.type = _SCALARS[plain]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{VERSION}.{plain}"


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="deviceplugin.proto", package=VERSION, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, type_name) in enumerate(fields.items(), start=1):
            _add_field(message, number, field, type_name)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{VERSION}.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()
Empty, DevicePluginOptions = _CLASSES["Empty"], _CLASSES["DevicePluginOptions"]
RegisterRequest, Device = _CLASSES["RegisterRequest"], _CLASSES["Device"]
ListAndWatchResponse = _CLASSES["ListAndWatchResponse"]
AllocateRequest, AllocateResponse = _CLASSES["AllocateRequest"], _CLASSES["AllocateResponse"]


def _serve(server: grpc.Server, service: str, handlers: dict[str, Any]) -> None:
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


def _unary(function: Callable[[Any, Any], Any], request: Any) -> Any:
    return grpc.unary_unary_rpc_method_handler(
        function, request.FromString, lambda message: message.SerializeToString()
    )


def serve_registration(server: grpc.Server, register: Callable[[Any, Any], Any]) -> None:
    """Offer the kubelet's `Registration` service: `register(request, context)` answers `Empty`."""
    _serve(server, _REGISTRATION, {"Register": _unary(register, RegisterRequest)})


def serve_plugin(server: grpc.Server, watch: Callable[[Any, Any], Any], allocate: Callable[[Any, Any], Any]) -> None:
    """Offer `DevicePlugin`: `watch` yields `ListAndWatchResponse`, `allocate` answers `AllocateResponse`."""
    stream = grpc.unary_stream_rpc_method_handler(watch, Empty.FromString, lambda message: message.SerializeToString())
    options = _unary(lambda _request, _context: DevicePluginOptions(), Empty)
    _serve(
        server,
        _PLUGIN,
        {
            "GetDevicePluginOptions": options,
            "ListAndWatch": stream,
            "Allocate": _unary(allocate, AllocateRequest),
        },
    )


def register(socket: str, endpoint: str, resource: str) -> None:
    """Register a plugin that serves on `endpoint` (a file beside the socket); raises grpc.RpcError."""
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        call = channel.unary_unary(f"/{_REGISTRATION}/Register", lambda m: m.SerializeToString(), Empty.FromString)
        call(
            RegisterRequest(version=VERSION, endpoint=endpoint, resource_name=resource), timeout=10, wait_for_ready=True
        )


def list_and_watch(channel: grpc.Channel) -> Any:
    """The plugin's stream of `ListAndWatchResponse`; iterating raises grpc.RpcError when the plugin goes away."""
    method = f"/{_PLUGIN}/ListAndWatch"
    call = channel.unary_stream(method, lambda m: m.SerializeToString(), ListAndWatchResponse.FromString)
    return call(Empty(), wait_for_ready=True)


def allocate(channel: grpc.Channel, devices: list[str]) -> Any:
    """What a container needs for these devices, a `ContainerAllocateResponse`; raises grpc.RpcError."""
    call = channel.unary_unary(f"/{_PLUGIN}/Allocate", lambda m: m.SerializeToString(), AllocateResponse.FromString)
    request = AllocateRequest()
    request.container_requests.add().devices_ids.extend(devices)
    return call(request, timeout=10).container_responses[0]
