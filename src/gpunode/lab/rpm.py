"""Lab hosts of the RPM family: a Debian root that carries the real dnf (4 or 5), zypper and rpm, with another os-release.

It exercises the package managers, not the distributions. Stub rpms of NVIDIA's names (stubs/rpms.toml) are built and signed once, and
laid into the host's mirror (mirror.py) as NVIDIA publishes its own: a repository with module streams for dnf, one without for zypper.
"""

import base64
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from gpunode.lab import engines, gpu, layers, mirror, product, rpm_roots, stubs
from gpunode.lab.debs import EPOCH
from gpunode.lab.host import LabHost, Prepare
from gpunode.lab.kubernetes import setup
from gpunode.lab.machine import lock, run_in
from gpunode.lab.node import sample_images
from gpunode.lab.paths import CACHE
from gpunode.lab.repository import Key

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILD, SIGNING = "srv/lab-rpm", "root/.lab-signing"
MODULE = "nvidia-driver"
CUDA_EL = f"{mirror.NAMES[0]}/compute/cuda/repos/rhel9/x86_64"
CUDA_FEDORA = f"{mirror.NAMES[0]}/compute/cuda/repos/fedora42/x86_64"
CUDA_SUSE = f"{mirror.NAMES[0]}/compute/cuda/repos/opensuse15/x86_64"
TOOLKIT = f"{mirror.NAMES[1]}/libnvidia-container/stable/rpm/x86_64"
KEYS = (
    *(f"{place}/D42D0685.pub" for place in (CUDA_EL, CUDA_FEDORA, CUDA_SUSE)),
    f"{mirror.NAMES[1]}/libnvidia-container/gpgkey",
)
# Where each built repository lies in the mirror's tree. The distribution's own is a plain folder, as from an installation medium.
PLACES = (
    ("cuda-modular", CUDA_EL),
    ("cuda", CUDA_FEDORA),
    ("cuda", CUDA_SUSE),
    ("container-toolkit", TOOLKIT),
    ("base", "distribution"),
)

PINNED = (
    "cuda-dnf",
    "cuda-zypper",
    "container-toolkit-dnf",
    "container-toolkit-zypper",
)  # the catalogue's names of the repositories that the mirror stands for


@dataclass(frozen=True)
class Rpm:
    """One binary package. `version` is epoch, version and release as `3:580.126.20-1`; `files` and `config` map paths to texts, `stubs` to
    contents of any kind, `links` to targets.
    """

    name: str
    version: str
    architecture: str = "x86_64"
    requires: tuple[str, ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    stubs: Mapping[str, bytes] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)
    streams: str = ""
    modular: bool = False
    repository: str = ""

    @property
    def nevra(self) -> str:
        """`name-epoch:version-release.arch`, as modules list their packages."""
        epoch = "" if ":" in self.version else "0:"
        return f"{self.name}-{epoch}{self.version}.{self.architecture}"

    @property
    def filename(self) -> str:
        """The package's file, without an epoch, as repositories have it."""
        return f"{self.name}-{self.version.rpartition(':')[2]}.{self.architecture}.rpm"

    def spec(self) -> str:
        """The spec file; file contents are its own text, so that nothing else is needed to build it."""
        epoch, _, rest = self.version.rpartition(":")
        version, _, release = rest.rpartition("-")
        lines = [f"Name: {self.name}", f"Version: {version}", f"Release: {release}"]
        lines += [f"Epoch: {epoch}"] if epoch else []
        lines += ["Summary: Lab stand-in", "License: MIT", "AutoReqProv: no"]
        lines += ["BuildArch: noarch"] if self.architecture == "noarch" else []
        lines += [f"ModularityLabel: {MODULE}:lab:1:lab"] if self.modular else []
        for tag, values in (("Requires", self.requires), ("Provides", self.provides), ("Conflicts", self.conflicts)):
            lines += [f"{tag}: {value}" for value in values]
        lines += ["%description", "A stub of a lab host.", "%install", *self._install()]
        for name, text in self.scripts.items():
            lines += [f"%{name}", text]
        owned = [*(f"%dir {path}" for path in self.folders), *self.files, *self.stubs, *self.links]
        return "\n".join([*lines, "%files", *owned, *(f"%config(noreplace) {path}" for path in self.config), ""])

    def _install(self) -> Iterator[str]:
        for path, text in {**self.files, **self.config}.items():
            mode = "755" if text.startswith("#!") else "644"
            yield f"install -D -m {mode} /dev/stdin %{{buildroot}}{path} <<'LAB-END'\n{text.rstrip()}\nLAB-END"
        for path, content in self.stubs.items():
            mode, words = "755" if content.startswith(b"#!") else "644", base64.encodebytes(content).decode()
            yield f"base64 --decode <<'LAB-END' | install -D -m {mode} /dev/stdin %{{buildroot}}{path}\n{words}LAB-END"
        for path, target in self.links.items():
            yield f"mkdir -p %{{buildroot}}{path.rpartition('/')[0]} && ln -s {target} %{{buildroot}}{path}"


