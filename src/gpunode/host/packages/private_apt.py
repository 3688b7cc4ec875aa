"""apt in a folder of its own: it looks for packages for another release or architecture, and knows nothing of this host's packages."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gpunode.errors import CommandError
from gpunode.host.machine import OnLine, Output
from gpunode.host.packages.apt import arguments
from gpunode.host.packages.base import Spec
from gpunode.host.workspace import Workspace

SECONDS = 3600.0
INSTALLED = re.compile(r"^Inst (\S+)(?: \[[^\]]+\])? \((\S+)", re.MULTILINE)

# What the host's own apt.conf says of the way out (proxies, authorities) holds here too; what it says of its packages does not.
CONFIGURATION = """\
#clear APT::Architectures;
#clear APT::Default-Release;
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
Dir "{folder}";
Dir::State::status "{folder}/var/lib/dpkg/status";
Dir::Etc::TrustedParts "/etc/apt/trusted.gpg.d";
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::Languages "none";
{more}
"""
FOLDERS = ("etc/apt/sources.list.d", "etc/apt/preferences.d", "var/lib/apt/lists/partial", "var/lib/dpkg", "debs")
FOLDERS_OF_CACHE = ("var/cache/apt/archives/partial", "var/log/apt")


class PrivateApt:
    """apt for one target. `architecture` is dpkg's word, `status` the target's own database of packages, empty for none.

    `more` are lines of apt's configuration besides.
    """

    def __init__(self, place: Workspace, architecture: str, *, status: bytes = b"", more: str = "") -> None:
        self._place = place
        for folder in (*FOLDERS, *FOLDERS_OF_CACHE):
            place.make_folders(folder)
        text = CONFIGURATION.format(folder=place.path, architecture=architecture, more=more)
        place.write("apt.conf", text.encode())
        place.write("var/lib/dpkg/status", status)

    def add_source(self, name: str, text: str) -> None:
        """Have it read a source file; its name tells the format, as in /etc/apt/sources.list.d."""
        self._place.write(f"etc/apt/sources.list.d/{name}", text.encode())

    def add_key(self, name: str, key: bytes) -> str:
        """Keep a keyring for sources to name; returns its path."""
        return self._place.write(f"keys/{name}", key)

    def prefer(self, name: str, text: str) -> None:
        """Have it read a file of preferences: which versions are wanted."""
        self._place.write(f"etc/apt/preferences.d/{name}", text.encode())

    def update(self, on_line: OnLine) -> None:
        """Fetch and verify every source's index. Raises CommandError where one cannot be had or is not signed as its source says."""
        _require(self._apt("update", "--error-on=any", on_line=on_line), "update")

    def download(self, specs: Sequence[Spec], on_line: OnLine) -> list[str]:
        """Fetch packages and all they need that the target does not have; returns the files' paths. Raises CommandError."""
        simulated = _require(
            self._apt("--simulate", "--yes", "--allow-downgrades", "install", *arguments(specs)), "install"
        )
        wanted = [f"{name}={version}" for name, version in INSTALLED.findall(simulated.stdout)]
        # Not `install --download-only`, which leaves packages of a local repository where they are.
        if wanted:
            _require(self._apt("download", *wanted, on_line=on_line), "download")
        return [f"{self._place.path}/debs/{name}" for name in self._place.names("debs")]

    def _apt(self, *words: str, on_line: OnLine | None = None) -> Output:
        argv = [
            "env",
            f"--chdir={self._place.path}/debs",
            "apt-get",
            f"--config-file={self._place.path}/apt.conf",
            *words,
        ]
        return self._place.machine.run(argv, timeout=SECONDS, on_line=on_line)


def _require(output: Output, verb: str) -> Output:
    if output.ok:
        return output
    text = f"{output.stdout}\n{output.stderr}"
    errors = [line[3:].strip() for line in text.splitlines() if line.startswith("E: ")]
    reason = errors[0] if errors else f"exit status {output.returncode}"
    hint = "do the sources belong to the target (--sources)? is what it has already known (--status)?"
    raise CommandError(f"apt-get {verb} for the target failed: {reason}", hint=hint, details=output.last_words(15))
