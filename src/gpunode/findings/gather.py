"""Gathering the evidence: once, cheaply, by a Reader. What cannot be read is left unknown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any, TypeVar

from gpunode.errors import GpunodeError
from gpunode.findings import runtimes
from gpunode.findings.evidence import FABRIC_MANAGER, PERSISTENCED, EngineConfig, Evidence, Kernel, TextFile
from gpunode.findings.history import APT_LOG, AptChange, apt_changes, last_write
from gpunode.findings.sources import Source, entries
from gpunode.formats import openpgp
from gpunode.formats.toml_data import parse
from gpunode.host import containerd, systemd
from gpunode.host.packages import manager_named
from gpunode.host.packages.base import Package
from gpunode.host.reader import Reader
from gpunode.steps.base import Context

MODULE_FOLDERS = (
    "updates",
    "updates/dkms",
    "extra",
    "extra/nvidia",
    "weak-updates",
    "weak-updates/nvidia",
    "kernel/drivers/video",
)
MODULE = re.compile(r"nvidia(?!.*-(?:uvm|drm|modeset|peermem)\.)[\w.-]*\.ko(?:\.\w+)?")
KEYRING_FOLDERS = ("/usr/share/keyrings", "/etc/apt/keyrings", "/etc/apt/trusted.gpg.d")
KEYRING_NAMES = ("*.gpg", "*.asc", "*.pgp")
TOOLKIT_CONFIG = "/etc/nvidia-container-runtime/config.toml"
KUBELET_CONFIG = "/var/lib/kubelet/config.yaml"
CUDA = "/usr/local/cuda"
T = TypeVar("T")


def gather(host: Reader, context: Context) -> Evidence:
    """Look at the host. Never raises for what it finds there."""
    facts = context.facts
    names = (facts.engine_unit, PERSISTENCED, FABRIC_MANAGER)
    return Evidence(
        context=context,
        libraries=_libraries(host, facts.libraries),
        kernels=_kernels(host, facts.kernel),
        packages=_known(None, _packages, host, context),
        changes=_known({}, _apt_changes, host),
        preferences=_files(host, "/etc/apt/preferences.d", "*"),
        apt_conf=_files(host, "/etc/apt/apt.conf.d", "*"),
        sources=_sources(host, facts.architecture),
        keyrings=_keyrings(host, context),
        modprobe=_files(host, "/etc/modprobe.d", "*.conf"),
        initramfs=_initramfs(host, facts.kernel),
        units=_known({}, systemd.show, host, names),
        config=_known(EngineConfig(_config_path(context)), _engine_config, host, context),
        kubelet=_file(host, KUBELET_CONFIG),
        toolkit_config=_file(host, TOOLKIT_CONFIG),
        toolkit_runtime=_known(False, host.exists, context.catalog.toolkit.runtime),
        installer_log=host.lstat(context.catalog.runfile.log) is not None,
        nodes=tuple(name for name in host.listdir("/dev") if re.fullmatch(r"nvidia\d+|nvidiactl", name)),
        char_links=tuple(name for name in host.listdir("/dev/char") if name.startswith("195:")),
        profile_d=_file(host, "/etc/profile.d/cuda.sh"),
        cuda_link=_known(None, _lead, host, CUDA),
    )


def _known(otherwise: T, question: Callable[..., T], *about: Any) -> T:
    """The answer, or `otherwise` where the host does not give one that can be understood."""
    try:
        return question(*about)
    except (GpunodeError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return otherwise


def _lead(host: Reader, link: str) -> str | None:
    return host.realpath(link) if host.exists(link) else None


def _file(host: Reader, path: str) -> TextFile | None:
    return _known(None, _read, host, path)


def _read(host: Reader, path: str) -> TextFile | None:
    content, stat = host.read(path), host.lstat(host.realpath(path))
    return TextFile(path, content.decode("utf-8", "replace"), stat.mtime) if content is not None and stat else None


def _apt_changes(host: Reader) -> dict[str, AptChange]:
    return apt_changes((host.read(APT_LOG) or b"").decode("utf-8", "replace"))


def _files(host: Reader, folder: str, pattern: str) -> tuple[TextFile, ...]:
    found = (_file(host, path) for path in host.glob(folder, pattern))
    return tuple(each for each in found if each)


def _packages(host: Reader, context: Context) -> dict[str, Package] | None:
    distribution = context.facts.distribution
    return manager_named(distribution.manager).installed(host) if distribution else None


def _libraries(host: Reader, folder: str) -> dict[str, str]:
    links = [f"{folder}/{name}.so.1" for name in ("libnvidia-ml", "libcuda")] if folder else []
    found = {link: _known(None, _lead, host, link) for link in links}
    return {link: file for link, file in found.items() if file}


def _kernels(host: Reader, running: str) -> tuple[Kernel, ...]:
    """The running kernel, then those that have an image to boot."""
    others = [
        release
        for release in host.listdir("/lib/modules")
        if release != running
        and (host.lstat(f"/boot/vmlinuz-{release}") or host.lstat(f"/lib/modules/{release}/vmlinuz"))
    ]
    return tuple(_kernel(host, release) for release in (running, *others))


def _kernel(host: Reader, release: str) -> Kernel:
    base = f"/lib/modules/{release}"
    signed = [f"kernel/{name}" for name in host.listdir(f"{base}/kernel") if name.startswith("nvidia-")]
    folders = [f"{base}/{folder}" for folder in (*MODULE_FOLDERS, *signed)]
    modules = (f"{folder}/{name}" for folder in folders for name in host.listdir(folder) if MODULE.fullmatch(name))
    return Kernel(release, tuple(modules), _known(False, host.exists, f"{base}/build"))


def _initramfs(host: Reader, kernel: str) -> TextFile | None:
    """Its time only: the image itself is not read."""
    for path in (f"/boot/initrd.img-{kernel}", f"/boot/initramfs-{kernel}.img"):
        stat = host.lstat(path)
        if stat:
            return TextFile(path, "", stat.mtime)
    return None


def _sources(host: Reader, architecture: str) -> tuple[Source, ...]:
    folder = "/etc/apt/sources.list.d"
    files = [*_files(host, folder, "*.list"), *_files(host, folder, "*.sources")]
    main = _file(host, "/etc/apt/sources.list")
    files += [main] if main else []
    return tuple(source for each in files for source in entries(each.path, each.text, architecture))


def _keyrings(host: Reader, context: Context) -> dict[str, tuple[str, ...]]:
    """Fingerprints by file, of the keyrings that apt uses. One that holds no key that can be read counts as unknown."""
    paths = {path for folder in KEYRING_FOLDERS for name in KEYRING_NAMES for path in host.glob(folder, name)}
    paths |= {entry.keyring for entry in context.catalog.repositories.values()} | {"/etc/apt/trusted.gpg"}
    found: dict[str, tuple[str, ...]] = {}
    for path in sorted(paths):
        content = _known(None, host.read, path)
        prints = _known(None, openpgp.fingerprints, content) if content else None
        if prints:
            found[path] = prints
    return found


def _config_path(context: Context) -> str:
    return context.profile.containerd.config or context.facts.flavour.config


def _engine_config(host: Reader, context: Context) -> EngineConfig:
    path = _config_path(context)
    file = _file(host, path)
    text = file.text if file else None
    data = _known(None, parse, text or "")
    imported = _imported(host, data or {})
    alone = data is not None and not imported and runtimes.lists(data, context, context.profile.containerd.runtime_name)
    asked = not alone and context.facts.flavour.engine == "file" and bool(context.facts.containerd)
    version = f"version = {runtimes.written_version(context)}\n"
    real = host.realpath(path)
    written = _known(None, last_write, host, real)
    return EngineConfig(
        path=path,
        file=file,
        data=data,
        effective=_known(None, containerd.effective, host, text or version) if asked else None,
        imported=imported,
        written=written,
        overwritten=written is not None and hashlib.sha256(host.read(path) or b"").hexdigest() != written.sha,
    )


def _imported(host: Reader, data: dict[str, object]) -> tuple[TextFile, ...]:
    patterns = data.get("imports", [])
    found: list[TextFile] = []
    for pattern in patterns if isinstance(patterns, list) else []:
        folder, _, name = str(pattern).rpartition("/")
        if folder.startswith("/"):
            found += _files(host, folder, name)
    return tuple(found)
