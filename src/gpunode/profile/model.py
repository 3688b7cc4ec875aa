"""The profile's model. Documentation, JSON Schema and error messages come from what stands here.

A field's description says what the key means; ``unset`` in it says what happens where an optional key is left out.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gpunode.profile.formats import (
    AbsolutePath,
    ContextName,
    CudaVersion,
    DriverBranch,
    DriverVersion,
    Fingerprint,
    HttpsUrl,
    ImageReference,
    NamespaceName,
    NodeName,
    PluginVersion,
    ProxyUrl,
    RuntimeName,
    Seconds,
    Sha256,
    ToolkitVersion,
)
from gpunode.profile.rules import RULES, Violation

RULE_ERROR = "profile_rule"
SMOKE_IMAGE = "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0"


def _key(description: str, default: Any = None) -> Any:
    return Field(default=default, description=description)


def _table(section: type[BaseModel], description: str) -> Any:
    return Field(default_factory=section, description=description)


class Section(BaseModel):
    """What every table shares: unknown keys are refused, types are not converted, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Runfile(Section):
    """Which runfile is used with `source = "runfile"`. Leave it out to take the version from NVIDIA's own server."""

    url: HttpsUrl | None = _key("Address the runfile is fetched from. Unset: made from the version.")
    path: AbsolutePath | None = _key("Path of a runfile that is on the host already. Unset: it is fetched.")
    sha256: Sha256 | None = _key(
        "SHA-256 sum the file must have. Unset: the sum known for the version, if one is known."
    )


class Driver(Section):
    """The NVIDIA driver: kernel modules and user space."""

    source: Literal["nvidia", "distro", "runfile", "preinstalled"] = _key(
        'Where the driver comes from: `"nvidia"` is NVIDIA\'s package repository, `"distro"` the distribution\'s own '
        'packages, `"runfile"` NVIDIA\'s installer, `"preinstalled"` a driver that others look after and gpunode only '
        "checks.",
        "nvidia",
    )
    branch: DriverBranch = _key("Driver branch: the first number of the version.", "580")
    version: DriverVersion | None = _key(
        "Exact driver version. Unset: the newest of the branch that the source offers."
    )
    modules: Literal["auto", "open", "proprietary"] = _key(
        'Kernel modules: `"open"` needs Turing or newer GPUs and is required from Blackwell on; `"auto"` chooses by '
        "the GPUs found.",
        "auto",
    )
    hold: bool = _key(
        "Hold the driver's packages, so that a system upgrade does not change them under running jobs.", True
    )
    persistenced: bool = _key("Run `nvidia-persistenced`, which keeps the GPUs initialised between jobs.", True)
    blacklist_nouveau: bool = _key(
        "Keep the nouveau module from loading: it takes the GPUs before the driver can.", True
    )
    load: bool = _key("Load the modules at once where the host allows it. False: they load at the next boot.", True)
    runfile: Runfile = _table(Runfile, "NVIDIA's installer, one file.")


class Cuda(Section):
    """The CUDA toolkit on the host. A Kubernetes worker needs none: containers bring their own."""

    version: CudaVersion = _key('CUDA toolkit to install, as major.minor, or `"none"`.', "none")
    profile_d: bool = _key("Put the toolkit in every login's `PATH` by a file in `/etc/profile.d`.", True)
    ld_so_conf: bool = _key("Make the toolkit's libraries known to the loader by a file in `/etc/ld.so.conf.d`.", True)
    link: bool = _key("Make `/usr/local/cuda` point to this version.", True)


class ContainerToolkit(Section):
    """The NVIDIA Container Toolkit, which gives containers their GPUs."""

    version: ToolkitVersion = _key("Exact version of its four packages.", "1.20.0")
    hold: bool = _key("Hold the packages at this version.", True)
    allow_vulnerable: bool = _key("Accept a version with known holes that let a container take over the host.", False)


class Containerd(Section):
    """containerd's configuration."""

    config: AbsolutePath | None = _key("Configuration file to edit. Unset: the one of the Kubernetes flavour.")
    runtime_name: RuntimeName = _key("Name of the runtime entry, and of the RuntimeClass that selects it.", "nvidia")
    default_runtime: bool = _key("Make it the runtime of every container, also of those that ask for no GPU.", False)
    restart_timeout: Annotated[int, Seconds(5, 600)] = _key(
        "Seconds that containerd may take to answer again after a restart.", 60
    )


