"""Speaking to the cluster as the node does: its own kubectl, a kubeconfig, server-side apply under our own field manager."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gpunode.errors import CommandError
from gpunode.host.machine import Machine, Output
from gpunode.host.reader import Reader

FIELD_MANAGER = "gpunode"
CACHE = "/run/gpunode/kubectl"
"""kubectl keeps what it learns of the API; beside root's home it would be left behind."""
MANAGED_FIELDS = "--show-managed-fields"
"""kubectl before 1.21 (Debian 11's and 12's) does not know the option, and shows them always."""
Object = dict[str, Any]
Address = tuple[str, str, str]
"""Kind, name and name space (empty for an object of the cluster's own), as kubectl takes them."""


@dataclass(frozen=True)
class Access:
    """How to reach the API: the command (`kubectl`, `k3s kubectl`), the kubeconfig and context, seconds per request."""

    command: tuple[str, ...]
    kubeconfig: str | None = None
    context: str | None = None
    timeout: int = 30

    def argv(self, *words: str) -> list[str]:
        """A kubectl command line with this access."""
        place = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        place += [f"--context={self.context}"] if self.context else []
        verb, *rest = words
        return [*self.command, verb, *place, f"--cache-dir={CACHE}", f"--request-timeout={self.timeout}s", *rest]


def get_of(reader: Reader, access: Access, asked: Sequence[Address], wanted: Address) -> Object | None:
    """As `get`, of one of several objects that are asked for in one question; the answer is remembered until something changes."""
    namespace = next((namespace for _, _, namespace in asked if namespace), "")
    names = [f"{kind}/{name}" for kind, name, _ in asked]
    output = ask_once(reader, access, *names, "--ignore-not-found", *_namespace(namespace))
    if not output.ok:
        raise error(output)
    found = json.loads(output.stdout) if output.stdout.strip() else {}
    named = ((each["kind"].lower(), each["metadata"]["name"], each) for each in found.get("items", []))
    return next((each for kind, name, each in named if (kind, name) == wanted[:2]), None)


def get(reader: Reader, access: Access, kind: str, name: str, namespace: str = "") -> Object | None:
    """A live object; None when the cluster has none. Raises CommandError when the cluster cannot be asked."""
    output = ask(reader, access, kind, name, "--ignore-not-found", *_namespace(namespace))
    if not output.ok:
        raise error(output)
    found = json.loads(output.stdout) if output.stdout.strip() else None
    return found if isinstance(found, dict) else None


def ask(reader: Reader, access: Access, *words: str) -> Output:
    """What `kubectl get` prints as JSON, managed fields included."""
    get = ("get", *words, "--output=json")
    output = reader.query(access.argv(*get, MANAGED_FIELDS), timeout=access.timeout + 5)
    if f"unknown flag: {MANAGED_FIELDS}" in output.stderr:
        return reader.query(access.argv(*get), timeout=access.timeout + 5)
    return output


def ask_once(reader: Reader, access: Access, *words: str) -> Output:
    """As `ask`, remembered until something changes."""
    about = ("kubectl get", access, words)
    output: Output | None = reader.recall(about)
    if output is None:
        output = ask(reader, access, *words)
        reader.remember(about, output)
    return output


def dry_run(reader: Reader, access: Access, manifest: Object) -> Object:
    """What the server would store. Raises CommandError, also for a conflict with another field manager."""
    words = access.argv("apply", "--dry-run=server", *_apply_options())
    output = reader.query(words, stdin=json.dumps(manifest), timeout=access.timeout + 5)
    return _object(output)


def apply(machine: Machine, access: Access, manifest: Object, *, force: bool = False) -> Object:
    """Server-side apply; returns the object as stored. Raises CommandError."""
    words = access.argv("apply", *_apply_options(), *(["--force-conflicts"] if force else []))
    return _object(machine.run(words, stdin=json.dumps(manifest), timeout=access.timeout + 5))


