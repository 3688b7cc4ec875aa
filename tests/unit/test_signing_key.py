"""A key that is in place: good, or at the end of its life, which its publisher may have prolonged."""

from __future__ import annotations

from gpunode.host.reader import Reader
from gpunode.resources.repository import SigningKey
from memory import bare_host
from memory.door import apply
from memory.keys import armored, fingerprint, good_until, public_key

KEY = public_key("a publisher")
URL = "https://mirror/key.asc"
RESOURCE = SigningKey("/usr/share/keyrings/lab.gpg", URL, (fingerprint(KEY),), "to be tested")
DAY = 86_400


def test_a_key_that_has_expired_is_drift_and_its_publishers_newer_one_takes_its_place() -> None:
    machine = bare_host()
    now = int(machine.now())
    machine.files.lay(RESOURCE.path, good_until(KEY, now - DAY))
    (found,) = RESOURCE.differences(RESOURCE.observe(Reader(machine)))
    assert found.found.startswith(f"{fingerprint(KEY)} expired since 20")
    machine.web[URL] = armored(good_until(KEY, now + DAY))
    apply(machine, lambda host: RESOURCE.converge(host, RESOURCE.observe(host)))
    assert RESOURCE.differences(RESOURCE.observe(Reader(machine))) == []


def test_one_good_key_beside_an_expired_one_is_enough() -> None:
    machine = bare_host()
    old, good = public_key("old"), KEY
    machine.files.lay(RESOURCE.path, good_until(old, int(machine.now()) - DAY) + good)
    both = SigningKey(RESOURCE.path, URL, (fingerprint(old), fingerprint(good)), "to be tested")
    assert both.differences(both.observe(Reader(machine))) == []
