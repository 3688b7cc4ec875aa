"""Between a driver that is installed and one that runs: refused, never loaded, another driver on the GPU, a start that failed."""

from __future__ import annotations

import re

from gpunode.findings.driver import APPLY, REBOOT
from gpunode.findings.evidence import Evidence, TextFile, clock
from gpunode.findings.machine import GUESTS, NOVA
from gpunode.findings.model import Known, Proof
from gpunode.host.facts import DRIVER_VERSION, SECURE_BOOT

REJECTED = re.compile(r"Loading of (?:unsigned module|module with unavailable key) is rejected")
INIT_FAILED = re.compile(r"NVRM: GPU (?P<gpu>[0-9a-fA-F:.]+): RmInitAdapter failed! \((?P<code>[^)]*)\)")
OPEN_REQUIRED = "requires use of the NVIDIA open kernel modules"
SWITCHED_OFF = r"^\s*(?:blacklist\s+nvidia\s*$|install\s+nvidia\s+(?:/usr)?/bin/(?:false|true)\b)"
FOR_GUESTS = r"^\s*options\s+vfio-pci\s+.*\bids=\S*10de:"
NOVA_BLACKLIST = "/etc/modprobe.d/blacklist-nova.conf"
UNSTARTED = ("NVML_ERROR_UNKNOWN", "NVML_ERROR_IRQ_ISSUE", "NVML_ERROR_GPU_NOT_FOUND")


def _built(evidence: Evidence) -> str:
    """The running kernel's module of the driver; empty where there is none."""
    return next(iter(evidence.kernels[0].modules), "")


def _rejected(evidence: Evidence) -> Proof | None:
    module, enforced = _built(evidence), _enforced(evidence)
    if evidence.context.facts.driver or not module or not enforced:
        return None
    refused = [line for line in evidence.asked.kernel or () if REJECTED.search(line.text)]
    if evidence.boot.signed is not False and not refused:
        return None
    unsigned = evidence.boot.signed is False
    lines = [enforced]
    lines += [f"{module}: no signature at its end, wanted one by an enrolled key"] if unsigned else []
    lines += [f"kernel log: {clock(line.when)} {line.text}" for line in refused[-1:]]
    distribution = evidence.context.facts.distribution
    key = (distribution.mok if distribution else "") or "/var/lib/dkms/mok.pub"
    what = "not signed" if unsigned else "signed by a key that the firmware does not know"
    return Proof(tuple(lines), {"module": module, "what": what, "key": key})


def _enforced(evidence: Evidence) -> str:
    """Where it is seen that the kernel loads signed modules alone; empty where it loads any."""
    if evidence.context.facts.secure_boot:
        return f"{SECURE_BOOT}: 1, Secure Boot is on"
    if re.search(r"\bmodule\.sig_enforce(?:=1|=Y)?\b", evidence.boot.cmdline):
        return "/proc/cmdline: module.sig_enforce"
    locked = re.search(r"\[(integrity|confidentiality)\]", evidence.boot.lockdown)
    return f"/sys/kernel/security/lockdown: {locked[1]}" if locked else ""


def _not_loaded(evidence: Evidence) -> Proof | None:
    facts, module = evidence.context.facts, _built(evidence)
    free = [gpu for gpu in evidence.gpus if gpu.bound not in (*GUESTS, *NOVA)]
    if facts.driver or facts.nouveau or not module or not free or not evidence.context.profile.driver.load:
        return None
    off = next((each for each in evidence.modprobe if re.search(SWITCHED_OFF, each.text, re.M)), None)
    lines = [f"{DRIVER_VERSION}: not there, wanted the loaded module", f"{module}: there, not loaded"]
    lines += [f"{off.place(SWITCHED_OFF)}: keeps it from loading"] if off else []
    why = (
        f"{off.path} keeps it from loading"
        if off
        else "nothing has asked for it since the host was started, or it did not start"
    )
    mend = (f"sed -i -E '/blacklist nvidia$|install nvidia /d' {off.path}",) if off else ()
    return Proof(tuple(lines), {"why": why}, mend=(*mend, "depmod -a", "modprobe nvidia"))


def _nova(evidence: Evidence) -> Proof | None:
    taken = [gpu for gpu in evidence.gpus if gpu.bound in NOVA]
    if not evidence.boot.nova or not taken or not evidence.driver_installed:
        return None
    lines = ["/sys/module/nova_core: loaded, wanted not loaded"]
    lines += [f"/sys/bus/pci/devices/{gpu.address}/driver: {gpu.bound}, wanted nvidia" for gpu in taken]
    rebuild = "dracut --force" if evidence.context.facts.initramfs == "dracut" else "update-initramfs -u -k all"
    write = f"printf 'blacklist nova_core\\nblacklist nova_drm\\n' > {NOVA_BLACKLIST}"
    return Proof(tuple(lines), mend=(write, rebuild, REBOOT))


