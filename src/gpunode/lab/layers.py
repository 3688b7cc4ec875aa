"""Cached layers of a lab host's root file system, each keyed by a hash of what it is made of."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from gpunode.lab import LabError, partial_archive
from gpunode.lab.machine import command, lock, mount_overlay, run_in, say, unmount
from gpunode.lab.paths import HOSTS, LAYERS

LOCAL_AUTHORITIES = Path("/usr/local/share/ca-certificates")

FRESH = "trixie"  # the Debian of a host that is asked for no other

# What that release's installer does to a root, and its packages do not: /bin, /lib and /sbin are links into /usr.
MERGED = 'for name in bin sbin lib lib32 lib64 libx32; do mkdir -p "$1/usr/$name"; ln -s "usr/$name" "$1/$name"; done'
HOOKS = {"bullseye": (f"--setup-hook={MERGED}",)}

KEPT = 5  # layers of one kind: every edit of the product's source makes a new one

# A small server with a container engine and kubectl, as an operator hands it to the provisioner.
BASE_PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "ca-certificates", "kmod", "procps", "iproute2", "python3"),
    *("containerd", "runc", "kubernetes-client", "openssl", "initramfs-tools", "linux-base"),
    "sudo",  # every server has it; DKMS recommends it, and it refuses to be removed again where root has no password
)
# What a driver installation pulls in: downloaded, not installed, so that installing it is real and takes no network.
COMPILER = ("gcc", "make", "libc6-dev")
WARM_PACKAGES = (*COMPILER, "dkms")


def build(kind: str, what: str, inputs: object, below: Sequence[Path], make: Callable[[Path], None]) -> Path:
    """Return the layer of this kind made of `inputs` (plain data) on the layers `below`; build it if it is not cached.

    `make` is given the merged root (an empty folder when nothing is below) and writes into it. `what` is printed
    before building. A layer appears whole or not at all; two builders of one kind wait for each other.
    """
    key = json.dumps([kind, inputs, [layer.name for layer in below]], sort_keys=True)
    layer = LAYERS / f"{kind}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if layer.is_dir():
        os.utime(layer)  # it is in use: see _prune
        return layer
    with lock(f"layer-{kind}"):
        if not layer.is_dir():
            say(what)
            _build(layer, below, make)
            _prune(kind)
    return layer


def _build(layer: Path, below: Sequence[Path], make: Callable[[Path], None]) -> None:
    site = LAYERS / f".{layer.name}.building"
    upper, root = site / "upper", site / "root"
    _clear(site)  # an earlier builder may have been killed
    try:
        if below:
            mount_overlay(below, upper=upper, work=site / "work", root=root)
            make(root)
            unmount(root)
        else:
            upper.mkdir(parents=True)
            make(upper)
        upper.rename(layer)
    finally:
        _clear(site)


def _prune(kind: str) -> None:
    """Remove the layers of a kind that were not used for longest, but none that a host stands on."""
    in_use = ""
    for record in HOSTS.glob("*/host.json"):
        with suppress(FileNotFoundError):  # another process takes its host down
            in_use += record.read_text()
    layers = sorted(LAYERS.glob(f"{kind}-*"), key=lambda layer: layer.stat().st_mtime, reverse=True)
    for layer in layers[KEPT:]:
        if str(layer) not in in_use:
            shutil.rmtree(layer)


def _clear(site: Path) -> None:
    unmount(site / "root")
    if site.exists():
        shutil.rmtree(site)


def base(suite: str = FRESH) -> Path:
    """Return the layer with a bootable Debian of this suite, installed from the mirror that this machine itself uses."""
    mirror, options, hooks = debian_mirror(), apt_options(), HOOKS.get(suite, ())
    authorities = sorted(path.name for path in LOCAL_AUTHORITIES.glob("*.crt"))
    inputs = [suite, BASE_PACKAGES, mirror, options, authorities, *hooks]

    def make(root: Path) -> None:
        command(
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--format=directory",
            "--variant=minbase",
            f"--include={','.join(BASE_PACKAGES)}",
            *(f"--aptopt={option}" for option in options),
            *hooks,
            *(suite, root, f"deb {mirror} {suite} main"),
        )
        _write_sources(root, mirror, suite)
        _trust_local_authorities(root)

    return build("base", f"installing Debian {suite} (about a minute, once)", inputs, (), make)


def _write_sources(root: Path, mirror: str, suite: str) -> None:
    """Name the mirror the way a fresh Debian 13 does, and bring what the machine's apt options point to."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    entry = f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {keyring}\n"
    (root / "etc/apt/sources.list.d/debian.sources").write_text(entry)
    (root / "etc/apt/sources.list").unlink(missing_ok=True)
    for option in apt_options():
        named = re.search(r'"(/[^"]+)"', option)
        if named and Path(named[1]).is_file():
            target = root / named[1].lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(named[1], target)


def _trust_local_authorities(root: Path) -> None:
    """A machine behind a company's proxy trusts that company's CA; so must a host that shares its network."""
    for certificate in LOCAL_AUTHORITIES.glob("*.crt"):
        shutil.copyfile(certificate, root / "usr/local/share/ca-certificates" / certificate.name)
    run_in(root, "update-ca-certificates")


def warm(below: Path, suite: str) -> Path:
    """Return the layer on `below`, a base of that suite, that holds apt's lists and the packages WARM_PACKAGES need, downloaded.

    Beside them lies the archive of these packages alone (`partial_archive`), which no host has before it is prepared so.
    """

    def make(root: Path) -> None:
        run_in(root, "apt-get", "--quiet", "--error-on=any", "update")
        run_in(root, "apt-get", "--quiet", "--yes", "--download-only", "install", *WARM_PACKAGES)
        partial_archive.lay(root, suite)

    return build(
        "warm",
        "downloading a compiler and DKMS for later (once)",
        [*WARM_PACKAGES, suite, partial_archive.ENTRY],
        [below],
        make,
    )


def compiler(below: Sequence[Path]) -> Path:
    """Return the layer on `below` (bottom first, a warm one among them) in which COMPILER is installed."""

    def make(root: Path) -> None:
        run_in(root, "apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *COMPILER)

    return build("compiler", "installing a compiler (once)", COMPILER, below, make)


def debian_mirror() -> str:
    """Return the address of the Debian archive in this machine's apt configuration. Raises LabError if it has none."""
    listing = command("apt-get", "indextargets", "--format", "$(LABEL)|$(COMPONENT)|$(REPO_URI)")
    for line in listing.splitlines():
        label, component, address = line.split("|")
        if (label, component) == ("Debian", "main"):
            return address
    raise LabError("apt on this machine knows no Debian archive: the lab takes its mirror from there (apt-get update?)")


def apt_options() -> list[str]:
    """Return this machine's own apt options about reaching a mirror: proxies, certificates, validity checks."""
    wanted = re.compile(r'Acquire::(https?(::\S+)?|Check-\S+) "[^"]+";')
    return sorted(line for line in command("apt-config", "dump").splitlines() if wanted.fullmatch(line))
