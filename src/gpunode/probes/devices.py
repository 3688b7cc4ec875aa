"""How the GPU probes reach the driver's user-space libraries, and the one shape in which they tell a failure."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from typing import Any


class ProbeError(Exception):
    """A call into a driver library that failed.

    `code` is the library's own number, or None where the call could not be made at all.
    """

    def __init__(self, call: str, code: int | None, name: str, message: str) -> None:
        super().__init__(f"{call}: {name}: {message}")
        self.call = call
        self.code = code
        self.name = name
        self.message = message

    def document(self) -> dict[str, Any]:
        """The failure as the probe's JSON document."""
        error = {"code": self.code, "name": self.name, "message": self.message, "call": self.call}
        return {"error": error}


def load(soname: str) -> ctypes.CDLL:
    """Load a library by the name the dynamic loader knows. Raises ProbeError LIBRARY_NOT_FOUND, in the loader's words."""
    try:
        return ctypes.CDLL(soname)
    except OSError as error:
        raise ProbeError("dlopen", None, "LIBRARY_NOT_FOUND", str(error)) from None


def function(
    library: ctypes.CDLL, name: str, argtypes: Sequence[Any], restype: Any = ctypes.c_int
) -> Callable[..., Any]:
    """A function of the library with its prototype declared: undeclared arguments would be cut to 32 bits.

    Raises ProbeError FUNCTION_NOT_FOUND, which a driver older than the function gives.
    """
    try:
        found = library[name]
    except AttributeError as error:
        raise ProbeError(name, None, "FUNCTION_NOT_FOUND", str(error)) from None
    found.argtypes = list(argtypes)
    found.restype = restype
    return found


def report(probe: Callable[[], dict[str, Any]]) -> int:
    """Print the probe's result, or its failure, as one JSON document; returns the exit status, 0 or 1."""
    try:
        result = probe()
    except ProbeError as error:
        result = error.document()
    print(json.dumps(result))
    return 0 if "error" not in result and result.get("passed", True) else 1
