"""Stand-ins for the Kubernetes control plane and kubelet of a lab host; see `setup.prepare`."""

import os

# gRPC's own handlers of a fork wait for its threads, and now and then for ever: then the process that starts a child hangs, where no
# signal reaches it. What the lab's programs fork executes another program at once, and needs none of them.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