class Kubernetes(Section):
    """The cluster this host is, or will be, a node of."""

    flavour: Literal["auto", "plain", "k3s", "rke2", "microk8s", "k0s", "none"] = _key(
        'Kubernetes distribution: `"plain"` is kubeadm and its like, `"auto"` looks what the host runs, `"none"` is a '
        "host outside any cluster.",
        "auto",
    )
    kubeconfig: AbsolutePath | None = _key("Kubeconfig file with the right to apply objects. Unset: the flavour's own.")
    context: ContextName | None = _key("Context in the kubeconfig. Unset: its current one.")
    node_name: NodeName | None = _key("This host's name in the cluster. Unset: found by the host's name and addresses.")
    timeout: Annotated[int, Seconds(1, 600)] = _key("Seconds that one request to the API server may take.", 30)


class DevicePlugin(Section):
    """NVIDIA's device plugin, which offers `nvidia.com/gpu` to the cluster."""

    mode: Literal["daemonset", "none"] = _key(
        'How it is brought in: `"daemonset"` applies its DaemonSet, `"none"` leaves the cluster alone.', "daemonset"
    )
    version: PluginVersion = _key("Release of the plugin.", "v0.20.0")
    image: ImageReference | None = _key("Image to run. Unset: NVIDIA's image of the release.")
    namespace: NamespaceName = _key("Namespace of the DaemonSet.", "kube-system")
    rollout_timeout: Annotated[int, Seconds(10, 3600)] = _key(
        "Seconds until the plugin must have offered the GPUs, image pull included.", 300
    )


class Verify(Section):
    """How far the finished host is tried out."""

    level: Literal["host", "container", "kubernetes"] = _key(
        'Last stage to try; each includes the one before: `"host"` is driver and CUDA, `"container"` a GPU container, '
        '`"kubernetes"` a GPU pod.',
        "kubernetes",
    )
    container_image: ImageReference = _key("Image of the container test: a CUDA vector addition.", SMOKE_IMAGE)
    pod_image: ImageReference = _key("Image of the pod test: a CUDA vector addition.", SMOKE_IMAGE)
    timeout: Annotated[int, Seconds(10, 3600)] = _key("Seconds that one test may take, image pull included.", 120)
    probe_timeout: Annotated[int, Seconds(1, 300)] = _key("Seconds that one question to driver or GPU may take.", 15)


class Repository(Section):
    """A mirror of a repository and the keys it is signed with."""

    url: HttpsUrl | None = _key("Base address, in place of NVIDIA's. Unset: NVIDIA's.")
    key_url: HttpsUrl | None = _key("Address of the signing key. Unset: below the base address, as with NVIDIA.")
    fingerprints: Annotated[tuple[Fingerprint, ...], Field(strict=False)] = _key(
        "Fingerprints of the keys that may sign. Empty: NVIDIA's own keys.", ()
    )


class Repositories(Section):
    """Mirrors, for hosts that do not reach NVIDIA's servers."""

    cuda: Repository = _table(
        Repository,
        "Driver and CUDA packages; `url` stands for `https://developer.download.nvidia.com/compute/cuda/repos`.",
    )
    container_toolkit: Repository = _table(
        Repository, "Container toolkit packages; `url` stands for `https://nvidia.github.io/libnvidia-container`."
    )
    runfile: Repository = _table(
        Repository,
        "The driver's runfiles, which take a `url` only; it stands for `https://us.download.nvidia.com/tesla`.",
    )


class Network(Section):
    """The way out of the host."""

    proxy: ProxyUrl | None = _key("Proxy for downloads and package managers. Unset: as the host is set up.")
    ca_bundle: AbsolutePath | None = _key("File with the authorities to trust (PEM). Unset: the system's.")


class HostProfile(Section):
    """What a GPU host should be. Every key has a default: an empty profile is a complete one."""

    driver: Driver = _table(Driver, "The NVIDIA driver.")
    cuda: Cuda = _table(Cuda, "The CUDA toolkit.")
    container_toolkit: ContainerToolkit = _table(ContainerToolkit, "The NVIDIA Container Toolkit.")
    containerd: Containerd = _table(Containerd, "containerd's configuration.")
    kubernetes: Kubernetes = _table(Kubernetes, "The cluster.")
    device_plugin: DevicePlugin = _table(DevicePlugin, "NVIDIA's device plugin.")
    verify: Verify = _table(Verify, "How the host is tried out.")
    repositories: Repositories = _table(Repositories, "Mirrors of NVIDIA's repositories.")
    network: Network = _table(Network, "The way out of the host.")

    @model_validator(mode="after")
    def _keeps_the_rules(self) -> "HostProfile":
        violations = [violation for rule in RULES for violation in rule(self)]
        if violations:
            # One raise for all of them, so that the operator reads every broken rule at once.
            raise ValidationError.from_exception_data("HostProfile", [_rule_error(each) for each in violations])
        return self


def _rule_error(violation: Violation) -> InitErrorDetails:
    context = {"reason": violation.reason, "paths": [violation.path, *violation.others]}
    return InitErrorDetails(type=PydanticCustomError(RULE_ERROR, "{reason}", context), loc=violation.path, input=None)
