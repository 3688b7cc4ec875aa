"""Having the GPU's users make way: the node cordoned, pods evicted, processes ended, services stopped for a while."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from gpunode.errors import CommandError, HostError, RebootRequiredError
from gpunode.host import kubectl
from gpunode.host.gpu_pods import GpuPod
from gpunode.host.gpu_users import GpuUser, birth
from gpunode.host.kubectl import Access
from gpunode.host.machine import Output
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken
from gpunode.host.verbs.objects import access_of
from gpunode.host.verbs.services import StopService

POLL_SECONDS = 0.2
REFUSED_SECONDS = 5.0
"""Between two tries of an eviction that a disruption budget does not allow yet, as `kubectl drain` has it."""
KILL_SECONDS = 10.0
"""How long the kernel may take to end a killed process."""


@dataclass(frozen=True)
class CordonNode(NeverConflicts):
    """Have the scheduler send no pods to a node. Undone by letting it, last of all."""

    name: ClassVar[str] = "cordon-node"
    deferred: ClassVar[bool] = True
    access: Access
    node: str

    def intent(self, hands: Hands) -> Json | None:
        """None where somebody has cordoned it already: it stays so. Raises CommandError."""
        live = kubectl.get(hands.reader, self.access, "node", self.node)
        if live is None:
            raise CommandError(
                f"the cluster has no node {self.node}",
                hint="say its name by kubernetes.node_name in the profile",
            )
        cordoned = live.get("spec", {}).get("unschedulable", False)
        return None if cordoned else {"access": asdict(self.access), "node": self.node}

    def act(self, hands: Hands, intent: Json) -> None:
        """`kubectl cordon`. Raises CommandError."""
        kubectl.schedule(hands.machine, access_of(intent), "cordon", intent["node"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """`kubectl uncordon`, where the cluster still has the node. Raises CommandError, unless forced to leave it."""
        access = access_of(intent)
        try:
            if kubectl.get(hands.reader, access, "node", intent["node"]):
                kubectl.schedule(hands.machine, access, "uncordon", intent["node"])
        except CommandError as error:
            if not hands.force:
                raise
            return Taken(left=(f"node {intent['node']} stays cordoned: {error.message}",))
        return Taken()


@dataclass(frozen=True)
class EvictPod(NeverConflicts):
    """Evict a pod by the API, which respects disruption budgets and the pod's grace period. `timeout` in seconds.

    Nothing of it is taken back: its controller makes another.
    """

    name: ClassVar[str] = "evict-pod"
    access: Access
    pod: GpuPod
    timeout: float

    def intent(self, _hands: Hands) -> Json:
        """The pod, and how long its budgets may keep it."""
        return {"access": asdict(self.access), "pod": asdict(self.pod), "timeout": self.timeout}

    def act(self, hands: Hands, intent: Json) -> None:
        """Ask for it until it is allowed. Raises CommandError, which names the budget, when that takes too long."""
        access, pod = access_of(intent), GpuPod(**intent["pod"])
        deadline = hands.reader.now() + intent["timeout"]
        while not _is_evicted(kubectl.evict(hands.machine, access, pod.namespace, pod.name, pod.uid)):
            if hands.reader.now() > deadline:
                raise CommandError(
                    f"{pod} may not be evicted{_budgets(hands, access, pod)}: waited {intent['timeout']:.0f} s",
                    hint="have more replicas of it run elsewhere, or driver.drain_timeout in the profile; then `gpunode apply`",
                )
            hands.reader.wait(REFUSED_SECONDS)

    @classmethod
    def undo(cls, _hands: Hands, intent: Json) -> Taken:
        """Nothing but to name a pod that nobody makes anew."""
        pod = GpuPod(**intent["pod"])
        return Taken() if pod.owner else Taken(left=(f"{pod} was evicted, and has no controller that makes it anew",))


def _is_evicted(output: Output) -> bool:
    """Whether the API took it, or the pod has gone, be it that another has its name. Raises CommandError."""
    if output.ok or "(NotFound)" in output.stderr or "(Conflict)" in output.stderr:
        return True
    if "(TooManyRequests)" in output.stderr:
        return False
    raise kubectl.error(output)


def _budgets(hands: Hands, access: Access, pod: GpuPod) -> str:
    """The disruption budgets that select a pod, where the API tells."""
    words = ("get", "poddisruptionbudgets", f"--namespace={pod.namespace}", "--output=json")
    output = hands.reader.query(access.argv(*words), timeout=access.timeout + 5)
    items: list[dict[str, Any]] = json.loads(output.stdout).get("items", []) if output.ok else []
    names = [
        item["metadata"]["name"]
        for item in items
        if item["spec"].get("selector", {}).get("matchLabels", {}).items() <= pod.labels.items()
    ]
    return f" by the disruption budget {', '.join(names)}" if names else " (a disruption budget, or a busy API)"


@dataclass(frozen=True)
class EndProcesses(NeverConflicts):
    """End processes: SIGTERM, and SIGKILL after `grace` seconds. Cannot be taken back."""

    name: ClassVar[str] = "end-processes"
    users: tuple[GpuUser, ...]
    grace: float

    def intent(self, hands: Hands) -> Json | None:
        """The processes, each told by its birth from a later one with its number; None when they have ended."""
        alive = [(user, born) for user in self.users if (born := birth(hands.reader, user.pid))]
        if not alive:
            return None
        processes = [{"pid": user.pid, "birth": born, "command": user.command} for user, born in alive]
        return {"processes": processes, "grace": self.grace}

    def act(self, hands: Hands, intent: Json) -> None:
        """Raises RebootRequiredError where one does not end even so: it waits in the kernel."""
        for signal, seconds in (("TERM", intent["grace"]), ("KILL", KILL_SECONDS)):
            for each in _alive(hands, intent):
                hands.machine.run(
                    ["sh", "-c", f"kill -s {signal} {each['pid']}"]
                )  # the shell's own: kill(1) need not be there
            deadline = hands.reader.now() + seconds
            while _alive(hands, intent) and hands.reader.now() < deadline:
                hands.reader.wait(POLL_SECONDS)
        left = [_told(each) for each in _alive(hands, intent)]
        if left:
            raise RebootRequiredError(
                f"{', '.join(left)} cannot be ended", hint="see `ps` for what it waits for; a reboot ends it"
            )

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Name what was ended."""
        alive = _alive(hands, intent)
        ended = [_told(each) for each in intent["processes"] if each not in alive]
        return Taken(left=(f"{', '.join(ended)}: ended for the new driver, and not started again",) if ended else ())


def _alive(hands: Hands, intent: Json) -> list[Json]:
    return [each for each in intent["processes"] if birth(hands.reader, each["pid"]) == each["birth"]]


def _told(process: Json) -> str:
    return str(GpuUser(process["pid"], process["command"]))


@dataclass(frozen=True)
class PauseService(StopService):
    """Stop a service for as long as the driver is replaced. Undone by starting it where it still exists."""

    name: ClassVar[str] = "pause-service"

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Start it again; where it does not come up, that is said."""
        try:
            return super().undo(hands, intent)
        except HostError as error:
            return Taken(left=(f"service {intent['unit']}: {error.message}",))


PASSING = frozenset({CordonNode.name, PauseService.name})
"""Verbs that a run takes back itself. What a crash left standing, the next run takes back before anything else."""
