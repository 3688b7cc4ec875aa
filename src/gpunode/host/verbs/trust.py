"""Keys that rpm trusts: they lie in its own database, so that a file of them is not enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from gpunode.host.packages import rpm
from gpunode.host.verbs.base import Hands, Json, NeverConflicts, Taken


@dataclass(frozen=True)
class TrustKey(NeverConflicts):  # a key is trusted or not
    """Have rpm trust the keys of a file, whose fingerprints have been compared before."""

    name: ClassVar[str] = "trust-key"
    path: str
    fingerprints: tuple[str, ...]

    def intent(self, hands: Hands) -> Json | None:
        """Those of the keys that rpm does not trust yet."""
        new = [each for each in self.fingerprints if not rpm.trusts(hands.reader, each)]
        return {"key": self.path, "fingerprints": new} if new else None

    def act(self, hands: Hands, intent: Json) -> None:
        """Import them."""
        rpm.import_key(hands.machine, intent["key"])

    @classmethod
    def undo(cls, hands: Hands, intent: Json) -> Taken:
        """Take those out again that were not trusted before."""
        names = sorted({name for each in intent["fingerprints"] for name in rpm.trusts(hands.reader, each)})
        if names:
            rpm.erase_keys(hands.machine, names)
        return Taken()
