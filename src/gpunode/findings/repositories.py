"""Package repositories: keys that are revoked or not the pinned ones, and lists that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpunode.catalog.model import Repository
from gpunode.findings.evidence import Evidence
from gpunode.findings.model import Known, Proof
from gpunode.findings.sources import Source

STEPS = {"cuda-apt": "driver", "container-toolkit-apt": "container_toolkit"}


@dataclass(frozen=True)
class _Used:
    """A repository of the catalogue as this profile uses it: its hosts, and the keys that may sign it."""

    entry: Repository
    bases: tuple[str, ...]
    fingerprints: tuple[str, ...]

    def has(self, source: Source) -> bool:
        """True when an apt source names it."""
        return any(source.uri.split("://")[-1].startswith(base) for base in self.bases)


def _used(evidence: Evidence) -> Iterator[_Used]:
    profile = evidence.context.profile.repositories
    for name, mirror in (("cuda-apt", profile.cuda), ("container-toolkit-apt", profile.container_toolkit)):
        entry = evidence.context.catalog.repositories[name]
        bases = tuple(base.split("://")[-1].rstrip("/") for base in (entry.base, mirror.url or ""))
        yield _Used(entry, tuple(filter(None, bases)), mirror.fingerprints or entry.fingerprints)


def _key_rotated(evidence: Evidence) -> Proof | None:
    revoked = evidence.context.catalog.revoked
    for used in _used(evidence):
        for path in _keyrings_of(used, evidence):
            keys = evidence.keyrings[path]
            if not set(keys) & set(used.fingerprints):
                return _not_pinned(used, path, keys, revoked)
    old = [(path, key) for path, keys in evidence.keyrings.items() for key in keys if key in revoked]
    if not old:
        return None
    lines = tuple(f"{path}: {key} ({revoked[key]}), revoked, wanted absent" for path, key in old)
    words = {"path": old[0][0], "what": "still holds a key that its owner revoked"}
    return Proof(lines, words, mend=_without_keys(evidence, old), severity="warning")


def _keyrings_of(used: _Used, evidence: Evidence) -> list[str]:
    """The keyrings that were read and by which the repository's sources are signed, or are to be."""
    named = [source.signed_by for source in evidence.sources if used.has(source)]
    return [path for path in dict.fromkeys([used.entry.keyring, *named]) if path in evidence.keyrings]


def _not_pinned(used: _Used, path: str, keys: tuple[str, ...], revoked: dict[str, str]) -> Proof:
    wanted = " or ".join(used.fingerprints)
    lines = tuple(f"{path}: {key}{' (revoked)' if key in revoked else ''}, wanted {wanted}" for key in keys)
    what = f"lacks the key that signs {used.entry.base}"
    return Proof(lines, {"path": path, "what": what, "step": STEPS[used.entry.name]})


def _without_keys(evidence: Evidence, old: list[tuple[str, str]]) -> tuple[str, ...]:
    """A keyring with nothing but revoked keys goes; of others the keys are taken out."""
    bad = {key for _path, key in old}
    whole = [path for path in dict(old) if set(evidence.keyrings[path]) <= bad]
    gpg = "gpg --no-default-keyring --batch --yes"
    parts = [f"{gpg} --keyring {path} --delete-keys {key}" for path, key in old if path not in whole]
    return (*(f"rm {path}" for path in whole), *parts, "apt-get update")


def _signed_by_conflict(evidence: Evidence) -> Proof | None:
    for used in _used(evidence):
        by_repository: dict[tuple[str, str], list[Source]] = {}
        for source in evidence.sources:
            if used.has(source):
                by_repository.setdefault(source.repository, []).append(source)
        for (uri, _suite), sources in by_repository.items():
            if len({source.signed_by for source in sources}) > 1:
                return _conflict(used, uri, sources)
    return None


