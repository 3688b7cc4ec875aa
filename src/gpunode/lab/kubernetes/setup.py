"""Makes a lab host's root a Kubernetes node: certificates, kubeconfigs, units and the objects of a fresh cluster."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import yaml

from gpunode.lab.interpreter import PYTHON
from gpunode.lab.kubernetes import pki
from gpunode.lab.kubernetes.apiserver import PORT
from gpunode.lab.kubernetes.kinds import Object
from gpunode.lab.kubernetes.kubeconfig import kubeconfig
from gpunode.lab.kubernetes.pki import Pair

_FOLDER = "var/lib/lab-apiserver"
_IMAGES = "usr/lib/lab-images"
_PYTHON = f"/{PYTHON} -m gpunode.lab.kubernetes"
_UNIT = """\
[Unit]
Description={description}
After={after}
Wants={after}

[Service]
Type={type}
Environment=PYTHONPATH=/opt/gpunode/src:/opt/gpunode/lib
Environment=PYTHONDONTWRITEBYTECODE=1
ExecStart={command}
{more}
[Install]
WantedBy=multi-user.target
"""
_IMPORT = """\
#!/bin/sh
# Brings the lab's images into containerd where they are missing: there is no registry to pull them from.
set -eu
for archive in /usr/lib/lab-images/*.tar; do
    [ -e "$archive" ] || continue
    for namespace in k8s.io default; do
        mark="/var/lib/containerd/.lab-$namespace-$(basename "$archive")"
        [ -e "$mark" ] && continue
        ctr --namespace "$namespace" images import "$archive"
        touch "$mark"
    done
done
"""


def prepare(root: Path, address: str, *, images: Sequence[Path] = ()) -> None:
    """Write all that the API server and kubelet stand-ins need into the root of a host that is not booted yet.

    `address` is the loopback address they serve on; `images` are OCI archives that containerd is to hold.
    """
    authority = pki.write(root / _FOLDER, address)
    _write_credentials(root, f"https://{address}:{PORT}", authority)
    _write_objects(root)
    _write_kubelet_config(root)
    _write_images(root, images)
    _write_units(root, address)


def _write_private(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)


def _write_credentials(root: Path, server: str, authority: Pair) -> None:
    hostname = root / "etc/hostname"
    node = hostname.read_text().strip() if hostname.exists() else "lab-node"
    users = {
        "admin.conf": ("kubernetes-admin", "system:masters"),
        "kubelet.conf": (f"system:node:{node}", "system:nodes"),
    }
    for name, (user, group) in users.items():
        document = kubeconfig(server, authority, user, pki.client(authority, user, group))
        _write_private(root / "etc/kubernetes" / name, yaml.safe_dump(document, sort_keys=False))
    _write_private(root / _FOLDER / "tokens", secrets.token_hex(16) + "\n")


def _write_objects(root: Path) -> None:
    """The objects that a cluster has from the start."""
    objects = {}
    for name in ("default", "kube-system"):
        body: Object = {"apiVersion": "v1", "kind": "Namespace", "spec": {"finalizers": ["kubernetes"]}}
        objects[f"namespaces||{name}"] = body | {"metadata": _metadata(name), "status": {"phase": "Active"}}
    for name, value in (("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)):
        body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": value}
        objects[f"priorityclasses.scheduling.k8s.io||{name}"] = body | {"metadata": _metadata(name)}
    document = {"version": 1, "objects": objects}
    _write_private(root / _FOLDER / "objects.json", json.dumps(document))


def _metadata(name: str) -> dict[str, str]:
    uid = f"00000000-0000-4000-8000-{name.encode().hex()[:12]:0<12}"
    return {"name": name, "uid": uid, "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z"}


def _write_kubelet_config(root: Path) -> None:
    config = {"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration", "cgroupDriver": "systemd"}
    file = root / "var/lib/kubelet/config.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(config, sort_keys=False))


def _write_images(root: Path, images: Sequence[Path]) -> None:
    folder = root / _IMAGES
    folder.mkdir(parents=True, exist_ok=True)
    for image in images:
        shutil.copyfile(image, folder / image.name)
    script = folder / "import"
    script.write_text(_IMPORT)
    script.chmod(0o755)


def _write_units(root: Path, address: str) -> None:
    serve = f"{_PYTHON}.apiserver --address {address} --folder /{_FOLDER}"
    node = f"{_PYTHON}.kubelet --address {address}"
    again = "Restart=always\nRestartSec=1\n"
    # Containers are not the kubelet's: they live on when it stops.
    keep = "KillMode=process\n"
    once = "RemainAfterExit=yes\n"
    _write_unit(root, "lab-apiserver", ("Kubernetes API stand-in", "network.target", "exec", serve, again))
    _write_unit(root, "lab-kubelet", ("Kubelet stand-in", "lab-apiserver.service", "exec", node, again + keep))
    importer = ("Images of the lab", "containerd.service", "oneshot", f"/{_IMAGES}/import", once)
    _write_unit(root, "lab-images", importer)


def _write_unit(root: Path, name: str, parts: tuple[str, str, str, str, str]) -> None:
    description, after, kind, command, more = parts
    text = _UNIT.format(description=description, after=after, type=kind, command=command, more=more)
    units = root / "etc/systemd/system"
    wants = units / "multi-user.target.wants"
    wants.mkdir(parents=True, exist_ok=True)
    (units / f"{name}.service").write_text(text)
    (wants / f"{name}.service").unlink(missing_ok=True)
    (wants / f"{name}.service").symlink_to(f"/etc/systemd/system/{name}.service")