def delete(machine: Machine, access: Access, kind: str, name: str, namespace: str = "", *, wait: int = 60) -> None:
    """Delete an object and wait until it is gone. Raises CommandError."""
    words = ["delete", kind, name, "--ignore-not-found", f"--timeout={wait}s", *_namespace(namespace)]
    output = machine.run(access.argv(*words), timeout=wait + access.timeout + 5)
    if not output.ok:
        raise error(output)


def schedule(machine: Machine, access: Access, verb: Literal["cordon", "uncordon"], node: str) -> None:
    """`cordon` or `uncordon` a node. Raises CommandError."""
    output = machine.run(access.argv(verb, node), timeout=access.timeout + 5)
    if not output.ok:
        raise error(output)


def evict(machine: Machine, access: Access, namespace: str, name: str, uid: str) -> Output:
    """Ask for the eviction of this very pod, with its own grace period; how that ended is in kubectl's words."""
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": namespace},
        "deleteOptions": {"preconditions": {"uid": uid}},
    }
    place = f"--raw=/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    return machine.run(access.argv("create", place, "--filename=-"), stdin=json.dumps(body), timeout=access.timeout + 5)


_HINTS = (
    ("admission webhook", "a policy of the cluster forbids it: ask those who run the webhook that is named"),
    (
        "forbidden",
        "the kubeconfig's user may not do this: give it the rights, or name another kubeconfig in the profile",
    ),
    ("unauthorized", "the kubeconfig's credentials are refused: are they expired?"),
    (
        "certificate has expired",
        "renew the cluster's certificates, or set this host's clock if it is that which is wrong",
    ),
    ("toomanyrequests", "the API server is overloaded: wait a little, and run it again"),
    ("internalerror", "the API server failed by itself: the API server's own log says why; run it again after that"),
    ("has been modified", "somebody changed it at that very moment: run it again"),
    ("deadline exceeded", "the API server is slow or gone: kubernetes.timeout in the profile"),
    ("timeout", "the API server is slow or gone: kubernetes.timeout in the profile"),
    (
        "x509",
        "its certificate does not fit the kubeconfig: is it another cluster's? kubernetes.kubeconfig in the profile says which",
    ),
    (
        "getting credentials",
        "the program that the kubeconfig names for its credentials failed: kubernetes.kubeconfig in the profile",
    ),
    ("connection to the server", "is the API server up? kubernetes.kubeconfig in the profile says which"),
    ("unable to connect", "is the API server up? kubernetes.kubeconfig in the profile says which"),
)
"""What kubectl's words are known by, in small letters, the more particular first, and what to do about it."""


def error(output: Output) -> CommandError:
    """kubectl's last words as one sentence, with what to do about the common ones."""
    managers = sorted(set(re.findall(r'conflicts? with "([^"]+)"', output.stderr)))
    if managers:
        return _conflict(managers, output.stderr)
    # What follows is kubectl's general advice on conflicts, which it gives on every 409.
    said = replace(output, stderr=output.stderr.partition("Please review the fields above")[0])
    words = said.last_words(6) or (f"exit status {output.returncode}",)
    message = words[-1].removeprefix("error: ").removeprefix("Error from server ")
    text = " ".join(words)
    hint = next((hint for word, hint in _HINTS if word in text.lower()), "")
    return CommandError(f"kubectl: {message}", hint=hint, details=words[:-1])


def _conflict(managers: list[str], text: str) -> CommandError:
    """Who else has set the fields, by the names that they gave the API server, and which fields they are."""
    fields = tuple(re.findall(r"(?:^- |: )(\.\S.*)$", text, re.MULTILINE))
    who = " and ".join(managers)
    count = f"{len(fields)} field{'' if len(fields) == 1 else 's'}"
    return CommandError(
        f"{who} manages {count} that gpunode would set otherwise",
        hint=f"have {who} let them go, or give the profile the values that {who} has set",
        details=fields,
    )


def _apply_options() -> list[str]:
    return ["--server-side", f"--field-manager={FIELD_MANAGER}", "--output=json", "--filename=-"]


def _namespace(namespace: str) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []


def _object(output: Output) -> Object:
    if not output.ok:
        raise error(output)
    found = json.loads(output.stdout)
    return found if isinstance(found, dict) else {}
