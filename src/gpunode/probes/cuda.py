"""Adds two vectors on a GPU and verifies every element of the sum: `python3 -m gpunode.probes.cuda [ORDINAL]`.

Prints one JSON document and exits 0, or 1 when a call failed or an element is wrong. Only the driver's own library is
needed, no CUDA toolkit. Run it in a child process with a deadline: a broken GPU can block these calls in the kernel.
"""

from __future__ import annotations

import argparse
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import (
    CDLL,
    POINTER,
    Array,
    Structure,
    addressof,
    byref,
    c_char_p,
    c_float,
    c_int,
    c_size_t,
    c_ubyte,
    c_uint,
    c_uint64,
    c_void_p,
    create_string_buffer,
    sizeof,
)
from pathlib import Path
from typing import Any

from gpunode.probes.devices import ProbeError, function, load, report

PTX = Path(__file__).with_name("vector_add.ptx").read_bytes()
ELEMENTS = 50_000
THREADS = 256
BLOCKS = -(-ELEMENTS // THREADS)

_NAME_BYTES = 256
_UNWRITTEN = -1.0  # no sum is negative: an element that no thread wrote shows as wrong


class _Uuid(Structure):  # CUuuid
    _fields_ = (("bytes", c_ubyte * 16),)


# The driver's entry points by their exported names, whose suffix tells the 64-bit variants. A CUdevice is an int, a
# CUdeviceptr 64 bits wide; contexts, modules, functions and streams are opaque pointers.
_PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(c_int), c_int),
    "cuDeviceGetName": (c_char_p, c_int, c_int),
    "cuDeviceGetUuid": (POINTER(_Uuid), c_int),
    "cuDevicePrimaryCtxRetain": (POINTER(c_void_p), c_int),
    "cuDevicePrimaryCtxRelease_v2": (c_int,),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuModuleLoadData": (POINTER(c_void_p), c_char_p),
    "cuModuleGetFunction": (POINTER(c_void_p), c_void_p, c_char_p),
    "cuMemAlloc_v2": (POINTER(c_uint64), c_size_t),
    "cuMemcpyHtoD_v2": (c_uint64, c_void_p, c_size_t),
    "cuMemcpyDtoH_v2": (c_void_p, c_uint64, c_size_t),
    "cuLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, POINTER(c_void_p), POINTER(c_void_p)),
    "cuGetErrorName": (c_int, POINTER(c_char_p)),
    "cuGetErrorString": (c_int, POINTER(c_char_p)),
}


class _Cuda:
    """The driver API's calls, each of which raises ProbeError where the driver does not answer 0."""

    def __init__(self, library: CDLL) -> None:
        self._library = library

    def call(self, name: str, *arguments: Any) -> None:
        code: int = function(self._library, name, _PROTOTYPES[name])(*arguments)
        if code != 0:
            error = self._text("cuGetErrorName", code) or f"CUDA_ERROR_{code}"
            message = self._text("cuGetErrorString", code) or "the driver has no text for this code"
            raise ProbeError(name, code, error, message)

    def _text(self, name: str, code: int) -> str:
        text = c_char_p()
        function(self._library, name, _PROTOTYPES[name])(code, byref(text))
        return (text.value or b"").decode()

    def device(self, ordinal: int) -> c_int:
        device = c_int()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", byref(device), ordinal)
        return device

    def identity(self, device: c_int) -> dict[str, Any]:
        name, identifier, version = create_string_buffer(_NAME_BYTES), _Uuid(), c_int()
        self.call("cuDeviceGetName", name, _NAME_BYTES, device)
        self.call("cuDeviceGetUuid", byref(identifier), device)
        self.call("cuDriverGetVersion", byref(version))
        return {
            "device": name.value.decode(),
            "uuid": f"GPU-{uuid.UUID(bytes=bytes(identifier.bytes))}",
            "driver_api": version.value,
        }

    @contextmanager
    def context(self, device: c_int) -> Iterator[None]:
        """The device's primary context; giving it back frees the memory and the modules in it, after a fault too."""
        context = c_void_p()
        self.call("cuDevicePrimaryCtxRetain", byref(context), device)
        try:
            self.call("cuCtxSetCurrent", context)
            yield
        finally:
            # its own failure must not hide the one that led here
            function(self._library, "cuDevicePrimaryCtxRelease_v2", (c_int,))(device)

    def kernel(self, ptx: bytes) -> c_void_p:
        module, kernel = c_void_p(), c_void_p()
        self.call("cuModuleLoadData", byref(module), ptx)
        self.call("cuModuleGetFunction", byref(kernel), module, b"vector_add")
        return kernel

    def vector(self, values: Array[c_float]) -> c_uint64:
        """A new device vector that holds the values."""
        vector = c_uint64()
        self.call("cuMemAlloc_v2", byref(vector), sizeof(values))
        self.call("cuMemcpyHtoD_v2", vector, values, sizeof(values))
        return vector

    def launch(self, kernel: c_void_p, blocks: int, threads: int, *parameters: c_uint64 | c_uint) -> None:
        """Run the kernel to its end. The driver is given the parameters' addresses: they live until it has finished."""
        addresses = (c_void_p * len(parameters))(*(addressof(parameter) for parameter in parameters))
        self.call("cuLaunchKernel", kernel, blocks, 1, 1, threads, 1, 1, 0, None, addresses, None)
        self.call("cuCtxSynchronize")


def run_vector_add(
    ptx: bytes = PTX, *, ordinal: int = 0, elements: int = ELEMENTS, blocks: int = BLOCKS, threads: int = THREADS
) -> dict[str, Any]:
    """Add vectors of ELEMENTS floats with the kernel `vector_add` of `ptx` on GPU `ordinal` and count wrong elements.

    `elements` is the length that the kernel is told; `blocks` times `threads` should reach it. The values are whole
    numbers below 2**24, so their sums are exact. Raises ProbeError with the CUDA call that failed.
    """
    cuda = _Cuda(load("libcuda.so.1"))
    device = cuda.device(ordinal)
    identity = cuda.identity(device)
    a = (c_float * ELEMENTS)(*range(ELEMENTS))
    b = (c_float * ELEMENTS)(*range(1, 2 * ELEMENTS, 2))
    c = (c_float * ELEMENTS)(*[_UNWRITTEN] * ELEMENTS)
    with cuda.context(device):
        kernel = cuda.kernel(ptx)
        vectors = [cuda.vector(values) for values in (a, b, c)]
        cuda.launch(kernel, blocks, threads, *vectors, c_uint(elements))
        cuda.call("cuMemcpyDtoH_v2", c, vectors[2], sizeof(c))
    wrong = sum(found != x + y for x, y, found in zip(a, b, c, strict=True))
    shape = {"elements": elements, "blocks": blocks, "threads": threads}
    return {**shape, "wrong": wrong, **identity, "passed": wrong == 0}


def main(arguments: list[str]) -> int:
    """Run the probe on the GPU with the given ordinal, by default the first; returns the exit status, 0 or 1."""
    parser = argparse.ArgumentParser(prog="gpunode.probes.cuda")
    parser.add_argument("ordinal", type=int, nargs="?", default=0, help="CUDA's number of the GPU")
    ordinal = parser.parse_args(arguments).ordinal
    return report(lambda: run_vector_add(ordinal=ordinal))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
