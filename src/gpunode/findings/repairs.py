"""What older guides left behind in containerd's configuration: seen by the same eyes that mend it (formats/containerd_repairs.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gpunode.findings.evidence import Evidence
from gpunode.findings.model import Known, Proof
from gpunode.formats.toml_data import dotted

APPLY = ("gpunode apply --step containerd",)
REFUSE = "`containerd.leave` in the profile leaves it as it is"


def left_behind(finding: str) -> Callable[[Evidence], Proof | None]:
    """A look for what the repair of that name would change."""

    def look(evidence: Evidence) -> Proof | None:
        reasons = [reason for reason in evidence.config.repairs if reason.repair == finding]
        if not reasons:
            return None
        lines = [
            f"{each.file}: {dotted(each.path)} is {_word(each.found)}, wanted {_word(each.wanted)}" for each in reasons
        ]
        words = {"path": reasons[0].file, "why": reasons[0].why, "release": evidence.context.facts.containerd}
        return Proof(tuple(lines), {**words, "main": evidence.config.path})

    return look


def _of_another_engine(evidence: Evidence) -> Proof | None:
    """Docker's or CRI-O's: of containerd's, the GPU operator's own is as it should be while that runs."""
    config = evidence.config
    own = {config.path, *(each.path for each in config.imported)}
    others = tuple(reason for reason in config.repairs if reason.file not in own)
    return left_behind("runtime-other-binary")(replace(evidence, config=replace(config, repairs=others)))


def _word(value: object) -> str:
    if value is None:
        return "absent"
    return str(value).lower() if isinstance(value, bool) else str(value)


FINDINGS = (
    Known(
        id="cri-disabled",
        step="containerd",
        severity="error",
        title="containerd's CRI plugin is disabled",
        sees="`unknown service runtime.v1.RuntimeService` from the kubelet, crictl or kubeadm's preflight; the node stays NotReady",
        proof="`disabled_plugins` in a file that containerd reads names CRI: the default file of Docker's containerd.io package does",
        cause="{path} disables the CRI plugin: {why}.",
        mend=APPLY,
        look=left_behind("cri-disabled"),
        explains=("engine-stopped", "toml:{main}"),
        patterns=(
            r"unknown service runtime\.v1(?:alpha2)?\.(?:Runtime|Image)Service",
            r"unknown service api\.v1\.CRIPluginService",
        ),
        references=(
            "kubernetes/kubernetes#131164",
            "containerd/containerd#4581",
            "containerd/containerd#8139",
            "containerd docs/man/containerd-config.toml.5.md",
        ),
    ),
    Known(
        id="config-version-mixed",
        step="containerd",
        severity="error",
        title="containerd's configuration mixes the names of two config versions",
        sees="settings without effect, `Ignoring unknown key in TOML for plugin`, or containerd that does not start: "
        '`invalid plugin key URI "cri" expect io.containerd.x.vx`',
        proof="a file has the section names of another config version than its `version` line, or has the names of version 2 and no "
        "such line",
        cause="{path} has sections that containerd {release} does not read there: {why}.",
        mend=APPLY,
        look=left_behind("config-version-mixed"),
        explains=("engine-stopped", "toml:{main}"),
        patterns=(
            r"Ignoring unknown key in TOML for plugin",
            r'invalid plugin key URI "(?P<key>\w+)" expect io\.containerd\.x\.vx',
        ),
        references=(
            "containerd/containerd#3843",
            "containerd/containerd#7844",
            "containerd docs/PLUGINS.md, version header",
            "containerd RELEASES.md",
        ),
    ),
    Known(
        id="runtime-linux-shim",
        step="containerd",
        severity="warning",
        title="The old shim still runs every container under the nvidia runtime",
        sees="after following a guide of 2020: containers that ask for no GPU fail when the driver is away",
        proof='`plugins."io.containerd.runtime.v1.linux".runtime` is `nvidia-container-runtime`',
        cause="{path} is as a guide of 2020 had it: {why}.",
        mend=APPLY,
        look=left_behind("runtime-linux-shim"),
        explains=("toml:{main}",),
        references=("containerd RELEASES.md, io.containerd.runtime.v1.linux",),
    ),
    Known(
        id="runtime-defined-twice",
        step="containerd",
        severity="warning",
        title="The nvidia runtime is defined twice, with two binaries",
        sees="containers start with another toolkit than the one that is installed, or with one that is gone",
        proof="two of the files that containerd reads define the runtime, with different `BinaryName`",
        cause="{why}.",
        mend=APPLY,
        look=left_behind("runtime-defined-twice"),
        explains=("runtime-binary-dangling", "toml:{main}"),
        references=("containerd docs, imports",),
    ),
    Known(
        id="runtime-other-binary",
        step="engines",
        severity="warning",
        title="Another engine's nvidia runtime calls another program",
        sees="`docker run --runtime=nvidia` starts another toolkit than the one that is installed, or fails: no such file",
        proof="the runtime of the profile's name has another path in Docker's `daemon.json` or in a file of CRI-O's",
        cause="{path} names another program for the runtime: {why}.",
        mend=("gpunode apply --step engines",),
        look=_of_another_engine,
        references=("docker/docs daemon.json, runtimes",),
    ),
)
