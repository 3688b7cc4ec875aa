"""Five ways in which GPU nodes break in life, done to a lab host as they happen there: by other people's ordinary commands."""

from dataclasses import dataclass

UNHOLD = "apt-mark unhold $(apt-mark showhold) >/dev/null"
QUIETLY = "DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --allow-downgrades -o Dpkg::Use-Pty=0"
OTHER_DRIVER = "580.178.01-1"
OLDER_TOOLKIT = "1.19.1-1"
DRIVER = (
    "nvidia-open",
    "nvidia-kernel-open-dkms",
    "libnvidia-ml1",
    "libcuda1",
    "nvidia-smi",
    "nvidia-modprobe",
    "nvidia-persistenced",
)
TOOLKIT = ("nvidia-container-toolkit", "nvidia-container-toolkit-base")


@dataclass(frozen=True)
class Breakage:
    """What happens, the shell commands that do it, and the id of the finding that must name it."""

    story: str
    script: str
    finding: str


BREAKAGES = (
    Breakage(
        "A colleague upgrades everything by hand: the driver's libraries are new, the running module is the old one.",
        f"{UNHOLD}; {QUIETLY} {' '.join(f'{name}={OTHER_DRIVER}' for name in DRIVER)} >/dev/null",
        "driver-library-mismatch",
    ),
    Breakage(
        "A configuration-management run puts its own config.toml there. It knows no nvidia runtime.",
        "cp -p /etc/containerd/config.toml /root/config.toml.good; "
        "cp /usr/share/lab-containerd/config.toml /etc/containerd/config.toml; systemctl restart containerd",
        "runtime-not-configured",
    ),
    Breakage(
        "Somebody lets go of the holds, and the container toolkit is downgraded.",
        f"{UNHOLD}; {QUIETLY} {' '.join(f'{name}={OLDER_TOOLKIT}' for name in TOOLKIT)} >/dev/null",
        "toolkit-downgraded",
    ),
    Breakage(
        "Somebody tries another config.toml, and puts the right one back without a restart.",
        "cp -p /etc/containerd/config.toml /root/config.toml.good; "
        "cp /usr/share/lab-containerd/config.toml /etc/containerd/config.toml; systemctl restart containerd; sleep 2; "
        "cp /root/config.toml.good /etc/containerd/config.toml",
        "runtime-config-stale",
    ),
    Breakage(
        "A cleanup of /etc/profile.d goes too far.",
        "rm /etc/profile.d/cuda.sh",
        "profile-d-missing",
    ),
)

CLEAN_UP = "rm -f /root/config.toml.good"
"""What the breakages themselves leave behind, which is nobody's but theirs."""
