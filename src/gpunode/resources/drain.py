"""Having the GPUs' users make way while the driver's modules are replaced, where the profile says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from gpunode.errors import CommandError
from gpunode.host.gpu_pods import GpuPod, gpu_pods, is_back, is_there
from gpunode.host.gpu_users import MONITORS, GpuUser, gpu_users, is_of
from gpunode.host.kubectl import Access
from gpunode.host.reader import Reader
from gpunode.host.writer import Writer
from gpunode.resources.base import Consequences

POLL_SECONDS = 1.0
ROUNDS = 3
"""So often processes are ended before the modules are tried: the kubelet starts a DaemonSet's container again at once, and then later."""
BACK_SECONDS = 60.0
"""The kubelet waits 10 s before a container's second start, and 20 s before its third."""
REPLACED = "the running kernel module is replaced, and who uses it makes way"


@dataclass(frozen=True)
class Users:
    """Who uses the GPUs, by how they are made to let go: pods are evicted, services stopped for a while, processes ended.

    `staying` are pods that some of the processes are of, and which their kubelet starts again.
    """

    pods: tuple[GpuPod, ...] = ()
    services: tuple[str, ...] = ()
    processes: tuple[GpuUser, ...] = ()
    staying: tuple[GpuPod, ...] = ()


NOBODY = Users()


@dataclass(frozen=True)
class Drain:
    """The way to the cluster that `node` belongs to, and limits in seconds. Without `access` the processes are all there is: `why` not."""

    access: Access | None
    node: str
    why: str
    timeout: int
    grace: int

    def users(self, host: Reader) -> Users:
        """Who would have to make way now. Raises CommandError where the cluster does not tell."""
        found = gpu_users(host)
        pods = gpu_pods(host, self.access, self.node, found) if self.access else ()
        evicted = tuple(pod for pod in pods if not pod.stays)
        services = tuple(unit for unit in MONITORS if any(is_of(user, (unit,)) for user in found))
        others = [user for user in found if not is_of(user, MONITORS) and not any(pod.has(user) for pod in evicted)]
        staying = tuple(pod for pod in pods if pod.stays and any(pod.has(user) for user in others))
        return Users(evicted, services, tuple(others), staying)

    def consequences(self, users: Users) -> Consequences:
        """Who makes way, for the plan."""
        lasting = [REPLACED]
        if users.pods:
            lasting.append(f"evicted, with their grace periods: {', '.join(_told(pod) for pod in users.pods)}")
        if users.processes:
            how = f"ended, by SIGTERM and after {self.grace} s by SIGKILL"
            lasting.append(f"{how}: {', '.join(str(user) for user in users.processes)}")
        meanwhile = f"the node {self.node} takes no new pods until the modules are replaced"
        note = meanwhile if self.access else f"driver.drain: processes are ended, and no pods evicted: {self.why}"
        return Consequences(users.services, tuple(lasting), (note,))

    @contextmanager
    def drained(self, host: Writer) -> Iterator[None]:
        """Nobody but the driver's own daemons uses the GPUs when this begins. Raises CommandError, RebootRequiredError."""
        with ExitStack() as stack:
            if self.access:
                stack.enter_context(host.cordoned(self.access, self.node))
                self._evict(host, self.access)
            users = self.users(host)
            for unit in users.services:
                stack.enter_context(host.paused(unit))
            self._end(host)
            yield
        if self.access:
            _await_back(host, self.access, users.staying)

    def _end(self, host: Writer) -> None:
        for _ in range(ROUNDS):
            processes = self.users(host).processes
            if not processes:
                return
            host.end_processes(processes, grace=self.grace)

    def _evict(self, host: Writer, access: Access) -> None:
        deadline, pods = host.now() + self.timeout, self.users(host).pods
        for pod in pods:
            host.evict_pod(access, pod, timeout=max(0, deadline - host.now()))
        while left := [pod for pod in pods if is_there(host, access, pod)]:
            if host.now() > deadline:
                raise CommandError(
                    f"evicted, and still there after {self.timeout} s: {', '.join(str(pod) for pod in left)}",
                    hint="driver.drain_timeout in the profile must outlast their grace periods; then `gpunode apply`",
                )
            host.wait(POLL_SECONDS)


def _await_back(host: Reader, access: Access, pods: tuple[GpuPod, ...]) -> None:
    """Give the kubelet time to start their containers again. Whoever needs one that does not come says so in its turn."""
    deadline = host.now() + BACK_SECONDS
    while not all(is_back(host, access, pod) for pod in pods) and host.now() < deadline:
        host.wait(POLL_SECONDS)


def _told(pod: GpuPod) -> str:
    return f"{pod} ({pod.owner or 'no controller makes it anew'})"
