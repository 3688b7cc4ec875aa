"""Events about pods, counted when they repeat."""

from __future__ import annotations

from gpunode.lab.kubernetes.client import Client
from gpunode.lab.kubernetes.clock import now
from gpunode.lab.kubernetes.errors import ApiError
from gpunode.lab.kubernetes.kinds import EVENTS, Object


class Recorder:
    """Writes events as one `component` of the cluster."""

    def __init__(self, client: Client, component: str) -> None:
        self._client, self._component = client, component
        self._known: dict[tuple[str, str, str], Object] = {}

    def record(self, about: Object, reason: str, message: str, *, warning: bool = False) -> None:
        """Record that `reason` happened to the object; a repetition raises the first event's count."""
        key = (about["metadata"]["uid"], reason, message)
        try:
            if key in self._known:
                event = self._known[key]
                change = {"count": event["count"] + 1, "lastTimestamp": now()}
                self._known[key] = self._client.patch(EVENTS, event, change)
                return
        except ApiError:
            del self._known[key]  # its namespace, or the event itself, has been deleted meanwhile
        body = self._event(about, reason, message, "Warning" if warning else "Normal")
        self._known[key] = self._client.create(EVENTS, body["metadata"]["namespace"], body)

    def _event(self, about: Object, reason: str, message: str, level: str) -> Object:
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        involved = {"apiVersion": about["apiVersion"], "kind": about["kind"], "name": metadata["name"]}
        involved |= {"uid": metadata["uid"], "resourceVersion": metadata.get("resourceVersion", "")}
        if "namespace" in metadata:
            involved["namespace"] = namespace
        body: Object = {"metadata": {"generateName": f"{metadata['name']}.", "namespace": namespace}}
        body |= {"involvedObject": involved, "reason": reason, "message": message, "type": level, "count": 1}
        body |= {"firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": self._component}}
        return body
