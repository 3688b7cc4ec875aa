"""What dnf's failures say to a person: its own words, and what helps."""

from __future__ import annotations

import re

from gpunode.errors import CommandError, UnknownPackageError
from gpunode.host.machine import Output

# dnf 4 begins its message with a word that dnf 5 does not have; what stands first here is the more telling.
SAID = (
    re.compile(r"^(?:> )*Error: *(.*)$", re.MULTILINE),
    re.compile(r"^(?:> )*((?:No match for|All matches were) .*)$", re.MULTILINE),
    re.compile(r"^ *(?:Problem(?: \d+)?: |- )(.+)$", re.MULTILINE),
    re.compile(r"^(Argument '.+)$", re.MULTILINE),
    re.compile(r"^>>> (.+)$", re.MULTILINE),
    re.compile(r"^((?:Failed to|Unknown argument|Transaction failed).+[^:])$", re.MULTILINE),
)
UNKNOWN = ("Unable to find a match", "No match for argument")


def error(output: Output, words: str = "") -> CommandError:
    """dnf's own words are the message, behind `words` where they say it better; the rest of what it printed last is the evidence."""
    text = f"{output.stdout}\n{output.stderr}"
    found = [line.strip() for pattern in SAID for line in pattern.findall(text)]
    said = next((line for line in found if line and "Operation aborted" not in line), "")
    verb = next((word for word in output.argv[1:] if not word.startswith("-")), "")
    kind = UnknownPackageError if any(each in text for each in UNKNOWN) else CommandError
    return kind(
        f"{words or f'dnf {verb} failed'}: {said or f'exit status {output.returncode}'}",
        hint=_hint(text),
        details=output.last_words(15),
    )


ANOTHERS_KEY = "the repository is signed by a key that the profile and the catalogue do not name"
HINTS = (
    ("checksum doesn't match", "the package is not the one that the signed index names: a damaged or tampered mirror"),
    ("GPG signature verification error: Bad GPG signature", ANOTHERS_KEY),
    ("GPG signature verification error: Signing key not found", ANOTHERS_KEY),
    (
        "GPG signature verification error",
        "the repository answered something that is no repository (a login page?): see repositories.* in the profile",
    ),
    ("GPG check FAILED", "the package is signed by a key that the profile and the catalogue do not name, or by none"),
    ("SSL certificate", "add your CA to the system's trust store, or name it in the profile: network.ca_bundle"),
    ("Could not resolve", "is there a network, and a name server? a proxy is set in the profile: network.proxy"),
    ("Could not connect", "is there a network? a proxy or a mirror is set in the profile: network.proxy, repositories"),
    (
        "Status code: 407",
        "the proxy asks for a user name, which no profile holds: name a proxy by network.proxy that lets this host through",
    ),
    (
        "Status code: 404",
        "the mirror does not have it (any more): run the same command again, or see repositories.* in the profile",
    ),
    (
        "Status code: 5",
        "the mirror does not answer as it should: try again later, or see repositories.* in the profile",
    ),
    (
        "nothing provides dkms",
        "DKMS comes from EPEL on RHEL and its rebuilds: enable that repository first (`dnf install epel-release` on most)",
    ),
    ("No space left on device", "free some space, then run the same command again: what was begun is finished first"),
    ("modular filtering", "it belongs to another stream of its module than the one enabled: `dnf module list`"),
)


def _hint(text: str) -> str:
    return next((hint for words, hint in HINTS if words in text), "")
