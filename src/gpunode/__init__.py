"""gpunode: take a Linux machine with NVIDIA GPUs to a working Kubernetes GPU node, keep it there, and take it back."""

__version__ = "0.1.0"
RELEASED = 1790812800
"""When this version was made (2026-10-01), in seconds since the epoch: a host whose clock stands before it is wrong."""
