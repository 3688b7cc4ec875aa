"""The eight items of the README, as `pyinfra --dry` looks at them."""

from pyinfra.operations import apt, files, server, systemd

apt.packages(name="driver", packages=["nvidia-open"])
apt.packages(name="toolkit", packages=["nvidia-container-toolkit"])
server.shell(name="hold", commands=["apt-mark hold nvidia-open"])
files.put(name="nouveau", src="/root/bench/nouveau.conf", dest="/etc/modprobe.d/gpunode-nouveau.conf")
files.put(name="paths", src="/root/bench/cuda.sh", dest="/etc/profile.d/cuda.sh")
files.put(name="runtime", src="/root/bench/config.toml", dest="/etc/containerd/config.toml")
systemd.service(name="persistenced", service="nvidia-persistenced", enabled=True, running=True)
systemd.service(name="containerd", service="containerd", enabled=True, running=True)
