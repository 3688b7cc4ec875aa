"""gpunode: take a Linux machine with NVIDIA GPUs to a working Kubernetes GPU node, keep it there, and take it back."""

__version__ = "0.1.0"
