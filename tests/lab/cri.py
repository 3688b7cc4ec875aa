"""What a kubelet asks of containerd, as far as a test needs it: a pod's sandbox by a runtime's name, over the real CRI socket.

The messages are written by hand: field numbers of CRI's api.proto, the same in v1alpha2 and v1.
"""

from __future__ import annotations

import re
from pathlib import Path

import grpc

from gpunode.lab.host import LabHost

SOCKET = "run/containerd/containerd.sock"
NODE = 2  # NamespaceMode: the host's network, which needs no CNI
SECONDS = 30.0


class CriError(Exception):
    """containerd refused; the message is its own."""


def sandbox_image(host: LabHost) -> str:
    """The image that this containerd starts every pod's sandbox from."""
    dump = host.run("containerd", "config", "dump").stdout
    found = re.search(r"^ *sandbox(?:_image)? = ['\"](\S+pause\S+)['\"]", dump, re.MULTILINE)
    assert found, "this containerd names no sandbox image"
    return found[1]


def run_sandbox(host: LabHost, name: str, handler: str = "") -> str:
    """Start a pod's sandbox with the runtime of this name (containerd's default for ""), and return its id. Raises CriError."""
    socket = f"unix:/proc/{host.command()[2]}/root/{SOCKET}"
    metadata = _field(1, name) + _field(2, name) + _field(3, "lab")
    linux = _field(2, _field(1, _field(1, NODE)))  # security context, name spaces, network
    request = _field(1, _field(1, metadata) + _field(8, linux)) + _field(2, handler)
    method = f"/runtime.{_version(host)}.RuntimeService/RunPodSandbox"
    with grpc.insecure_channel(socket) as channel:
        call = channel.unary_unary(method, request_serializer=None, response_deserializer=None)
        try:
            answer: bytes = call(request, timeout=SECONDS)
        except grpc.RpcError as error:
            raise CriError(error.details()) from None
    return answer[2:].decode()  # one field, a short text


def _version(host: LabHost) -> str:
    """`v1` came with containerd 1.6."""
    return "v1alpha2" if " 1.4." in host.run("containerd", "--version").stdout else "v1"


def _field(number: int, value: bytes | str | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def put(host: LabHost, path: str, source: Path) -> None:
    """Copy a file of this machine, which may be binary, into a host that is up."""
    Path(f"/proc/{host.command()[2]}/root{path}").write_bytes(source.read_bytes())
