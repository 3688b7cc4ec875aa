"""What two keys of a profile owe each other. Each rule's first line is its sentence in the documentation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpunode.profile.text import quoted

if TYPE_CHECKING:
    from gpunode.profile.model import HostProfile

Path = tuple[str, ...]


@dataclass(frozen=True)
class Violation:
    """A broken rule: the key to change, why, and the other keys the rule looked at."""

    path: Path
    reason: str
    others: tuple[Path, ...]


def version_is_of_branch(profile: "HostProfile") -> Iterator[Violation]:
    """`driver.version` belongs to `driver.branch`: it starts with the branch and a dot."""
    driver = profile.driver
    if driver.version is not None and not driver.version.startswith(f"{driver.branch}."):
        reason = (
            f"{quoted(driver.version)} is not of driver.branch {quoted(driver.branch)}: "
            f"give a {driver.branch} version, or set driver.branch to {quoted(driver.version.split('.')[0])}"
        )
        yield Violation(("driver", "version"), reason, (("driver", "branch"),))


def runfile_keys_need_runfile_source(profile: "HostProfile") -> Iterator[Violation]:
    """`driver.runfile` is used only where `driver.source` is `"runfile"`."""
    source = profile.driver.source
    if source == "runfile":
        return
    for key in ("url", "path", "sha256"):
        if getattr(profile.driver.runfile, key) is not None:
            reason = (
                f'has no effect while driver.source is {quoted(source)}: set it to "runfile", or leave this key out'
            )
            yield Violation(("driver", "runfile", key), reason, (("driver", "source"),))


def runfile_has_one_origin(profile: "HostProfile") -> Iterator[Violation]:
    """`driver.runfile` names a `url` or a `path`, not both."""
    runfile = profile.driver.runfile
    if runfile.url is not None and runfile.path is not None:
        reason = "driver.runfile.url is given too: keep one of the two"
        yield Violation(("driver", "runfile", "path"), reason, (("driver", "runfile", "url"),))


def own_runfile_names_its_version(profile: "HostProfile") -> Iterator[Violation]:
    """A runfile of your own (`driver.runfile.url` or `.path`) needs `driver.version`: the version it holds."""
    runfile = profile.driver.runfile
    own = [key for key in ("url", "path", "sha256") if getattr(runfile, key) is not None]
    if profile.driver.source == "runfile" and own and profile.driver.version is None:
        others = (*(("driver", "runfile", key) for key in own), ("driver", "source"))
        yield Violation(
            ("driver", "version"), f"is needed beside driver.runfile.{own[0]}: give the file's version", others
        )


def own_key_is_pinned(profile: "HostProfile") -> Iterator[Violation]:
    """A repository's own `key_url` needs `fingerprints`: a key that is fetched is never trusted by its address."""
    for name in ("cuda", "container_toolkit"):
        repository = getattr(profile.repositories, name)
        if repository.key_url is not None and not repository.fingerprints:
            path = ("repositories", name, "fingerprints")
            reason = "is needed beside key_url: give the 40 hexadecimal digits of each key the file may hold"
            yield Violation(path, reason, (("repositories", name, "key_url"),))


def runfile_mirror_has_no_key(profile: "HostProfile") -> Iterator[Violation]:
    """`repositories.runfile` takes a `url` only: a runfile carries no signature, its sum is `driver.runfile.sha256`."""
    mirror = profile.repositories.runfile
    for key in ("key_url", "fingerprints"):
        if getattr(mirror, key):
            reason = "has no meaning for runfiles, which are not signed: pin the file by driver.runfile.sha256"
            yield Violation(("repositories", "runfile", key), reason, ())


def no_cluster_no_plugin(profile: "HostProfile") -> Iterator[Violation]:
    """Without Kubernetes (`kubernetes.flavour = "none"`) `device_plugin.mode` is `"none"`."""
    if profile.kubernetes.flavour == "none" and profile.device_plugin.mode != "none":
        reason = 'needs a cluster, and kubernetes.flavour is "none": set it to "none"'
        yield Violation(("device_plugin", "mode"), reason, (("kubernetes", "flavour"),))


def no_cluster_no_pod(profile: "HostProfile") -> Iterator[Violation]:
    """Without Kubernetes (`kubernetes.flavour = "none"`) `verify.level` is `"host"` or `"container"`."""
    if profile.kubernetes.flavour == "none" and profile.verify.level == "kubernetes":
        reason = 'needs a cluster, and kubernetes.flavour is "none": set it to "host" or "container"'
        yield Violation(("verify", "level"), reason, (("kubernetes", "flavour"),))


RULES: tuple[Callable[["HostProfile"], Iterator[Violation]], ...] = (
    version_is_of_branch,
    runfile_keys_need_runfile_source,
    runfile_has_one_origin,
    own_runfile_names_its_version,
    own_key_is_pinned,
    runfile_mirror_has_no_key,
    no_cluster_no_plugin,
    no_cluster_no_pod,
)
