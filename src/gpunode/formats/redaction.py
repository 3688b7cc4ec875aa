"""Taking secrets out of a text before it leaves the host. Pure. In doubt too much is taken out rather than too little."""

from __future__ import annotations

import re
from dataclasses import dataclass

MARK = "[removed]"
"""What stands in place of a secret."""

# A name that speaks of a secret, as `HF_TOKEN`, `client-key-data`, `"identitytoken"`, `registry.password` do. Every repetition that could
# begin anywhere has a bound: a long line must not take long.
_WORDS = (
    "password|passwd|passphrase|secret|token|credential|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key"
    "|encryption[_-]?key|ssh[_-]?key|key-data|authorization|cookie|webhook"
)
# Words that speak of a secret only at a name's end: `proxypass`, `DB_PASS`, `MYSQL_PWD`, `psk`; but not `passed`, `OLDPWD`, `oauth`.
_ENDS = r"[\w.-]{0,80}pass\d{0,3}|(?:[\w.-]{0,80}[_.-])?(?:auth|pwd|psk)"
_SECRET = rf"(?:[\w.-]{{0,80}}(?:{_WORDS})[\w.-]{{0,80}}|{_ENDS})"
_NAME = rf"(?<![\w.-]){_SECRET}"
_QUOTE = r"(?P<quote>\\*[\"'])"  # behind backslashes: JSON within JSON
_IN_QUOTES = rf"{_QUOTE}(?!\[removed\])(?:(?!(?P=quote))(?:\\.|.))+(?P=quote)"
_SAYS_NOTHING = r"(?!\s*(?:true|false|null|none|yes|no|~|\{|[|>][-+]?)?\s*(?:[,}\]]|$)|\s*\{|\s*\[removed\])"