def _vfio(evidence: Evidence) -> Proof | None:
    """Only where no GPU is left for the host: some for guests and some for the host is as somebody meant it."""
    guests = [gpu for gpu in evidence.gpus if gpu.bound in GUESTS]
    if not guests or len(guests) < len(evidence.gpus) or not evidence.driver_installed:
        return None
    lines = [f"/sys/bus/pci/devices/{gpu.address}/driver: {gpu.bound}, wanted nvidia" for gpu in guests]
    where = next((each for each in evidence.modprobe if re.search(FOR_GUESTS, each.text, re.M)), None)
    place, mend = _by_whom(evidence, where)
    lines += [f"{place}: ids of vendor 10de"] if place else []
    return Proof(tuple(lines), {"place": place or "Something"}, mend=mend)


def _by_whom(evidence: Evidence, where: TextFile | None) -> tuple[str, tuple[str, ...]]:
    rebuild = "dracut --force" if evidence.context.facts.initramfs == "dracut" else "update-initramfs -u -k all"
    if where:
        return where.place(FOR_GUESTS), (f"sed -i '/vfio-pci.*10de:/d' {where.path}", rebuild, REBOOT)
    if re.search(r"\bvfio-pci\.ids=\S*10de:", evidence.boot.cmdline):
        return "/proc/cmdline", ("# take vfio-pci.ids= out of the boot loader's command line", REBOOT)
    address = evidence.gpus[0].address
    return "", (
        f"echo > /sys/bus/pci/devices/{address}/driver_override  # then its unbind, and modprobe nvidia",
        REBOOT,
    )


def _init_failed(evidence: Evidence) -> Proof | None:
    driver, nvml = evidence.context.facts.driver, evidence.asked.nvml
    if driver is None or not evidence.gpus or all(gpu.bound in GUESTS for gpu in evidence.gpus):
        return None
    failed = [
        (line, found)
        for line in evidence.asked.kernel or ()
        if (found := INIT_FAILED.search(line.text)) and not (nvml and nvml.has(found["gpu"].lower()))
    ]
    none = nvml is not None and (nvml.error in UNSTARTED or not (nvml.error or nvml.gpus))
    if not failed and not none:
        return None
    lines = [f"{DRIVER_VERSION}: {driver.version}, {driver.modules} modules"]
    lines += [f"kernel log: {clock(line.when)} {line.text}" for line, _ in failed[-2:]]
    lines += [f"NVML: {nvml.message or 'no GPU'}, wanted {len(evidence.gpus)}"] if nvml and none else []
    gpu = f"GPU {failed[-1][1]['gpu']}" if failed else "the GPUs"
    code = f"with {failed[-1][1]['code']}" if failed else "by NVML's word"
    return Proof(tuple(lines), {"version": driver.version, "gpu": gpu, "code": code})


def _nodes(evidence: Evidence) -> Proof | None:
    facts, there = evidence.context.facts, evidence.paths
    if facts.driver is None:
        return None
    minors = [gpu.minor for gpu in evidence.gpus if gpu.minor is not None]
    wanted = ["/dev/nvidiactl", *(f"/dev/nvidia{minor}" for minor in minors)]
    # CUDA's own node is made by the first program where nvidia-modprobe is installed.
    if there.get("/sys/module/nvidia_uvm") and there.get("/usr/bin/nvidia-modprobe") is False:
        wanted.append("/dev/nvidia-uvm")
    missing = [path for path in wanted if there.get(path) is False]
    if not missing:
        return None
    lines = [f"{path}: not there, wanted a device node" for path in missing]
    lines += ["/usr/bin/nvidia-modprobe: not there"] if there.get("/usr/bin/nvidia-modprobe") is False else []
    return Proof(tuple(lines), {"nodes": ", ".join(missing)})


