"""Stand-ins for the Kubernetes control plane and kubelet of a lab host; see `setup.prepare`."""
