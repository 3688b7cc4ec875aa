"""Snapshots of a lab host, and what differs between two of them: the proof that nothing else was changed."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpunode.lab import LabError
from gpunode.lab.host import LabHost

Fields = Mapping[str, str]  # what is compared of one thing: {"mode": "0644", "content": "5f36…"}
Section = Mapping[str, Fields]  # things of a kind by name
Objects = Callable[[LabHost], Section]

# Shell patterns (`*` matches `/` too) of what no snapshot holds, each with its reason.
EXCLUDED = {
    "/proc": "the kernel's",
    "/sys": "the kernel's; loaded modules are listed on their own",
    "/dev": "made anew at every boot",
    "/run": "gone with every boot",
    "/tmp": "gone with every boot",
    "/var/tmp/systemd-private-*": "folders of running units, named at random",
    "/var/cache": "can be removed at any time, by definition",
    "/var/log": "grows by itself",
    "/var/lib/apt": "apt's lists and times; auto and manual marks are listed with the packages",
    "/var/lib/dpkg/status*": "dpkg's database, listed as packages; the rest of it is compared",
    "/var/lib/dpkg/tmp.ci": "dpkg's own working folder; its next unpack clears it away",
    "/var/lib/dpkg/diversions-old": "backup of the file beside it",
    "/var/lib/dpkg/lock*": "empty lock files",
    "/var/lib/dpkg/triggers/*": "what is pending at the moment",
    "/var/lib/dpkg/updates": "what is pending at the moment",
    "/var/backups": "copies of dpkg's database, by a timer",
    "/var/lib/gpunode": "gpunode's own state: it keeps its journal on purpose",
    "/opt/gpunode": "the product itself",
    "/etc/passwd-": "the account tools' own backup of the version before; the files themselves are compared",
    "/etc/group-": "likewise",
    "/etc/shadow-": "likewise",
    "/etc/gshadow-": "likewise",
    "/etc/ld.so.cache": "made from the libraries and /etc/ld.so.conf.d, which are compared",
    "/var/lib/containerd": "containerd's images and state",
    "/var/lib/systemd/timers/*": "times of the last run",
    "/var/lib/systemd/catalog/database": "made from the message catalogues, which are compared",
    "/var/lib/lab-*": "the emulation's own state",
    "*.pyc": "made from the source beside it",
    "*/__pycache__": "made from the source beside it",
}

KUBECONFIG = "/etc/kubernetes/admin.conf"
# Kinds that come and go by themselves.
RESTLESS_KINDS = {"events", "events.events.k8s.io", "leases.coordination.k8s.io", "endpoints"}
# What a server fills in, in an object's metadata.
SERVER_FIELDS = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "uid", "selfLink")


@dataclass(frozen=True)
class Change:
    """One thing that differs. `before` or `after` is None where it is not there."""

    section: str
    name: str
    before: Fields | None
    after: Fields | None

    def __str__(self) -> str:
        return f"{self.section} {self.name}: {self._difference()}"

    def _difference(self) -> str:
        if self.before is None:
            return f"added ({_fields(self.after or {})})"
        if self.after is None:
            return f"removed ({_fields(self.before)})"
        names = sorted(self.before.keys() | self.after.keys())
        differing = [name for name in names if self.before.get(name) != self.after.get(name)]
        return ", ".join(
            f"{name} {_short(self.before.get(name))} → {_short(self.after.get(name))}" for name in differing
        )


@dataclass(frozen=True)
class Snapshot:
    """What a host was like at one moment: files, packages, units, modules, Kubernetes objects, each by name."""

    sections: Mapping[str, Section]

    @classmethod
    def take(cls, host: LabHost, objects: Objects | None = None) -> "Snapshot":
        """Look at a host that is up. `objects` lists what its cluster holds; by default `kubernetes_objects`.

        Raises LabError if the host or its API server does not answer.
        """
        program = (Path(__file__).parent / "manifest_probe.py").read_text()
        printed = host.run("python3", "-", *patterns(), input=program).stdout
        return cls({**json.loads(printed), "object": (objects or kubernetes_objects)(host)})

    @staticmethod
    def compare(before: "Snapshot", after: "Snapshot") -> list[Change]:
        """Return every thing that differs, by section and name; an empty list says the two are the same."""
        changes = []
        for section in sorted(before.sections.keys() | after.sections.keys()):
            old, new = before.sections.get(section, {}), after.sections.get(section, {})
            for name in sorted(old.keys() | new.keys()):
                if old.get(name) != new.get(name):
                    changes.append(Change(section, name, old.get(name), new.get(name)))
        return changes


def report(changes: Iterable[Change]) -> str:
    """Return the changes to be read by a person, one a line."""
    return "\n".join(str(change) for change in changes) or "no change"


def patterns() -> list[str]:
    """Return the excluded paths as the host's program takes them."""
    return list(EXCLUDED)


def kubernetes_objects(host: LabHost) -> Section:
    """List the objects of the host's cluster, as far as somebody asked for them; nothing where there is no kubeconfig.

    Left out: status and what the server fills in, and objects that a controller made for another one.
    """
    if host.run("test", "-e", KUBECONFIG, check=False).returncode != 0:
        return {}
    # Its cache in /run: looking must leave no files that the next snapshot would see.
    kubectl = ("kubectl", f"--kubeconfig={KUBECONFIG}", "--cache-dir=/run/lab-kubectl")
    kinds = set(host.run(*kubectl, "api-resources", "--verbs=list", "--output=name").stdout.split())
    if not kinds - RESTLESS_KINDS:
        raise LabError(f"the API server of {host.name} lists no kinds")
    wanted = ",".join(sorted(kinds - RESTLESS_KINDS))
    listing = json.loads(host.run(*kubectl, "get", wanted, "--all-namespaces", "--output=json").stdout)
    return dict(_named(item) for item in listing["items"] if not item["metadata"].get("ownerReferences"))


def _named(item: Mapping[str, Any]) -> tuple[str, Fields]:
    metadata = {key: value for key, value in item["metadata"].items() if key not in SERVER_FIELDS}
    name = "/".join(filter(None, (item["kind"], metadata.get("namespace"), metadata["name"])))
    body = {key: value for key, value in item.items() if key not in ("status", "metadata")}
    return name, {key: json.dumps(value, sort_keys=True) for key, value in {**body, **metadata}.items()}


def _fields(fields: Fields) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in sorted(fields.items()))


def _short(value: str | None) -> str:
    if value is None:
        return "none"
    return value if len(value) <= 60 else f"{value[:59]}…"
