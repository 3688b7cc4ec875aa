"""The commands that only read. `Reader.query` runs nothing else, so that check, plan and findings cannot change a host."""

from __future__ import annotations

from collections.abc import Sequence

READ_ONLY: tuple[tuple[str, ...], ...] = (
    ("dpkg-query",),
    ("dpkg", "--audit"),
    ("dpkg", "--print-architecture"),
    ("dpkg", "--verify"),
    ("apt-get", "--simulate"),
    ("apt-cache",),
    ("apt-mark", "showhold"),
    ("apt-mark", "showmanual"),
    ("apt-mark", "showauto"),
    ("rpm", "--query"),
    ("dnf", "repoquery"),
    ("dnf", "module", "list"),
    ("dnf", "history", "info"),
    ("dnf", "--assumeno", "shell"),
    ("dnf", "--assumeno", "do"),
    ("zypper", "--non-interactive", "--no-refresh", "--xmlout", "search"),
    ("zypper", "--non-interactive", "--no-refresh", "--xmlout", "install", "--dry-run"),
    ("systemctl", "show"),
    ("systemctl", "is-enabled"),
    ("journalctl", "--unit"),
    ("journalctl", "--dmesg"),
    ("dmesg", "--time-format=iso"),
    ("modinfo",),
    ("ldconfig", "-p"),
    ("containerd", "--version"),
    ("containerd", "config", "default"),
    ("containerd", "config", "dump"),
    ("ctr", "version"),
    ("gpgv",),
    ("sqv",),
    ("crio", "--version"),
    ("docker", "--context", "default", "info"),
    ("docker", "--version"),
    ("dockerd", "--validate"),
    ("dockerd", "--version"),
    ("podman", "--version"),
)
"""Prefixes of read-only commands; an absolute path counts by its last component."""

KUBECTL = ("kubectl", "k3s", "microk8s", "k0s")
KUBECTL_READ_ONLY = ("get", "version", "logs", "diff")


def is_read_only(argv: Sequence[str]) -> bool:
    """True when the command is known to change nothing.

    `kubectl` counts by its verb: `apply` only with the server's dry run, which stores nothing, `rollout` only for its status.
    """
    name = argv[0].rsplit("/", 1)[-1]
    words = (name, *argv[1:])
    if "ctr" in words[:2] and words[-2:] == ("images", "ls"):
        return True
    if name in KUBECTL:
        return _kubectl_reads(words[2:] if words[1:2] == ("kubectl",) else words[1:])
    if words[:2] == ("containerd", "--config"):
        return words[3:] == ("config", "dump")
    if words[:2] == ("crio", "--config"):
        return words[3:] == ("--config-dir", "", "config")
    return any(words[: len(prefix)] == prefix for prefix in READ_ONLY)


def _kubectl_reads(words: Sequence[str]) -> bool:
    """The verb comes first, as `kubectl.Access` writes it: anything else is not looked for."""
    verb, *rest = words or ("",)
    if verb == "apply":
        return "--dry-run=server" in rest
    if verb == "rollout":
        return next((word for word in rest if not word.startswith("-")), "") == "status"
    return verb in KUBECTL_READ_ONLY
