"""Gathering the evidence: once, cheaply, by a Reader. What cannot be read is left unknown."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Literal

from gpunode.findings import gather_containers, gather_gpus, runtimes
from gpunode.findings.evidence import FABRIC_MANAGER, PERSISTENCED, EngineConfig, Evidence, Kernel, TextFile
from gpunode.findings.history import APT_LOG, AptChange, apt_changes, last_write
from gpunode.findings.machine import Asked
from gpunode.findings.reading import exists, glob, known, names, read_file, read_files
from gpunode.findings.sources import Source, entries
from gpunode.formats import openpgp
from gpunode.formats.engine_config import ConfigFiles, Reason
from gpunode.formats.toml_data import parse
from gpunode.host import cdi, dkms, expiry, loader_cache, systemd
from gpunode.host.cdi import FoundSpecification
from gpunode.host.engines import ENGINES
from gpunode.host.engines.base import FoundEngine
from gpunode.host.engines.containerd import DEFAULT_CONFIG as PLAIN_CONFIG
from gpunode.host.engines.docker import UNIT as DOCKER_UNIT
from gpunode.host.facts import KUBELET_CONFIG
from gpunode.host.packages import manager_named
from gpunode.host.packages.base import Package
from gpunode.host.reader import Reader
from gpunode.host.systemd import Unit
from gpunode.resources.cdi import SERVICE as CDI_SERVICE
from gpunode.steps import engines as other_engines
from gpunode.steps.base import Context
from gpunode.steps.containerd import placed, request_of

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
CUDA = "/usr/local/cuda"
NOUVEAU = "kernel/drivers/gpu/drm/nouveau"
REBOOT = "/var/run/reboot-required"
KUBELET_CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
DNF_TIMERS = ("dnf-automatic.timer", "dnf-automatic-install.timer", "dnf5-automatic.timer")
SNAP_DOCKER = "snap.docker.dockerd.service"


Depth = Literal["files", "hardware", "all"]
"""How far a look goes: files and units alone; the driver's and the kernel's own word of the GPUs too; or logs and the cluster as well."""


def gather(host: Reader, context: Context, *, depth: Depth = "all") -> Evidence:
    """Look at the host. Never raises for what it finds there.

    The driver is asked in a child, with a deadline.
    """
    facts = context.facts
    states = known(dict[str, Unit](), systemd.show, host, units(host, context))
    config = known(EngineConfig(_config_path(context)), _engine_config, host, context)
    listed, docker = _source_files(host), gather_containers.docker_file(host, context)
    toolkit_config = read_file(host, TOOLKIT_CONFIG)
    runtime = known(False, host.exists, context.catalog.toolkit.runtime)
    keyrings, loader = _keyrings(host, context), known(None, loader_cache.libraries, host)
    return Evidence(
        context=context,
        libraries=_libraries(host, facts.libraries),
        kernels=known((Kernel(facts.kernel, (), facts.headers),), _kernels, host, facts.kernel),
        packages=known(None, _packages, host, context),
        changes=known({}, _apt_changes, host),
        preferences=read_files(host, "/etc/apt/preferences.d", "*"),
        apt_conf=read_files(host, "/etc/apt/apt.conf.d", "*"),
        sources=_sources(listed, facts.package_architecture, enabled=True),
        disabled=_sources(listed, facts.package_architecture, enabled=False),
        keyrings={path: tuple(keys) for path, keys in keyrings.items()},
        modprobe=read_files(host, "/etc/modprobe.d", "*.conf"),
        initramfs=_initramfs(host, facts.kernel),
        units=states,
        config=config,
        beside=_beside(host, context),
        kubelet=read_file(host, KUBELET_CONFIG),
        toolkit_config=toolkit_config,
        toolkit_runtime=runtime,
        cdi=known(None, _cdi, host),
        installer_log=exists(host, context.catalog.runfile.log) is True,
        nodes=tuple(name for name in names(host, "/dev") if re.fullmatch(r"nvidia\d+|nvidiactl", name)),
        char_links=tuple(name for name in names(host, "/dev/char") if name.startswith("195:")),
        profile_d=read_file(host, "/etc/profile.d/cuda.sh"),
        cuda_link=known(None, _lead, host, CUDA),
        gpus=known((), gather_gpus.gpus, host, context),
        boot=gather_gpus.boot(host, context),
        asked=Asked() if depth == "files" else gather_gpus.asked(host, context, toolkit=runtime, logs=depth == "all"),
        images=_images(host),
        dkms_logs=_dkms_logs(host),
        loader=loader,
        loader_conf=read_files(host, "/etc/ld.so.conf.d", "*.conf"),
        compat=known("", _compat, host, loader),
        docker=docker,
        paths=gather_containers.paths(host, context, config, docker, toolkit_config),
        plugin=gather_containers.plugin(host, context, thorough=depth == "all"),
        boot_wanted=read_file(host, REBOOT),
        boot_wanted_by=read_file(host, f"{REBOOT}.pkgs"),
        dnf_conf=tuple(
            each for name in ("dnf.conf", "automatic.conf") if (each := read_file(host, f"/etc/dnf/{name}"))
        ),
        expiries={(path, key): when for path, keys in keyrings.items() for key, when in keys.items() if when},
        certificate=known(None, _certificate, host),
    )


def units(host: Reader, context: Context) -> tuple[str, ...]:
    """Those that every host is asked for, and those of which it has a file."""
    others = (DOCKER_UNIT, SNAP_DOCKER, CDI_SERVICE, *DNF_TIMERS)
    here = (name for name in others if known(None, systemd.unit_file, host, name))
    return (context.facts.engine_unit, PERSISTENCED, FABRIC_MANAGER, *here)


def _compat(host: Reader, loader: Mapping[str, tuple[str, ...]] | None) -> str:
    """The forward-compatibility libcuda, links followed, where the loader takes it first."""
    first = next(iter((loader or {}).get("libcuda.so.1", ())), "")
    return host.realpath(first) if "/compat/" in first else ""


def _certificate(host: Reader) -> tuple[float, float] | None:
    return expiry.certificate_validity(host.read(KUBELET_CERTIFICATE) or b"")


def _images(host: Reader) -> dict[str, TextFile]:
    """Each installed kernel's initramfs."""
    found = ((release, _initramfs(host, release)) for release in names(host, "/lib/modules"))
    return {release: image for release, image in found if image}