FINDINGS = (
    Known(
        id="module-rejected",
        step="driver",
        severity="error",
        title="Secure Boot refuses the driver's module",
        sees="`modprobe: ERROR: could not insert 'nvidia': Key was rejected by service` (older: `Required key not available`)",
        proof="the kernel loads signed modules alone (Secure Boot, `module.sig_enforce`, lockdown), the driver's module is built and not "
        "loaded, and it has no signature or the kernel's log says that it was refused",
        cause="The kernel loads only modules signed by a key it knows, and {module} is {what}.",
        mend=("mokutil --import {key}", f"{REBOOT}  # and at the console: Enroll MOK"),
        look=_rejected,
        explains=("driver-not-loaded", "module:nvidia", "nvml:driver"),
        references=("NVIDIA/gpu-driver-container#44", "secureblue/secureblue#1043", "lcp/mokutil#61"),
        patterns=(
            r"could not insert 'nvidia[\w-]*': (?:Key was rejected by service|Required key not available)",
            REJECTED.pattern,
            r"PKCS#7 signature not signed with a trusted key",
        ),
    ),
    Known(
        id="nova-loaded",
        step="driver",
        severity="error",
        title="nova holds the GPU",
        sees="`NVRM: GPU 0000:01:00.0 is already bound to NovaCore.`, `Kernel module load error: No such device`",
        proof="`/sys/module/nova_core` exists and a GPU's `driver` link leads to it, while NVIDIA's driver is installed",
        cause="The kernel's own driver nova took the GPU before NVIDIA's could; a blacklist of nouveau does not keep it away.",
        mend=(APPLY, REBOOT),
        look=_nova,
        explains=("driver-not-loaded", "module:nvidia", "nvml:driver"),
        references=("beclab/Olares#3963",),
        patterns=(r"NVRM: GPU (?P<gpu>[0-9a-fA-F:.]+) is already bound to (?P<driver>\w+)",),
    ),
    Known(
        id="vfio-bound",
        step="driver",
        severity="warning",
        title="Every GPU is set aside for guests",
        sees="`Kernel driver in use: vfio-pci`; `No devices were found`",
        proof="the `driver` links of all GPUs lead to vfio-pci or pci-stub, while NVIDIA's driver is installed on the host",
        cause="{place} binds the GPUs to vfio-pci, so that the host's driver never sees them.",
        mend=("sed -i '/vfio-pci.*10de:/d' /etc/modprobe.d/vfio.conf", "update-initramfs -u -k all", REBOOT),
        look=_vfio,
        explains=("gpu-missing-in-nvml", "plugin-no-resource", "nvml:driver"),
        references=("cloud-hypervisor/cloud-hypervisor#4353", "NVIDIA/kubevirt-gpu-device-plugin#27"),
        patterns=(r"Kernel driver in use: vfio-pci",),
    ),
    Known(
        id="driver-not-loaded",
        step="driver",
        severity="error",
        title="The driver's module is there and was not loaded",
        sees="`NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver`; NVML: `Driver Not Loaded`",
        proof="a module for the running kernel, a GPU on PCI that no other driver has, and no loaded driver",
        cause="The driver was built for this kernel and does not run: {why}.",
        mend=("depmod -a", "modprobe nvidia"),
        look=_not_loaded,
        explains=("device-nodes-missing", "plugin-no-resource", "module:nvidia", "nvml:driver"),
        references=("NVIDIA/yum-packaging-precompiled-kmod#11", "pedro00dk/nvidia-exec#9"),
        patterns=(
            r"NVIDIA-SMI has failed because it couldn'?t communicate with the NVIDIA driver",
            r"(?i)nvml.*driver not loaded",
        ),
    ),
    Known(
        id="gpu-init-failed",
        step="driver",
        severity="error",
        title="The driver is loaded and cannot start a GPU",
        sees="`No devices were found`; `nvidia-container-cli: initialization error: driver error: failed to process request`",
        proof="the driver is loaded, GPUs are on PCI, and the kernel's log says `RmInitAdapter failed` of one that NVML does not show, or "
        "NVML starts and shows none",
        cause="The module {version} is loaded and the start of {gpu} failed {code}.",
        mend=(
            f"{REBOOT}  # with Above 4G Decoding and Resizable BAR on in the firmware",
            "nvidia-bug-report.sh  # if it comes back",
        ),
        look=_init_failed,
        explains=("gpu-missing-in-nvml", "plugin-no-resource", "nvml:driver"),
        references=(
            "NVIDIA/open-gpu-kernel-modules#862",
            "NVIDIA/nvidia-docker#1675",
            "NVIDIA/open-gpu-kernel-modules#246",
        ),
        patterns=(
            r"NVRM: GPU (?P<gpu>[0-9a-fA-F:.]+): RmInitAdapter failed! \((?P<code>0x[0-9a-f]+:0x[0-9a-f]+:\d+)\)",
            r"nvidia-container-cli(?:\.real)?: initialization error: driver (?:rpc )?error: failed to process request",
            r"nvidia-container-cli(?:\.real)?: (?:initialization|detection) error: (?:nvml|cuda) error: unknown error",
            r"^No devices were found$",
        ),
    ),
    Known(
        id="device-nodes-missing",
        step="driver",
        severity="error",
        title="The driver's device nodes are not there",
        sees="`lstat /dev/nvidia-uvm: no such file or directory`; `Could not load UVM kernel module. Is nvidia-modprobe installed?`; "
        "CUDA error 999 in containers while nvidia-smi works",
        proof="the driver is loaded, and `/dev/nvidiactl`, the node of a GPU in `/proc/driver/nvidia/gpus`, or `/dev/nvidia-uvm`, "
        "where nothing "
        "would make it, is missing",
        cause="The driver runs without {nodes}, which programs and containers open.",
        mend=(
            "nvidia-modprobe -u -c=0",
            "printf 'nvidia\\nnvidia_uvm\\n' > /etc/modules-load.d/nvidia.conf  # so that they come at every boot",
        ),
        look=_nodes,
        explains=("cdi-spec-stale", "gpu-init-failed", "plugin-no-resource"),
        references=("NVIDIA/enroot#106", "NVIDIA/nvidia-container-toolkit#50", "NVIDIA/k8s-device-plugin#222"),
        patterns=(
            r'(?:lstat|stat|open)(?: failed:)? "?/dev/nvidia[\w-]*"?.*[Nn]o such file or directory',
            r"Could not load UVM kernel module",
            r"CUDA_ERROR_UNKNOWN|CUDA unknown error - this may be due to an incorrectly set up environment",
        ),
    ),
)
