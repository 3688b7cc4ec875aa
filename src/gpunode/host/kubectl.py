"""Speaking to the cluster as the node does: its own kubectl, a kubeconfig, server-side apply under our own field manager."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gpunode.errors import CommandError
from gpunode.host.machine import Machine, Output
from gpunode.host.reader import Reader

FIELD_MANAGER = "gpunode"
CACHE = "/run/gpunode/kubectl"
"""kubectl keeps what it learns of the API; beside root's home it would be left behind."""
Object = dict[str, Any]


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


def get(reader: Reader, access: Access, kind: str, name: str, namespace: str = "") -> Object | None:
    """A live object; None when the cluster has none. Raises CommandError when the cluster cannot be asked."""
    words = ["get", kind, name, "--ignore-not-found", "--output=json", "--show-managed-fields", *_namespace(namespace)]
    output = reader.query(access.argv(*words), timeout=access.timeout + 5)
    if not output.ok:
        raise error(output)
    found = json.loads(output.stdout) if output.stdout.strip() else None
    return found if isinstance(found, dict) else None


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


def error(output: Output) -> CommandError:
    """kubectl's last words as one sentence, with what to do about the common ones."""
    words = output.last_words(6) or (f"exit status {output.returncode}",)
    message = words[-1].removeprefix("error: ").removeprefix("Error from server ")
    hints = (
        ("conflict", "another manager owns these fields: see the message, then let it go there or here"),
        (
            "forbidden",
            "the kubeconfig's user may not do this: give it the rights, or name another kubeconfig in the profile",
        ),
        ("Unauthorized", "the kubeconfig's credentials are refused: are they expired?"),
        ("connection to the server", "is the API server up? kubernetes.kubeconfig in the profile says which"),
        ("timeout", "the API server is slow or gone: kubernetes.timeout in the profile"),
    )
    text = " ".join(words)
    hint = next((hint for word, hint in hints if word.lower() in text.lower()), "")
    return CommandError(f"kubectl: {message}", hint=hint, details=words[:-1])


def _apply_options() -> list[str]:
    return ["--server-side", f"--field-manager={FIELD_MANAGER}", "--output=json", "--filename=-"]


def _namespace(namespace: str) -> list[str]:
    return [f"--namespace={namespace}"] if namespace else []


def _object(output: Output) -> Object:
    if not output.ok:
        raise error(output)
    found = json.loads(output.stdout)
    return found if isinstance(found, dict) else {}
