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
    ("systemctl", "show"),
    ("systemctl", "is-enabled"),
    ("journalctl",),
    ("modinfo",),
    ("ldconfig", "-p"),
    ("containerd", "--version"),
    ("containerd", "--config"),
    ("containerd", "config"),
    ("ctr", "version"),
)
"""Prefixes of read-only commands; an absolute path counts by its last component."""

KUBECTL_READ_ONLY = ("get", "version", "auth", "logs", "diff")
KUBECTL = ("kubectl", "k3s", "microk8s", "k0s")


def is_read_only(argv: Sequence[str]) -> bool:
    """True when the command is known to change nothing.

    `kubectl` counts by its verb, and `apply` only with the server's dry run, which stores nothing.
    """
    name = argv[0].rsplit("/", 1)[-1]
    if name in KUBECTL:
        return _kubectl_reads(argv)
    words = (name, *argv[1:])
    if name == "containerd" and words[1:2] in (("--config",), ("config",)):
        return "dump" in words or "default" in words
    return any(words[: len(prefix)] == prefix for prefix in READ_ONLY)


def _kubectl_reads(argv: Sequence[str]) -> bool:
    verb = next((word for word in argv[1:] if not word.startswith("-") and word != "kubectl"), "")
    waits = verb == "rollout" and "status" in argv
    return verb in KUBECTL_READ_ONLY or waits or (verb == "apply" and "--dry-run=server" in argv)
