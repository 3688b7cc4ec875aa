"""What the mirror can be asked for in the place of what is right: trees that are badly signed, and certificates nobody should take.

`lay` puts them into a host; the mirror serves them when its faults.toml says `instead = "stale"`, `certificate = "stranger"`.
"""

import shutil
from datetime import datetime, timedelta, timezone
from pathlib import Path

from gpunode.lab import certificates, mirror
from gpunode.lab.machine import lock
from gpunode.lab.paths import CACHE
from gpunode.lab.repository import Signing

STRANGER = "usr/lib/lab-mirror/stranger-ca.crt"
"""The certificate of the authority that signs "stranger": whoever adds it to the system's store knows that one too."""
NOW = datetime.now(timezone.utc)
FUTURE = datetime(2099, 1, 1, tzinfo=timezone.utc)
TREES = {
    "expired-key": Signing(expired_key=True),
    "stale": Signing(valid_until=NOW - timedelta(days=1)),
    "dated-ahead": Signing(date=FUTURE),
    "signed-ahead": Signing(signed_at=FUTURE),
    "tampered": Signing(tampered=frozenset({"libnvidia-container1"})),
}
"""The container toolkit's repository and key, each with one thing wrong."""


def lay(root: Path, address: str) -> None:
    """Put the trees, and the certificates "stranger" (of an authority unknown) and "ahead" (good from 2099), into a host with a mirror."""
    with lock("mirror"):
        for name, signing in TREES.items():
            mirror.publish(root / mirror.TREE / name, "container-toolkit", signing)
    names = mirror.names(address)
    stranger = certificates.authority(CACHE / "authority-stranger", "an authority nobody knows")
    known = certificates.authority(CACHE / "authority")
    folder = (root / mirror.CERTIFICATE).parent
    shutil.copyfile(stranger / "ca.crt", root / STRANGER)
    (folder / "stranger.pem").write_bytes(certificates.server(stranger, names))
    (folder / "ahead.pem").write_bytes(certificates.server(known, names, begins=f"{FUTURE:%Y%m%d%H%M%SZ}"))
