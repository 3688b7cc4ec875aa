"""The journal's entries in words, for progress and history."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gpunode.host.journal import Entry, Json

_REFRESHED = {
    "loader-cache": "made the loader's cache anew",
    "initramfs:update-initramfs": "made the initramfs anew",
    "initramfs:dracut": "made the initramfs anew",
    "units": "made systemd read its units anew",
}


def describe(entry: Entry, *, arrow: str = "→") -> str:
    """An entry of the journal in words: `changed /etc/containerd/config.toml`."""
    words = _VERBS.get(entry.verb)
    try:
        text = words(entry.intent) if words else f"{entry.verb}: {entry.resource}"
    except (KeyError, IndexError, TypeError):  # written by another version of gpunode
        text = f"{entry.verb}: {entry.resource}"
    return text.replace("→", arrow)


def _file(intent: Json) -> str:
    return f"{'changed' if intent['before'] else 'made'} {intent['path']}"


def _packages(intent: Json) -> str:
    wanted = [" ".join(filter(None, spec)) for spec in intent["install"]] + list(intent.get("reinstall", ()))
    named = {spec[0] for spec in intent["install"]} | set(intent.get("reinstall", ()))
    others = sum(item["name"] not in named for item in intent["transaction"])
    more = f" and {others} package{'' if others == 1 else 's'} that they need" if others else ""
    return f"installed {', '.join(wanted)}{more}"


def _service(intent: Json) -> str:
    verbs = [verb for verb, was in (("enabled", intent["enabled"]), ("started", intent["active"])) if not was]
    return f"{' and '.join(verbs)} {intent['unit']}"


def _refreshed(intent: Json) -> str:
    kind, _, rest = intent["what"].partition(":")
    if kind != "lists":
        return _REFRESHED[intent["what"]]
    manager, _, source = rest.partition(":")
    return f"fetched the package lists of {source or manager}"


def _installer(intent: Json) -> str:
    return f"ran the installer {intent['file'].rpartition('/')[2]}"


def _object(intent: Json) -> str:
    manifest = intent["manifest"]
    metadata = manifest["metadata"]
    space = f" in {metadata['namespace']}" if metadata.get("namespace") else ""
    return f"{'changed' if intent['existed'] else 'made'} {manifest['kind']} {metadata['name']}{space}"


_VERBS: Mapping[str, Callable[[Json], str]] = {
    "write-file": _file,
    "remove-file": lambda intent: f"removed {intent['path']}",
    "make-link": lambda intent: f"linked {intent['path']} → {intent['after']['target']}",
    "make-directory": lambda intent: f"made the folder {intent['path']}",
    "install-packages": _packages,
    "hold-packages": lambda intent: f"held {', '.join(intent['names'])}",
    "trust-key": lambda intent: f"had rpm trust the key {intent['key']}",
    "enable-service": _service,
    "restart-service": lambda intent: f"restarted {intent['unit']}",
    "reload-service": lambda intent: f"had {intent['unit']} read its configuration again",
    "await-restart": lambda intent: f"saw {intent['unit']} restart its daemon",
    "stop-service": lambda intent: f"stopped {intent['unit']}",
    "unload-module": lambda intent: f"unloaded the kernel module {intent['module']}",
    "load-module": lambda intent: f"loaded the kernel module {intent['module']}",
    "refresh": _refreshed,
    "reboot": lambda intent: f"asked for a reboot: {intent['why']}",
    "run-installer": _installer,
    "unpack-bundle": lambda intent: f"unpacked the bundle {intent['bundle']} into {intent['folder']}",
    "import-images": lambda intent: f"loaded the images {', '.join(intent['names'])}",
    "apply-object": _object,
    "cordon-node": lambda intent: f"cordoned the node {intent['node']}",
    "evict-pod": lambda intent: f"evicted the pod {intent['pod']['namespace']}/{intent['pod']['name']}",
    "end-processes": lambda intent: f"ended {', '.join(each['command'] for each in intent['processes'])}",
    "pause-service": lambda intent: f"stopped {intent['unit']} for a while",
    "drop-object": lambda intent: f"took away {intent['manifest']['kind']} {intent['manifest']['metadata']['name']}",
}
