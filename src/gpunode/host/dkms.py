"""DKMS: what a build that failed leaves behind, and what of DKMS's own stays on a host."""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpunode.errors import CommandError
from gpunode.host.reader import Reader

FOLDER = "/var/lib/dkms"
SIGNING_KEY = f"{FOLDER}/mok.key"
HEADER = re.compile(r"^DKMS .*for kernel (\S+)", re.MULTILINE)
ERROR = re.compile(r"\berror:|unrecognized command|version check failed|No such file or directory", re.IGNORECASE)
SHOWN = 8
HINT = (
    'this driver does not compile for this kernel: name a newer driver.branch or driver.source = "nvidia" in the profile, or boot '
    "another kernel; `gpunode rollback` takes back what was begun"
)


@dataclass(frozen=True)
class FailedBuild:
    """A build that failed: of what (`nvidia-current-open/550.163.01`), for which kernel, its log, and the lines of the log that say why."""

    module: str
    kernel: str
    log: str
    errors: tuple[str, ...]


def logs(reader: Reader) -> list[str]:
    """The logs of NVIDIA's builds that failed: after one that did not, DKMS puts the log elsewhere."""
    packages = reader.glob(FOLDER, "nvidia*")
    paths = [f"{package}/{version}/build/make.log" for package in packages for version in reader.listdir(package)]
    return [path for path in paths if reader.exists(path)]


def failed_build(reader: Reader, since: float = 0.0) -> FailedBuild | None:
    """A build that failed after a moment, in seconds since the epoch; None where there is none."""
    for path in logs(reader):
        stat = reader.lstat(path)
        if stat and stat.mtime >= since:
            return _read(path, (reader.read(path) or b"").decode("utf-8", "replace"))
    return None


def _read(path: str, text: str) -> FailedBuild:
    kernel = HEADER.search(text)
    module = path.removeprefix(f"{FOLDER}/").removesuffix("/build/make.log")
    errors = [line.strip() for line in text.splitlines() if ERROR.search(line)]
    return FailedBuild(module, kernel[1].rstrip(",") if kernel else "?", path, tuple(errors[:SHOWN]))


def explained(error: CommandError, reader: Reader, since: float) -> CommandError:
    """The error of a package manager, told by the build that failed in its transaction, where one did."""
    reader.forget()
    build = failed_build(reader, since)
    if build is None:
        return error
    first = f": {without_folder(build.errors[0])}" if build.errors else ""
    return CommandError(
        f"DKMS could not build {build.module} for the kernel {build.kernel}{first}",
        hint=HINT,
        details=(*build.errors, f"the whole log: {build.log}", error.message),
    )


def without_folder(line: str) -> str:
    """A compiler's line that names its file without the folder, which DKMS's make long: `nv-pci.c:237:9: error: …`."""
    return re.sub(r"^/\S*/", "", line)