def _conflict(used: _Used, uri: str, sources: list[Source]) -> Proof:
    ours = used.entry.list
    lines = tuple(
        f"{each.path} line {each.line}: {each.uri} signed by {each.signed_by or 'any trusted key'}, wanted {used.entry.keyring}"
        for each in sources
    )
    others = sorted({each.path for each in sources if each.path != ours and each.signed_by != used.entry.keyring})
    aside = tuple(f"mv {path} {path}.disabled" for path in others if not path.endswith("/sources.list"))
    by_hand = tuple(f"sed -i '\\|{uri}|s/^deb/# deb/' {path}" for path in others if path.endswith("/sources.list"))
    return Proof(
        lines,
        {"uri": uri, "paths": " and ".join(sorted({each.path for each in sources}))},
        mend=(*aside, *by_hand, "apt-get update"),
    )


def _switched_off(evidence: Evidence) -> Proof | None:
    """Not where nothing names the repository: packages may have come another way."""
    used = next(each for each in _used(evidence) if each.entry.name == "container-toolkit-apt")
    off = next((source for source in evidence.disabled if used.has(source)), None)
    package = next(iter(evidence.toolkit_packages.values()), None)
    if off is None or package is None or any(used.has(source) for source in evidence.sources):
        return None
    lines = (f"{off.path} line {off.line}: {off.uri} is switched off", f"dpkg-query: {package.name} {package.version}")
    return Proof(lines, {"version": package.version, "path": off.path})


FINDINGS = (
    Known(
        id="repo-key-rotated",
        step="driver",
        severity="error",
        title="A repository's signing key is not the one that signs it",
        sees="`NO_PUBKEY A4B469963BF863CC`, `EXPKEYSIG` or `Missing key` from `apt-get update`; no new packages any more",
        proof="a keyring of NVIDIA's repositories without any of the pinned fingerprints, or a keyring that holds a revoked key",
        cause="{path} {what}.",
        mend=("gpunode apply --step {step}",),
        look=_key_rotated,
        references=("NVIDIA/nvidia-container-toolkit#258", "NVIDIA/DCGM#33", "NVIDIA/nvidia-container-toolkit#409"),
        patterns=(r"NO_PUBKEY (?P<key>[0-9A-F]{16})", r"is not signed", r"Missing key (?P<key>[0-9A-F]{40})"),
    ),
    Known(
        id="toolkit-outdated",
        step="container_toolkit",
        severity="warning",
        title="The container toolkit gets no updates",
        sees="`mount error: stat failed: …: no such file or directory`, `error executing hook … nvidia-ctk (exit code: 1)` after "
        "a newer driver",
        proof="the toolkit's packages are installed, and its repository is named by entries that are switched off alone, as an "
        "upgrade of the "
        "distribution leaves them",
        cause="Container toolkit {version} stays as it is while the driver moves on, because {path} is switched off.",
        mend=("gpunode apply --step container_toolkit",),
        look=_switched_off,
        explains=("ldconfig-fails", "library-unfound"),
        references=("Igalia/webkit-container-sdk#72", "void-linux/void-packages#51518", "NVIDIA/nvidia-docker#957"),
        patterns=(
            r"error executing hook `?\S*nvidia-ctk`? \(exit code: 1\)",
            r"mount error: stat failed: /(?!dev|proc)\S+: no such file or directory",
        ),
    ),
    Known(
        id="repo-signed-by-conflict",
        step="container_toolkit",
        severity="error",
        title="Two lists name one repository with different keys",
        sees="`Conflicting values set for option Signed-By regarding source …`; every `apt-get update` and install fails",
        proof="two enabled entries of one address and suite with different `Signed-By`",
        cause="{paths} name {uri} with different keyrings, and apt then refuses to read any of its lists.",
        mend=("mv {path} {path}.disabled", "apt-get update"),
        look=_signed_by_conflict,
        references=("NVIDIA/libnvidia-container#194", "NVIDIA/nvidia-docker#1626", "replicate/cog#1190"),
        patterns=(r"Conflicting values set for option Signed-By regarding source (?P<uri>\S+)",),
    ),
)
