"""The status of containers and pods, as data."""

from __future__ import annotations

from gpunode.lab.kubernetes.clock import now
from gpunode.lab.kubernetes.kinds import Object


def blank(container: Object) -> Object:
    """The status of a container that has not run yet."""
    head = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
    return head | {"ready": False, "started": False, "lastState": {}, "state": {}}


def waiting(status: Object, reason: str, message: str = "") -> Object:
    """The status with the container waiting."""
    state = {"reason": reason} | ({"message": message} if message else {})
    return status | {"ready": False, "started": False, "state": {"waiting": state}}


def running(status: Object, identifier: str, attempt: int) -> Object:
    """The status with the container running as `identifier`."""
    head = {"ready": True, "started": True, "restartCount": attempt, "containerID": f"containerd://{identifier}"}
    return status | head | {"imageID": status["image"], "state": {"running": {"startedAt": now()}}}


def ended(status: Object, code: int) -> Object:
    """The status with the container ended with the exit status `code`."""
    reason = "Completed" if code == 0 else "Error"
    started = status["state"]["running"]["startedAt"]
    terminated = {"exitCode": code, "reason": reason, "startedAt": started, "finishedAt": now()}
    terminated["containerID"] = status["containerID"]
    return status | {"ready": False, "started": False, "state": {"terminated": terminated}}


def restarts(policy: str, code: int) -> bool:
    """Whether a container that ended with `code` is started again."""
    return policy == "Always" or (policy == "OnFailure" and code != 0)


def _phase(policy: str, statuses: list[Object]) -> str:
    states = [status["state"] for status in statuses]
    codes = [state["terminated"]["exitCode"] for state in states if "terminated" in state]
    if len(codes) == len(states) and not any(restarts(policy, code) for code in codes):
        return "Failed" if any(codes) else "Succeeded"
    began = all("waiting" not in status["state"] or status["lastState"] for status in statuses)
    return "Running" if began else "Pending"


def pod_status(pod: Object, statuses: list[Object], address: str) -> Object:
    """The pod's status given its containers'; a condition's time moves only when the condition changes."""
    phase = _phase(pod["spec"]["restartPolicy"], statuses)
    ready = str(phase == "Running" and all(status["ready"] for status in statuses))
    truths = {"PodScheduled": "True", "Initialized": "True", "ContainersReady": ready, "Ready": ready}
    old = {item["type"]: item for item in pod["status"].get("conditions", [])}
    conditions = [_condition(old.get(name), name, truth) for name, truth in truths.items()]
    head: Object = {"phase": phase, "conditions": conditions, "containerStatuses": statuses, "hostIP": address}
    return head | {"podIP": address, "startTime": pod["status"].get("startTime") or now()}


def _condition(old: Object | None, name: str, truth: str) -> Object:
    if old and old["status"] == truth:
        return old
    return {"type": name, "status": truth, "lastTransitionTime": now()}
