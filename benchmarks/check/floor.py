"""The floor: a bare interpreter that reads the files of the eight items and makes one package query."""

import subprocess

for path in ("/etc/modprobe.d/gpunode-nouveau.conf", "/etc/profile.d/cuda.sh", "/etc/containerd/config.toml"):
    with open(path, "rb") as file:
        file.read()
subprocess.run(["dpkg-query", "--show"], stdout=subprocess.DEVNULL, check=True)