def _dkms_logs(host: Reader) -> tuple[TextFile, ...]:
    """The log that a build which failed leaves behind; after one that did not it lies elsewhere."""
    found = (read_file(host, path) for path in known(list[str](), dkms.logs, host))
    return tuple(each for each in found if each)


def _cdi(host: Reader) -> tuple[FoundSpecification, ...]:
    found = cdi.specification(host)
    return (found,) if found else ()


def _lead(host: Reader, link: str) -> str | None:
    return host.realpath(link) if host.exists(link) else None


def _apt_changes(host: Reader) -> dict[str, AptChange]:
    return apt_changes((host.read(APT_LOG) or b"").decode("utf-8", "replace"))


def _packages(host: Reader, context: Context) -> dict[str, Package] | None:
    distribution = context.facts.distribution
    return manager_named(distribution.manager).installed(host) if distribution else None


def _libraries(host: Reader, folder: str) -> dict[str, str]:
    links = [f"{folder}/{name}.so.1" for name in ("libnvidia-ml", "libcuda")] if folder else []
    found = {link: known(None, _lead, host, link) for link in links}
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
    nouveau = bool(host.listdir(f"{base}/{NOUVEAU}"))
    return Kernel(release, tuple(modules), known(False, host.exists, f"{base}/build"), nouveau)


def _initramfs(host: Reader, kernel: str) -> TextFile | None:
    """Its time only: the image itself is not read."""
    for path in (f"/boot/initrd.img-{kernel}", f"/boot/initramfs-{kernel}.img"):
        stat = known(None, host.lstat, path)
        if stat:
            return TextFile(path, "", stat.mtime)
    return None


