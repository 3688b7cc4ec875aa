"""GPUs on a lab host that has none: PCI entries, and kernel modules that "load" as on metal.

At every boot lab-gpu.service lays tmpfs over the parts of /sys and /proc that a driver fills, and writes the PCI
devices. `modprobe nvidia` then runs a script, by lines in modprobe.d, that finds the built nvidia.ko and makes what
the loaded module would: the product meets files, nodes and exit codes where it looks for them on a real host.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from gpunode.lab import LabError

SCRIPTS = "usr/lib/lab-gpu"
# The mock libraries number the GPUs from this bus on, too.
FIRST_GPU_BUS = 0x65
FIRST_SWITCH_BUS = 0xC0

# Names and PCI classes of the devices that tests ask for: 0x0302 is a 3D controller, 0x0680 an NVSwitch's bridge.
DEVICES = {
    "10de:1db6": ("Tesla V100-PCIE-32GB", "0x030200"),
    "10de:1eb8": ("Tesla T4", "0x030200"),
    "10de:20b2": ("NVIDIA A100-SXM4-80GB", "0x030200"),
    "10de:2330": ("NVIDIA H100 80GB HBM3", "0x030200"),
    "10de:2901": ("NVIDIA B200", "0x030200"),
    "10de:22a3": ("NVSwitch", "0x068000"),
}
# Every host has these: a provisioner must not take any PCI device for a GPU.
ORDINARY = (
    ("0000:00:00.0", "0x8086", "0x1237", "0x060000", "Host bridge"),
    ("0000:00:03.0", "0x1af4", "0x1000", "0x020000", "Ethernet controller"),
)
MODULES = ("nvidia", "nvidia-uvm", "nvidia-modeset", "nvidia-drm", "nvidia-peermem")

UNIT = """\
[Unit]
Description=Emulated PCI devices and kernel module state
DefaultDependencies=no
Before=sysinit.target systemd-modules-load.service systemd-udevd.service systemd-udev-trigger.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/lab-gpu/boot

[Install]
WantedBy=sysinit.target
"""


class GpuError(LabError):
    """A device was asked for that the emulation does not know."""


def prepare(root: Path, devices: Sequence[str] = ("10de:2330",)) -> None:
    """Give a host that is not booted yet these PCI devices ("vendor:device"); none makes it a host without a GPU.

    Raises GpuError for a device that is not in DEVICES.
    """
    scripts = root / SCRIPTS
    scripts.mkdir(parents=True, exist_ok=True)
    for name in ("boot", "install", "remove"):
        target = scripts / name
        target.write_bytes((files("gpunode.lab") / "stubs" / f"lab-gpu-{name}").read_bytes())
        target.chmod(0o755)
    rows = [*ORDINARY, *_pci_rows(devices)]
    (scripts / "pci.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    _write_modprobe(root)
    _enable_unit(root)


def _pci_rows(devices: Sequence[str]) -> list[tuple[str, str, str, str, str]]:
    rows = []
    gpus = switches = 0
    for identity in devices:
        if identity not in DEVICES:
            raise GpuError(f"no emulated device {identity}; known are {', '.join(sorted(DEVICES))}")
        name, kind = DEVICES[identity]
        vendor, device = identity.split(":")
        if kind.startswith("0x0680"):
            bus = FIRST_SWITCH_BUS + switches
            switches += 1
        else:
            bus = FIRST_GPU_BUS + gpus
            gpus += 1
        rows.append((f"0000:{bus:02x}:00.0", f"0x{vendor}", f"0x{device}", kind, name))
    return rows


def _write_modprobe(root: Path) -> None:
    lines = ["# The lab's kernel cannot load modules: these commands stand in for it.\n"]
    for module in MODULES:
        lines.append(f"install {module} /usr/lib/lab-gpu/install {module}\n")
        lines.append(f"remove {module} /usr/lib/lab-gpu/remove {module}\n")
    target = root / "etc/modprobe.d/lab-gpu.conf"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(lines))


def _enable_unit(root: Path) -> None:
    unit = root / "etc/systemd/system/lab-gpu.service"
    wants = unit.parent / "sysinit.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    unit.write_text(UNIT)
    link = wants / unit.name
    link.unlink(missing_ok=True)
    link.symlink_to(f"/etc/systemd/system/{unit.name}")
