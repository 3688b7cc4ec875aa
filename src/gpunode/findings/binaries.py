"""Programs that an engine's configuration names and the host does not have: removed, moved, or left by the GPU Operator."""

from __future__ import annotations

from gpunode.findings import runtimes
from gpunode.findings.containers import RUNTIME, binaries_of
from gpunode.findings.evidence import Evidence
from gpunode.findings.model import Known, Proof
from gpunode.formats.containerd_releases import knowledge
from gpunode.formats.toml_data import lookup

OPERATOR = "/usr/local/nvidia/toolkit/"


def _named(evidence: Evidence) -> dict[str, tuple[str, str]]:
    """The nvidia programs that runtimes name: by runtime, the program and the file that names it."""
    found = {
        name: (path, evidence.config.path) for name, path in binaries_of(evidence.config, evidence.context).items()
    }
    if evidence.docker:
        found |= {
            f"{name} (Docker)": (path, evidence.docker.path) for name, path in evidence.docker.runtime_paths.items()
        }
    return {name: pair for name, pair in found.items() if RUNTIME in pair[0]}


def _absent(evidence: Evidence) -> dict[str, tuple[str, str]]:
    return {name: pair for name, pair in _named(evidence).items() if evidence.paths.get(pair[0]) is False}


def _missing(evidence: Evidence) -> Proof | None:
    absent = _absent(evidence)
    if not absent or evidence.toolkit_runtime:
        return None
    name, (path, config) = next(iter(absent.items()))
    known = [each for each in evidence.context.catalog.toolkit.packages if each not in evidence.toolkit_packages]
    why = "its package is not installed" if known else "it was deleted from under its package"
    lines = [f"{each[1]}: runtime {name} starts {each[0]}, which is not there" for name, each in absent.items()]
    lines += [f"dpkg-query: not installed: {', '.join(known)}"] if known else []
    return Proof(tuple(lines), {"config": config, "path": path, "why": why, "runtime": name})


def _dangling(evidence: Evidence) -> Proof | None:
    absent, own = _absent(evidence), evidence.context.catalog.toolkit.runtime
    if not absent or not evidence.toolkit_runtime:
        return None
    name, (path, config) = next(iter(absent.items()))
    lines = [f"{each[1]}: runtime {name} starts {each[0]}, wanted {own}" for name, each in absent.items()]
    return Proof((*lines, f"{own}: there"), {"path": path, "runtime": name, "config": config, "toolkit": own})


def _leftover(evidence: Evidence) -> Proof | None:
    """A running operator owns the file; it leaves a mark in /run, which a boot without it has not."""
    ours = {
        name: path for name, path in binaries_of(evidence.config, evidence.context).items() if path.startswith(OPERATOR)
    }
    default = default_runtime(evidence)
    if not ours or evidence.paths.get("/run/nvidia/validations") is not False or evidence.toolkit_packages:
        return None
    lines = [f"{evidence.config.path}: runtime {name} starts {path}" for name, path in ours.items()]
    lines += [f"{evidence.config.path}: default_runtime_name is {default}, wanted runc"] if default in ours else []
    lines.append("/run/nvidia/validations: not there, the operator does not run")
    return Proof(tuple(lines), {"config": evidence.config.path, "names": ", ".join(sorted(ours))})


def default_runtime(evidence: Evidence) -> str:
    """The runtime in effect for pods that name none; empty where nothing says it."""
    config = evidence.config
    if config.effective:
        places = [layout.runtimes for layout in knowledge().layouts.values()]
        found = (lookup(config.effective, (*place[:-1], "default_runtime_name")) for place in places)
        return next((value for value in found if isinstance(value, str)), "")
    place = runtimes.place(config.data or {}, evidence.context)
    value = lookup(config.data or {}, (*place[:-1], "default_runtime_name"))
    return value if isinstance(value, str) else ""


FINDINGS = (
    Known(
        id="toolkit-container-leftover",
        step="containerd",
        severity="error",
        title="The GPU Operator's traces are still in the configuration",
        sees="after the operator was uninstalled: containers that ask for no GPU fail; nvidia stays the default runtime",
        proof="a runtime in effect starts a program below `/usr/local/nvidia/toolkit`, no toolkit package is installed, and the "
        "operator has "
        "left no mark of this boot in `/run/nvidia`",
        cause="The GPU Operator's toolkit set {names} in {config} and is gone.",
        mend=("gpunode apply --step containerd",),
        look=_leftover,
        explains=("runtime-binary-missing", "runtime-binary-dangling", "toolkit-root-leftover"),
        references=(
            "NVIDIA/gpu-operator#188",
            "NVIDIA/nvidia-container-toolkit#1328",
            "NVIDIA/nvidia-container-toolkit#494",
        ),
    ),
    Known(
        id="runtime-binary-missing",
        step="container_toolkit",
        severity="error",
        title="The configuration is there and the toolkit's programs are gone",
        sees="`fork/exec /usr/bin/nvidia-container-runtime: no such file or directory`; "
        '`exec: "nvidia-container-runtime": executable file not found in $PATH`',
        proof="an engine's configuration names the toolkit's runtime, which is not there, nor anywhere else",
        cause="{config} starts containers by {path}, and {why}.",
        mend=("gpunode apply --step container_toolkit",),
        look=_missing,
        explains=("plugin-no-resource", "packages:container toolkit"),
        references=("NVIDIA/nvidia-docker#686", "NVIDIA/nvidia-docker#1121", "osrf/subt#190"),
        patterns=(
            r'exec:? "?(?P<path>[\w./-]*nvidia-container-(?:runtime(?:-hook)?|cli|toolkit))"?: no such file or directory',
            r'exec: "?(?P<path>[\w./-]*nvidia-container-(?:runtime(?:-hook)?|cli|toolkit))"?: executable file not found in \$PATH',
        ),
    ),
    Known(
        id="runtime-binary-dangling",
        step="containerd",
        severity="error",
        title="The nvidia runtime's program is somewhere else",
        sees="`/usr/local/nvidia/toolkit/nvidia-container-runtime: no such file or directory` in pods of one runtime class",
        proof="a runtime in effect names a program that is not there, while the toolkit's own is installed",
        cause="{path} of runtime {runtime} in {config} is not there, and the toolkit is at {toolkit}.",
        mend=("gpunode apply --step containerd",),
        look=_dangling,
        explains=("plugin-no-resource",),
        references=("NVIDIA/nvidia-docker#542", "NVIDIA/nvidia-container-toolkit#494"),
        patterns=(
            r"(?P<path>/(?:usr/local/nvidia|run/nvidia|home/kubernetes|opt)\S*nvidia-container-runtime\S*): no such file or directory",
        ),
    ),
)