def _source_files(host: Reader) -> list[TextFile]:
    folder = "/etc/apt/sources.list.d"
    main = read_file(host, "/etc/apt/sources.list")
    return [
        *read_files(host, folder, "*.list"),
        *read_files(host, folder, "*.sources"),
        *([main] if main else []),
    ]


def _sources(listed: list[TextFile], architecture: str, *, enabled: bool) -> tuple[Source, ...]:
    return tuple(source for each in listed for source in entries(each.path, each.text, architecture, enabled=enabled))


def _beside(host: Reader, context: Context) -> tuple[TextFile, ...]:
    """The configuration of a plain containerd on a host whose kubelet has one of its own."""
    if context.facts.flavour.name == "plain":
        return ()
    main = read_file(host, PLAIN_CONFIG)
    return (*([main] if main else []), *read_files(host, f"{PLAIN_CONFIG.rpartition('/')[0]}/conf.d", "*.toml"))


def _keyrings(host: Reader, context: Context) -> dict[str, Mapping[str, float | None]]:
    """When each key expires, by file, of the keyrings that apt uses. One that holds no key that can be read counts as unknown."""
    globbed = (glob(host, folder, name) for folder in KEYRING_FOLDERS for name in KEYRING_NAMES)
    paths = {path for listed in globbed for path in listed}
    paths |= {entry.keyring for entry in context.catalog.repositories.values()} | {"/etc/apt/trusted.gpg"}
    found: dict[str, Mapping[str, float | None]] = {}
    for path in sorted(paths):
        content = known(None, host.read, path)
        prints = known(None, openpgp.fingerprints, content) if content else None
        if content and prints:
            found[path] = {**dict.fromkeys(prints), **known({}, expiry.key_expiries, content)}
    return found


def _config_path(context: Context) -> str:
    return context.profile.containerd.config or context.facts.flavour.config


def _engine_config(host: Reader, context: Context) -> EngineConfig:
    found = context.facts.cri
    if found is None or context.facts.flavour.engine != "file":
        return _plain_config(host, context)
    found = placed(found, context.profile)
    engine, path = ENGINES[found.name], found.config
    file = read_file(host, path)
    data = known(None, parse, file.text if file else "")
    files = known(None, engine.read, host, found)
    paths = [each.path for each in files.imported] if files else []
    alone = data is not None and not paths and runtimes.lists(data, context, context.profile.containerd.runtime_name)
    written = known(None, last_write, host, host.realpath(path))
    no_repairs: tuple[Reason, ...] = ()
    return EngineConfig(
        path=path,
        file=file,
        data=data,
        effective=known(None, engine.effective, host, found, files) if files and not alone else None,
        imported=tuple(each for each in (read_file(host, name) for name in paths) if each),
        written=written,
        overwritten=written is not None and hashlib.sha256(host.read(path) or b"").hexdigest() != written.sha,
        stale=known("", engine.stale, host, found, files) if files else "",
        repairs=(
            *(known(no_repairs, _repairs, context, found, files) if files else ()),
            *_other_repairs(host, context),
        ),
    )


def _other_repairs(host: Reader, context: Context) -> tuple[Reason, ...]:
    """The same of the other container engines."""
    reasons: list[Reason] = []
    for name in other_engines.chosen(context):
        engine, found = ENGINES[name], context.facts.engines[name]
        request = other_engines.request_of(context, name)
        edited = known(None, lambda e=engine, f=found, r=request: e.edit(e.read(host, f), r))
        reasons += [reason for reason in (edited.reasons if edited else ()) if reason.repair]
    return tuple(reasons)


def _repairs(context: Context, found: FoundEngine, files: ConfigFiles) -> tuple[Reason, ...]:
    request = request_of(context.profile, context.catalog, found.version, cgroup_driver=context.facts.cgroup_driver)
    return tuple(reason for reason in ENGINES[found.name].edit(files, request).reasons if reason.repair)


def _plain_config(host: Reader, context: Context) -> EngineConfig:
    """The file alone: of an engine that is not there yet, or that writes it by itself."""
    path = _config_path(context)
    file = read_file(host, path)
    return EngineConfig(path, file, known(None, parse, file.text if file else ""))