_RULES: tuple[tuple[str, str], ...] = (
    # RFC 7468; in JSON the lines are joined by `\n`, and a log may have been cut off before the end.
    (r"-----BEGIN (?P<kind>[A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?)-----(?s:.*?)(?:-----END (?P=kind)-----|\Z)", MARK),
    # What an address holds before its host (RFC 3986): up to the last @, for people leave those of a password as they are.
    (r"(?P<lead>://)[^\s\"'<>]{1,1000}@", rf"\g<lead>{MARK}@"),
    # An incoming webhook: whoever knows the path may post.
    (
        r"(?P<lead>https?://)(?P<host>[^\s\"'<>/?#]{1,255})(?=[^\s\"'<>]{1,500}hook)[/?#][^\s\"'<>]*",
        rf"\g<lead>\g<host>/{MARK}",
    ),
    (r"(?P<lead>https?://[^\s\"'<>/?#]{0,200}hook[^\s\"'<>/?#]{0,200})[/?#][^\s\"'<>]+", rf"\g<lead>/{MARK}"),
    # Parameters of an address: signatures and codes too.
    (
        rf"(?P<lead>[?&][\w.-]{{0,80}}(?:{_WORDS}|auth|pass|pwd|psk|sig|code|key)[\w.-]{{0,80}}=)[^\s&\"'<>]+",
        rf"\g<lead>{MARK}",
    ),
    # RFC 6750, RFC 7617.
    (r"\b(?P<lead>(?:Bearer|Basic|Digest|Negotiate)\s+)[\w.~+/=:-]{6,}", rf"\g<lead>{MARK}"),
    # YAML's block of lines below a name.
    (
        rf"(?P<lead>^(?P<indent>[ \t]*)(?:- )?[\"']?{_NAME}[\"']?:[ \t]*[|>][-+]?[ \t]*\n)(?:(?P=indent)[ \t]+\S.*(?:\n|\Z))+",
        rf"\g<lead>\g<indent>  {MARK}\n",
    ),
    # TOML's text of several lines.
    (
        rf"(?P<lead>{_NAME}\s*=\s*)(?P<quote>\"{{3}}|'{{3}})(?!\[removed\])(?s:.)+?(?P=quote)",
        rf"\g<lead>\g<quote>{MARK}\g<quote>",
    ),
    # JSON, TOML, YAML, shell: the quotes stay, so that the text can still be parsed.
    (rf"(?P<lead>(?:\\*[\"'])?{_NAME}(?:\\*[\"'])?\s*[:=]\s*){_IN_QUOTES}", rf"\g<lead>\g<quote>{MARK}\g<quote>"),
    # JSON, of a value without quotes, or of a list.
    (rf"(?P<lead>\\*\"{_NAME}\\*\"\s*:\s*){_SAYS_NOTHING}(?:\[[^\]]*\]|[^\s\"'\\\[{{,}}\]]+)", rf'\g<lead>"{MARK}"'),
    # All others: up to the end of the line.
    (rf"(?P<lead>{_NAME}[ \t]*[:=][ \t]*){_SAYS_NOTHING}(?![\"'\\\s])[^\r\n]+", rf"\g<lead>{MARK}"),
    # An option, and its value as the next word, or as the next of a list.
    (rf"(?P<lead>(?<![\w.-])--?{_SECRET}\s+)(?![-\[=:])[^\s\"']+", rf"\g<lead>{MARK}"),
    (rf"(?P<lead>[\"']--?{_SECRET}[\"']\s*,\s*){_IN_QUOTES}", rf"\g<lead>\g<quote>{MARK}\g<quote>"),
    (r"(?P<lead>(?<=\s)(?:-u|--user)[ =])[^\s:\"']+:[^\s\"']+", rf"\g<lead>{MARK}"),
    # A container's environment: `name: NGC_API_KEY`, `value: …`.
    (
        rf"(?P<lead>\bname[\"']?\s*[:=]\s*[\"']?{_NAME}[\"']?\s{{0,99}},?\s{{0,99}}[\"']?value[\"']?\s*[:=]\s*)(?P<quote>[\"']?)[^\"'\r\n,}}]+(?P=quote)",
        rf"\g<lead>\g<quote>{MARK}\g<quote>",
    ),
    # netrc, and apt's auth.conf.
    (r"(?P<lead>\blogin\s+\S+\s+password\s+)\S+", rf"\g<lead>{MARK}"),
    # What is known by its form, wherever it stands.
    (r"\bK10[0-9a-f]{64}::[^\s\"']+", MARK),  # k3s, RKE2: a join token
    (r"\bH4sI[\w+/=-]{60,}", MARK),  # k0s: its join token is a gzipped kubeconfig
    (r"(?<![\w.])[a-z0-9]{6}\.[a-z0-9]{16}(?![\w.])", MARK),  # kubeadm: a bootstrap token
    (r"(?P<lead>:25000/)[0-9a-f]{32}(?:/[0-9a-f]+)?", rf"\g<lead>{MARK}"),  # MicroK8s: where a node joins
    (r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*", MARK),  # RFC 7519: service accounts among others
    (r"\b(?-i:AKIA|ASIA)[A-Z0-9]{16}\b", MARK),  # AWS
    (r"\b(?-i:AIza)[\w-]{35}", MARK),  # Google
    (r"\b(?-i:ya29)\.[\w.-]{20,}", MARK),
    (r"\b(?:gh[pousr]_\w{36,}|github_pat_\w{22,}|glpat-[\w-]{20,})", MARK),  # GitHub, GitLab
    (r"\b(?:nvapi-[\w-]{20,}|hf_\w{30,}|xox[abprs]-[\w-]{10,})", MARK),  # NVIDIA NGC, Hugging Face, Slack
    (r"\bbot\d{6,}:[\w-]{30,}", f"bot{MARK}"),  # Telegram
)
_COMPILED = tuple((re.compile(pattern, re.IGNORECASE | re.MULTILINE), into) for pattern, into in _RULES)


@dataclass(frozen=True)
class Redacted:
    """A text without its secrets, and how many were taken out."""

    text: str
    removed: int


def redact(text: str) -> Redacted:
    """Take out what looks like a secret: keys and tokens by their form, values by the name that they are given.

    A second pass finds nothing more. What is neither known by its form nor named as a secret cannot be seen, and stays.
    """
    removed = 0
    for pattern, into in _COMPILED:
        text, count = pattern.subn(into, text)
        removed += count
    return Redacted(text, removed)
