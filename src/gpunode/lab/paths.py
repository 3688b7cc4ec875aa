"""Where the lab keeps its things on this machine. Root only: lab hosts hold private keys and run as root."""

from pathlib import Path

CACHE = Path("/var/cache/gpunode-lab")  # layers: can be removed at any time while no host is up, and is built again
LAYERS = CACHE / "layers"
HOSTS = Path("/var/lib/gpunode-lab/hosts")  # one folder a host: what it wrote, its console, its address


def prepare_folders() -> None:
    """Make the lab's folders, readable by root alone."""
    for folder in (CACHE, LAYERS, HOSTS):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (CACHE, HOSTS.parent):
        folder.chmod(0o700)
