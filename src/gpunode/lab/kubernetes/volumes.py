"""A pod's volumes as bind mounts from the host."""

from __future__ import annotations

from base64 import b64decode
from pathlib import Path

from gpunode.lab.kubernetes.client import Client
from gpunode.lab.kubernetes.kinds import CONFIG_MAPS, Object, find

PODS_FOLDER = Path("/var/lib/kubelet/pods")


class VolumeError(Exception):
    """A volume cannot be mounted, in the kubelet's words."""


def prepare(client: Client, pod: Object) -> dict[str, Path]:
    """Make the pod's volumes ready: name → host path; raises VolumeError."""
    return {volume["name"]: _prepare(client, pod, volume) for volume in pod["spec"].get("volumes", [])}


def _prepare(client: Client, pod: Object, volume: Object) -> Path:
    folder: Path = PODS_FOLDER / pod["metadata"]["uid"] / "volumes" / volume["name"]
    namespace = pod["metadata"]["namespace"]
    if "hostPath" in volume:
        return _host_path(volume)
    if "emptyDir" in volume:
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    if "configMap" in volume:
        source = volume["configMap"]
        body = client.get(CONFIG_MAPS, namespace, source["name"])
        return _files(folder, volume, source["name"], body, {} if body is None else _encoded(body.get("data", {})))
    if "secret" in volume:
        name = volume["secret"]["secretName"]
        body = client.get(find("secrets"), namespace, name)
        data = {} if body is None else {key: b64decode(value) for key, value in body.get("data", {}).items()}
        return _files(folder, volume, name, body, data)
    raise VolumeError(f'Unable to attach or mount volumes: no volume plugin matched name: "{volume["name"]}"')


def _encoded(data: dict[str, str]) -> dict[str, bytes]:
    return {key: value.encode() for key, value in data.items()}


def _host_path(volume: Object) -> Path:
    path, kind = Path(volume["hostPath"]["path"]), volume["hostPath"].get("type", "")
    if kind in ("", "DirectoryOrCreate") and not path.exists():
        path.mkdir(parents=True)
    checks = {
        "Directory": path.is_dir,
        "File": path.is_file,
        "Socket": path.is_socket,
        "CharDevice": path.is_char_device,
    }
    if kind in checks and not checks[kind]():
        text = f"hostPath type check failed: {path} is not a {kind.lower()}"
        raise VolumeError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {text}')
    return path


def _files(folder: Path, volume: Object, name: str, body: Object | None, data: dict[str, bytes]) -> Path:
    kind = "configMap" if "configMap" in volume else "secret"
    if body is None and not volume[kind].get("optional"):
        text = f'{kind.lower()} "{name}" not found'
        raise VolumeError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {text}')
    items = {item["key"]: item["path"] for item in volume[kind].get("items", [])} or {key: key for key in data}
    folder.mkdir(parents=True, exist_ok=True)
    for key, path in items.items():
        (folder / path).write_bytes(data[key])
    return folder
