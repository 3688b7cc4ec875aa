"""The profile's model. Documentation, JSON Schema and error messages come from what stands here.

A field's description says what the key means; ``unset`` in it says what happens where an optional key is left out.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from gpunode.profile.formats import (
    AbsolutePath,
    Between,
    ConfigName,
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

EngineChoice = Literal["auto", "never"]
Repair = Literal[
    "runtime-removed-shim",
    "runtime-linux-shim",
    "runtime-type-missing",
    "cri-disabled",
    "config-version-mixed",
    "runtime-defined-twice",
    "runtime-other-binary",
]
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

    source: Literal["nvidia", "distro", "runfile", "local", "preinstalled"] = _key(
        'Where the driver comes from: `"nvidia"` is NVIDIA\'s package repository, `"distro"` the distribution\'s own '
        'packages, `"runfile"` NVIDIA\'s installer, `"local"` a bundle on the host, for one without network, '
        '`"preinstalled"` a driver that others look after and gpunode only checks.',
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
    drain: bool = _key(
        "Have who uses the GPUs make way where the running modules are to be replaced: the node is cordoned, its GPU pods are evicted, "
        "other processes are ended. False: they are named, and left alone.",
        False,
    )
    drain_timeout: Annotated[int, Seconds(10, 3600)] = _key(
        "Seconds that the pods may take to go, disruption budgets and their grace periods included.", 300
    )
    drain_grace: Annotated[int, Seconds(1, 600)] = _key(
        "Seconds that a process of no pod has to end by itself (SIGTERM) before it is killed.", 30
    )
    runfile: Runfile = _table(Runfile, "NVIDIA's installer, one file.")


class CudaRunfile(Section):
    """Which installer is used with `cuda.source = "runfile"`. Leave it out to take the version's from NVIDIA's own server."""

    url: HttpsUrl | None = _key("Address the installer is fetched from. Unset: made from the version.")
    path: AbsolutePath | None = _key("Path of an installer that is on the host already. Unset: it is fetched.")
    sha256: Sha256 | None = _key(
        "SHA-256 sum the file must have. Unset: the sum known for the version, if one is known."
    )


class Cuda(Section):
    """The CUDA toolkit on the host. A Kubernetes worker needs none: containers bring their own."""

    source: Literal["packages", "runfile"] = _key(
        'Where the toolkit comes from: `"packages"` is NVIDIA\'s package repository (or the bundle), `"runfile"` NVIDIA\'s installer, of '
        "which the toolkit alone is taken, never its driver.",
        "packages",
    )
    version: CudaVersion = _key('CUDA toolkit to install, as major.minor, or `"none"`.', "none")
    profile_d: bool = _key("Put the toolkit in every login's `PATH` by a file in `/etc/profile.d`.", True)
    ld_so_conf: bool = _key("Make the toolkit's libraries known to the loader by a file in `/etc/ld.so.conf.d`.", True)
    link: bool = _key("Make `/usr/local/cuda` point to this version.", True)
    runfile: CudaRunfile = _table(CudaRunfile, "The toolkit's installer, one file.")


class ContainerToolkit(Section):
    """The NVIDIA Container Toolkit, which gives containers their GPUs."""

    version: ToolkitVersion = _key("Exact version of its four packages.", "1.20.0")
    mode: Literal["auto", "cdi", "legacy"] | None = _key(
        'How its runtime puts GPUs into containers: `"cdi"` by a specification of the devices, `"legacy"` by a hook, `"auto"` as the '
        "toolkit's release sees fit. Unset: left as it is."
    )
    hold: bool = _key("Hold the packages at this version.", True)
    allow_vulnerable: bool = _key("Accept a version with known holes that let a container take over the host.", False)


class Containerd(Section):
    """containerd's configuration."""

    config: AbsolutePath | None = _key("Configuration file to edit. Unset: the one of the Kubernetes flavour.")
    runtime_name: RuntimeName = _key("Name of the runtime entry, and of the RuntimeClass that selects it.", "nvidia")
    default_runtime: bool = _key("Make it the runtime of every container, also of those that ask for no GPU.", False)
    place: Literal["auto", "main", "drop-in"] = _key(
        'Where the keys go: `"main"` is the configuration file itself, `"drop-in"` a file of gpunode\'s own that it imports, `"auto"` '
        "the drop-in where the release merges it without loss (2.1 and newer), else the main file.",
        "auto",
    )
    drop_in: AbsolutePath | None = _key(
        "Path of the drop-in. Unset: `conf.d/99-gpunode.toml` beside the configuration file, or where the flavour reads drop-ins."
    )
    cdi: bool | None = _key(
        "Whether containers may ask for devices by their CDI names (`nvidia.com/gpu=0`); containerd has it since 1.7. "
        "Unset: left as it is."
    )
    leave: Annotated[tuple[Repair, ...], Field(strict=False)] = _key(
        "Repairs of what older guides left behind that are not to be made, by the id of their finding.", ()
    )
    restart_timeout: Annotated[int, Seconds(5, 600)] = _key(
        "Seconds that containerd may take to answer again after a restart.", 60
    )


class Engines(Section):
    """Container engines beside containerd. `"auto"` configures the engine where it is installed, `"never"` leaves it alone."""

    docker: EngineChoice = _key("Docker: the runtime in its `daemon.json`, taken up by a reload.", "auto")
    crio: EngineChoice = _key("CRI-O: the runtime in a drop-in of its configuration.", "auto")
    podman: EngineChoice = _key("Podman: a CDI specification of the host's GPUs.", "auto")


