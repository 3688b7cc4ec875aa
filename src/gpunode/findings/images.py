"""What is wrong with one image, by the engine's own log: it wants a newer driver, or brings libraries of its own."""

from __future__ import annotations

import re

from gpunode.findings.evidence import Evidence, clock
from gpunode.findings.model import Known, Proof
from gpunode.steps.decisions import version_tuple

CONDITION = re.compile(r"requirement error: unsatisfied condition: (?P<condition>cuda\s?>=\s?(?P<cuda>\d+\.\d+))")
IN_THE_WAY = re.compile(
    r"mount error: file creation failed: \S*/(?P<library>lib(?:nvidia|cuda)\S*\.so\S*): file exists"
)


def _too_old(evidence: Evidence) -> Proof | None:
    driver = evidence.context.facts.driver
    cuda = _cuda(evidence)
    if driver is None or not cuda:
        return None
    wanting = [
        (line, found)
        for line in evidence.asked.units or ()
        if (found := CONDITION.search(line.text)) and version_tuple(found["cuda"]) > version_tuple(cuda)
    ]
    if not wanting:
        return None
    line, found = max(wanting, key=lambda pair: version_tuple(pair[1]["cuda"]))
    lines = (
        f"{line.program}: {clock(line.when)} {line.text}",
        f"the driver is {driver.version}: CUDA {cuda}, wanted {found['cuda']}",
    )
    branch = _branch_for(evidence, found["cuda"])
    newer = (f'gpunode apply --step driver  # with driver.branch = "{branch}" in the profile',) if branch else ()
    return Proof(
        lines, {"condition": found["condition"], "version": driver.version, "cuda": cuda}, mend=(*newer, _older(cuda))
    )


def _older(cuda: str) -> str:
    return f"# or an image of CUDA {cuda} or older"


def _cuda(evidence: Evidence) -> str:
    """The CUDA release that the driver brings: by itself where it was asked, else by its branch."""
    nvml, driver = evidence.asked.nvml, evidence.context.facts.driver
    branch = evidence.context.catalog.branches.get(driver.version.partition(".")[0]) if driver else None
    return (nvml.cuda if nvml else "") or (branch.cuda if branch else "")


def _branch_for(evidence: Evidence, cuda: str) -> str:
    alive = [each for each in evidence.context.catalog.branches.values() if not each.ended]
    enough = [each for each in alive if version_tuple(each.cuda) >= version_tuple(cuda)]
    return min(enough, key=lambda each: int(each.name)).name if enough else ""


def _own_libraries(evidence: Evidence) -> Proof | None:
    found = [(line, match) for line in evidence.asked.units or () if (match := IN_THE_WAY.search(line.text))]
    if not found:
        return None
    line, match = found[-1]
    return Proof((f"{line.program}: {clock(line.when)} {line.text}",), {"library": match["library"]})


FINDINGS = (
    Known(
        id="driver-too-old-for-image",
        step="driver",
        severity="warning",
        title="An image wants a newer driver",
        sees="`nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.8, please update your driver to a newer version`; "
        "CUDA error 35",
        proof="the engine's log of this boot has the error, and the running driver's CUDA release is below what it asks for",
        cause="An image asks for {condition}, and driver {version} brings CUDA {cuda}.",
        mend=(
            "gpunode apply --step driver  # with a newer driver.branch in the profile",
            "# or an image of an older CUDA",
        ),
        look=_too_old,
        explains=("compat-library-too-new",),
        references=("NVIDIA/nvidia-docker#1442", "SyneRBI/PETRIC2#27", "NVIDIA/nvidia-container-toolkit#152"),
        patterns=(
            r"requirement error: unsatisfied condition: (?P<condition>(?:cuda|driver|brand|arch)\s?[<>=!]+\s?[\w.]+)",
            r"CUDA driver version is insufficient for CUDA runtime version",
            r"unsupported CUDA version: driver (?P<driver>[\d.]+) < image (?P<image>[\d.]+)",
        ),
    ),
    Known(
        id="driver-libs-in-image",
        step="container_toolkit",
        severity="warning",
        title="An image carries driver libraries of its own",
        sees="`mount error: file creation failed: …/libnvidia-ml.so.1: file exists`; or a version mismatch in one container only",
        proof="the engine's log of this boot has the error",
        cause="An image has {library} in it, where the toolkit has to put the host's.",
        mend=("apt-get purge 'libnvidia-compute-*' 'libnvidia-ml*'  # in the image, before it is built",),
        look=_own_libraries,
        references=(
            "lambdal/lambda-stack-dockerfiles#15",
            "NVIDIA/libnvidia-container#266",
            "NVIDIA/nvidia-docker#1551",
        ),
        patterns=(IN_THE_WAY.pattern,),
    ),
)