def declared() -> list[Rpm]:
    """All stub rpms, from stubs/rpms.toml."""
    data = _data()
    return [
        _rpm(entry, family, words)
        for entry in data["packages"]
        for family in [data["families"][entry["family"]]]
        for words in ({**_words(version), **family.get("words", {})} for version in family["versions"])
    ]


def create_host(name: str, manager: str, *, node: bool = False) -> LabHost:
    """Make a host whose packages are `manager`'s ("dnf", "dnf5" or "zypper"), not yet booted, the mirror and the product on it.

    As a `node` it has a GPU and belongs to a cluster. Raises LabError.
    """
    base = layers.base()
    tools, built = rpm_roots.tools(base, manager), repository_layer(base)
    stack = [base, tools, *product.product(base)]

    def outfit(root: Path, _address: str) -> None:
        lay_repositories(root, built)
        rpm_roots.lay_system(root, manager, _release_file())
        _lay_headers(root, "source" if not node else "build" if manager == "zypper" else "")

    def emulated_node(root: Path, address: str) -> None:
        gpu.prepare(root)
        setup.prepare(root, address, images=sample_images(stack))

    prepare: list[Prepare] = [mirror.prepare, outfit, *([emulated_node] if node else [])]
    return LabHost.create(name, layers=stack, prepare=prepare, private=engines.engine(engines.FRESH).private)


def _lay_headers(root: Path, name: str) -> None:
    """Headers of the running kernel in a folder of this name, where the distribution's packages are not to bring them.

    A kernel of SUSE's has another name than the one that runs here: no package of theirs can be asked for its headers.
    """
    if name:
        (root / f"usr/lib/modules/{os.uname().release}" / name).mkdir(parents=True)


def repository_layer(base: Path) -> Path:
    """Return the layer whose /srv/lab-rpm holds the built, signed repositories."""
    rpms, key = declared(), _key()
    inputs = [[rpm.spec() for rpm in rpms], _modules(rpms), key.fingerprint]

    def make(root: Path) -> None:
        shutil.copytree(key.home, root / SIGNING, ignore=shutil.ignore_patterns("S.*"))
        try:
            _build(root, rpms)
            for name in dict.fromkeys(name for name, _ in PLACES):
                _publish(root, name, rpms)
        finally:
            shutil.rmtree(root / SIGNING)

    return layers.build("rpm-stubs", "building stub rpms (once)", inputs, [base, rpm_roots.tool_layer(base)], make)


def lay_repositories(root: Path, built: Path) -> None:
    """Copy the built repositories into a host's mirror, with their key, which the lab's catalogue pins."""
    key = _key()
    for name, place in PLACES:
        shutil.copytree(built / BUILD / name, root / mirror.TREE / place, dirs_exist_ok=True)
    for path in KEYS:
        (root / mirror.TREE / path).write_bytes(key.public(armor=True))
    tables = [f'[repositories.{name}]\nfingerprints = ["{key.fingerprint}"]\n' for name in PINNED]
    catalog = root / "etc/gpunode/catalog.d/51-lab-rpm.toml"
    catalog.write_text("# This lab's mirror signs with its own key.\n" + "".join(tables))


def _release_file() -> str:
    package = next(rpm for rpm in declared() if rpm.name == "system-release")
    return f"/{mirror.TREE}/distribution/{package.filename}"


def fingerprint() -> str:
    """The fingerprint of the key that signs the stub rpms and their indices."""
    return _key().fingerprint


def somebody_elses_key() -> Key:
    """A key that nobody was told to trust."""
    with lock("mirror"):
        return Key(CACHE / "signing" / "other", "somebody else")


def _key() -> Key:
    with lock("mirror"):
        return Key(CACHE / "signing" / "lab")


