"""The shapes of the profile's strings and numbers.

Most of them end up in package specifications, command lines and configuration files that root acts on. So each
shape names the characters it lets through, instead of the ones it keeps out, and none lets a leading dash through.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from gpunode.profile.text import quoted

VALUE_ERROR = "profile_value"


@dataclass(frozen=True)
class Format:
    """A string matched in full by ``pattern``.

    ``what`` is its name with the article; ``give`` is what to write instead of a wrong one.
    """

    pattern: str
    what: str
    give: str

    def check(self, value: str) -> str:
        """Return ``value``, or raise the error whose text the operator reads."""
        if not re.fullmatch(self.pattern, value):
            reason = f"{quoted(value)} is not {self.what}: give {self.give}"
            raise PydanticCustomError(VALUE_ERROR, "{reason}", {"reason": reason})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$"}


@dataclass(frozen=True)
class Between:
    """A whole number, ``least`` and ``most`` included; ``unit`` is what it counts, a blank in front."""

    least: int
    most: int
    unit: ClassVar[str] = ""

    def check(self, value: int) -> int:
        """Return ``value``, or raise the error whose text the operator reads."""
        if not self.least <= value <= self.most:
            reason = f"{quoted(value)} is out of range: give {self.least} to {self.most}{self.unit}"
            raise PydanticCustomError(VALUE_ERROR, "{reason}", {"reason": reason})
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {**handler(schema), "minimum": self.least, "maximum": self.most}


@dataclass(frozen=True)
class Seconds(Between):
    """A duration in whole seconds."""

    unit: ClassVar[str] = " seconds"


_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?"
_URL_PATH = r"(?:/[A-Za-z0-9._~%+,=:@-]*)*"
# A registry is told from a path by its dot, its port, or by being localhost: containerd adds no docker.io in front.
_REGISTRY = r"(?:localhost(?::[0-9]{1,5})?|[a-z0-9-]+(?:\.[a-z0-9-]+)+(?::[0-9]{1,5})?|[a-z0-9-]+:[0-9]{1,5})"
_IMAGE_PATH = r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*"
_IMAGE_TAG = r":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_IMAGE_DIGEST = r"@sha256:[0-9a-f]{64}"

DriverBranch = Annotated[str, Format(r"[0-9]{3}", "a driver branch", 'three digits, for example "580"')]
DriverVersion = Annotated[
    str,
    Format(r"[0-9]{3}(?:\.[0-9]{1,4}){1,2}", "a driver version", 'the exact version, for example "580.159.04"'),
]
CudaVersion = Annotated[
    str,
    Format(r"none|[0-9]{1,2}\.[0-9]{1,2}", "a CUDA version", 'major.minor, for example "13.0", or "none"'),
]
ToolkitVersion = Annotated[
    str,
    Format(r"[0-9]{1,3}(?:\.[0-9]{1,3}){2}", "a container toolkit version", 'the exact version, for example "1.20.0"'),
]
PluginVersion = Annotated[
    str,
    Format(
        r"v[0-9]{1,3}(?:\.[0-9]{1,3}){2}", "a device plugin version", 'the release with its v, for example "v0.20.0"'
    ),
]
Sha256 = Annotated[
    str,
    Format(r"[0-9A-Fa-f]{64}", "a SHA-256 sum", "its 64 hexadecimal digits, as sha256sum prints them"),
    AfterValidator(str.lower),
]
Fingerprint = Annotated[
    str,
    Format(r"[0-9A-Fa-f]{40}", "a key fingerprint", "its 40 hexadecimal digits without spaces"),
    AfterValidator(str.upper),
]
HttpsUrl = Annotated[
    str,
    Format(
        rf"https://{_HOST}{_URL_PATH}",
        "an https address",
        'one without user name or query, for example "https://mirror.example.com/nvidia"',
    ),
]
ProxyUrl = Annotated[
    str,
    Format(
        rf"https?://{_HOST}/?",
        "a proxy's address",
        'http or https, host and port without user name, for example "http://proxy.example.com:3128"',
    ),
]
AbsolutePath = Annotated[
    str,
    Format(
        r"(?!(?:.*/)?\.\.(?:/|$))/(?:[A-Za-z0-9._@%+:=,~/-]*[A-Za-z0-9._@%+:=,~-])",
        "an absolute path",
        'one from / on, without .. and blanks, for example "/etc/containerd/config.toml"',
    ),
]
ImageReference = Annotated[
    str,
    Format(
        rf"{_REGISTRY}(?:/{_IMAGE_PATH})+(?:{_IMAGE_TAG}(?:{_IMAGE_DIGEST})?|{_IMAGE_DIGEST})",
        "an image reference",
        'registry, path and tag (or digest), for example "registry.example.com/k8s-device-plugin:v0.20.0"',
    ),
]
RuntimeName = Annotated[
    str,
    Format(
        rf"(?!runc$){_LABEL}",
        "a name for the nvidia runtime",
        'lower-case letters, digits and dashes, but not "runc", for example "nvidia"',
    ),
]
NamespaceName = Annotated[
    str, Format(_LABEL, "a namespace", 'lower-case letters, digits and dashes, for example "kube-system"')
]
ConfigName = Annotated[
    str, Format(_LABEL, "a configuration's name", 'lower-case letters, digits and dashes, for example "inference"')
]
NodeName = Annotated[
    str,
    Format(
        rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*",
        "a node name",
        'lower-case letters, digits, dashes and dots, as "kubectl get nodes" shows it',
    ),
]
ContextName = Annotated[
    str,
    Format(
        r"[A-Za-z0-9][A-Za-z0-9@:/._-]{0,252}",
        "a kubeconfig context",
        'its name as "kubectl config get-contexts" shows it',
    ),
]