class Kubernetes(Section):
    """The cluster this host is, or will be, a node of."""

    flavour: Literal["auto", "plain", "k3s", "rke2", "microk8s", "k0s", "none"] = _key(
        'Kubernetes distribution: `"plain"` is kubeadm and its like, `"auto"` looks what the host runs, `"none"` is a '
        "host outside any cluster.",
        "auto",
    )
    kubeconfig: AbsolutePath | None = _key(
        "Kubeconfig file with the right to apply objects. Unset: the flavour's own, else root's, else that of the user who logged "
        "in."
    )
    context: ContextName | None = _key("Context in the kubeconfig. Unset: its current one.")
    node_name: NodeName | None = _key("This host's name in the cluster. Unset: found by the host's name and addresses.")
    timeout: Annotated[int, Seconds(1, 600)] = _key("Seconds that one request to the API server may take.", 30)


class Sharing(Section):
    """How pods share the GPUs: one configuration of the device plugin."""

    strategy: Literal["none", "time-slicing", "mps"] = _key(
        'How a GPU is shared: `"time-slicing"` in turns, with nothing between the pods, `"mps"` at the same time, each with its part of '
        'memory and multiprocessors, `"none"` is a GPU for each.',
        "none",
    )
    replicas: dict[str, Annotated[int, Between(2, 128)]] = _key(
        "How many pods share one device of a resource, by the resource's name.", {}
    )
    rename: bool = _key(
        "Offer what is shared under a name of its own, with `.shared` behind: pods that ask for `nvidia.com/gpu` get none of it.",
        False,
    )
    fail_requests_greater_than_one: bool = _key(
        "Refuse a container that asks for more than one share: it would get no more of the GPU for it.", True
    )
    mig: Literal["none", "single", "mixed"] = _key(
        'How instances that MIG has cut are offered: `"single"` as `nvidia.com/gpu`, all of them alike, `"mixed"` each under the name '
        'of its profile, as `nvidia.com/mig-1g.10gb`, `"none"` not at all.',
        "none",
    )


class DevicePlugin(Section):
    """NVIDIA's device plugin, which offers `nvidia.com/gpu` to the cluster."""

    mode: Literal["daemonset", "static-pod", "none"] = _key(
        'How it is brought in: `"daemonset"` applies its DaemonSet, `"static-pod"` has this node\'s kubelet run it from a file, for '
        'which no right in the cluster is needed, `"none"` leaves the cluster alone.',
        "daemonset",
    )
    version: PluginVersion = _key("Release of the plugin.", "v0.20.0")
    image: ImageReference | None = _key("Image to run. Unset: NVIDIA's image of the release.")
    namespace: NamespaceName = _key("Namespace of the DaemonSet.", "kube-system")
    rollout_timeout: Annotated[int, Seconds(10, 3600)] = _key(
        "Seconds until the plugin must have offered the GPUs, image pull included.", 300
    )
    device_list: Literal["auto", "envvar", "volume-mounts", "cdi-annotations", "cdi-cri"] = _key(
        'How the plugin tells the runtime which GPUs a container gets (upstream\'s `deviceListStrategy`): `"auto"` is `"cdi-cri"` where '
        '`containerd.cdi` is true, else `"envvar"`, for which a pod asks for the runtime by its RuntimeClass.',
        "auto",
    )
    sharing: Sharing = _table(Sharing, "What the plugin does on a node that names no configuration.")
    configs: dict[ConfigName, Sharing] = _key(
        "Further configurations by name, each a table as `[device_plugin.sharing]`, for nodes that ask for one by the label "
        "`nvidia.com/device-plugin.config`.",
        {},
    )
    config: ConfigName | None = _key(
        "The configuration that this node asks for; gpunode labels the node with it. Unset: `[device_plugin.sharing]`."
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


class Bundle(Section):
    """The bundle that `driver.source = "local"` takes driver, CUDA, container toolkit and images from."""

    path: AbsolutePath | None = _key("Path of the bundle on the host. Unset: there is none.")
    fingerprints: Annotated[tuple[Fingerprint, ...], Field(strict=False)] = _key(
        "Fingerprints of the keys that may have signed the bundle.", ()
    )
    sha256: Sha256 | None = _key(
        "SHA-256 sum that the bundle must have: it alone makes a bundle acceptable that nobody signed. Unset: any that one of the keys has "
        "signed."
    )


class Network(Section):
    """The way out of the host."""

    proxy: ProxyUrl | None = _key("Proxy for downloads and package managers. Unset: as the host is set up.")
    ca_bundle: AbsolutePath | None = _key("File with the authorities to trust (PEM). Unset: the system's.")


class HostProfile(Section):
    """What a GPU host should be. Every key has a default: an empty profile is a complete one."""

    reboot: Literal["never", "ask", "auto"] = _key(
        'What is done where a reboot is needed to finish: `"never"` stops before it with exit status 4, `"ask"` asks at a terminal '
        '(and stops where there is none), `"auto"` reboots; after the boot the run goes on by itself, at most twice.',
        "never",
    )
    driver: Driver = _table(Driver, "The NVIDIA driver.")
    cuda: Cuda = _table(Cuda, "The CUDA toolkit.")
    container_toolkit: ContainerToolkit = _table(ContainerToolkit, "The NVIDIA Container Toolkit.")
    containerd: Containerd = _table(Containerd, "containerd's configuration.")
    engines: Engines = _table(Engines, "Container engines beside containerd.")
    kubernetes: Kubernetes = _table(Kubernetes, "The cluster.")
    device_plugin: DevicePlugin = _table(DevicePlugin, "NVIDIA's device plugin.")
    verify: Verify = _table(Verify, "How the host is tried out.")
    repositories: Repositories = _table(Repositories, "Mirrors of NVIDIA's repositories.")
    bundle: Bundle = _table(Bundle, "A bundle, for a host without network.")
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