def _build(root: Path, rpms: Sequence[Rpm]) -> None:
    specs = root / BUILD / "specs"
    specs.mkdir(parents=True)
    for rpm in rpms:
        (specs / f"{rpm.filename}.spec").write_text(rpm.spec())
    macros = ["_topdir /tmp/rpmbuild", f"_rpmdir /{BUILD}/all", "_build_id_links none", "debug_package %{nil}"]
    macros += ["_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm", "__brp_strip %{nil}"]
    options = " ".join(f"--define '{macro}'" for macro in macros)
    # One at a time: where one of several is noarch, rpmbuild forgets those behind it.
    loop = f"for spec in /{BUILD}/specs/*.spec; do rpmbuild --quiet -bb {options} $spec; done"
    run_in(root, "sh", "-euc", f"export SOURCE_DATE_EPOCH={EPOCH}; {loop}")
    sign = [f"_gpg_path /{SIGNING}", f"_gpg_name {_key().fingerprint}", "_openpgp_sign gpg"]
    options = " ".join(f"--define '{macro}'" for macro in sign)
    run_in(root, "sh", "-euc", f"rpmsign {options} --addsign /{BUILD}/all/*.rpm")


def _publish(root: Path, name: str, rpms: Sequence[Rpm]) -> None:
    folder = root / BUILD / name
    folder.mkdir()
    for rpm in rpms:
        if rpm.repository == name.removesuffix("-modular"):
            os.link(root / BUILD / "all" / rpm.filename, folder / rpm.filename)
    run_in(root, "createrepo_c", "--quiet", "--no-database", f"/{BUILD}/{name}")
    if name == "cuda-modular":
        (folder / "modules.yaml").write_text(_modules(rpms))
        run_in(root, "modifyrepo_c", "--mdtype=modules", f"/{BUILD}/{name}/modules.yaml", f"/{BUILD}/{name}/repodata")
    sign = ("gpg", "--batch", "--homedir", f"/{SIGNING}", "--armor", "--detach-sign")
    run_in(root, *sign, f"/{BUILD}/{name}/repodata/repomd.xml")


def _modules(rpms: Sequence[Rpm]) -> str:
    """The module's streams as modulemd documents, each with the packages that belong to it."""
    return "".join(
        _stream(stream, [rpm.nevra for rpm in rpms if rpm.modular and _belongs(rpm, entry)])
        for stream, entry in _data()["streams"].items()
    )


def _belongs(rpm: Rpm, entry: Mapping[str, str]) -> bool:
    return rpm.version.startswith(f"3:{entry['branch']}.") and rpm.streams in ("", entry["kind"])


def _stream(name: str, artifacts: Sequence[str]) -> str:
    lines = ["---", "document: modulemd", "version: 2", "data:", f"  name: {MODULE}", f'  stream: "{name}"']
    lines += ["  version: 20250101000000", "  context: lab", "  arch: x86_64", "  summary: NVIDIA driver (lab)"]
    lines += ["  description: NVIDIA driver (lab)", "  license:", "    module: [MIT]", "  artifacts:", "    rpms:"]
    return "\n".join([*lines, *(f"    - {artifact}" for artifact in artifacts), "...", ""])


def _data() -> dict[str, Any]:
    return tomllib.loads((files("gpunode.lab") / "stubs" / "rpms.toml").read_text(encoding="utf-8"))


def _words(version: str) -> dict[str, str]:
    upstream = version.rpartition(":")[2].rpartition("-")[0]
    return {
        "version": version,
        "upstream": upstream,
        "branch": upstream.partition(".")[0],
        "kernel": os.uname().release,
    }


def _rpm(entry: Mapping[str, Any], family: Mapping[str, Any], words: Mapping[str, str]) -> Rpm:
    def several(key: str) -> tuple[str, ...]:
        return tuple(text.format_map(words) for text in entry.get(key, ()))

    def texts(key: str) -> dict[str, str]:
        found = entry.get(key, {})
        return {path.format_map(words): text.replace("{upstream}", words["upstream"]) for path, text in found.items()}

    filled = {**words, **entry.get("words", {})}
    contents = {path: stubs.content(kind, filled, CACHE / "mocks") for path, kind in entry.get("stubs", {}).items()}
    links = {path.format_map(words): target.format_map(words) for path, target in entry.get("links", {}).items()}

    return Rpm(
        name=entry["name"],
        version=words["version"],
        architecture=entry.get("architecture", "x86_64"),
        requires=several("requires"),
        provides=several("provides"),
        conflicts=several("conflicts"),
        folders=several("folders"),
        files=texts("files"),
        config=texts("config"),
        stubs={path.format_map(words): data for path, data in contents.items()},
        links=links,
        scripts=texts("scripts"),
        streams=entry.get("streams", ""),
        modular=family.get("modular", False),
        repository=family["repository"],
    )
