"""What the evidence is read from: logs, the loader's cache, processes, dates of keys and certificates."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest

from gpunode.findings.xid_events import losses, switch_events, xid_events
from gpunode.host import expiry, kernel_log, module_file, processes
from gpunode.host import loader_cache as loader
from gpunode.host.kernel_log import LogLine
from gpunode.host.local import LocalMachine
from gpunode.host.reader import Reader
from memory import MemoryMachine, bare_host
from memory.command import Answer, Call
from memory.modules import loader_cache

ANY = re.compile("")
JOURNAL = """\
1795000001.500000 kernel: NVRM: loaded
1795000002.000000 kernel: other
-- Boot 0 --
1795000003.250000 kernel: NVRM: GPU 0000:65:00.0: GPU has fallen off the bus.
"""
DMESG = "2026-11-18T08:53:21,500000+00:00 NVRM: loaded\nno time\n2026-11-18T08:53:22,500000+00:00 [drm] other\n"


def host_that_logs(*, journal: str, dmesg: str = "") -> MemoryMachine:
    machine = bare_host()
    machine.files.lay("/usr/bin/dmesg", "#!", mode=0o755)
    machine.programs = {
        **machine.programs,
        "journalctl": lambda _machine, _call: Answer(journal),
        "dmesg": lambda _machine, _call: Answer(dmesg),
    }
    return machine


def test_the_kernels_lines_come_from_the_journal() -> None:
    reader = Reader(host_that_logs(journal=JOURNAL, dmesg=DMESG))
    found = kernel_log.kernel_lines(reader, re.compile("NVRM"))
    assert found is not None
    assert [line.text for line in found] == ["NVRM: loaded", "NVRM: GPU 0000:65:00.0: GPU has fallen off the bus."]
    assert [line.when for line in found] == [1795000001.5, 1795000003.25]


def test_without_a_journal_they_come_from_the_kernels_own_buffer() -> None:
    found = kernel_log.kernel_lines(Reader(host_that_logs(journal="", dmesg=DMESG)), ANY)
    assert found == (LogLine(1794992001.5, "kernel", "NVRM: loaded"), LogLine(1794992002.5, "kernel", "[drm] other"))


def test_without_root_and_without_an_answer_nothing_is_known() -> None:
    machine = host_that_logs(journal=JOURNAL)
    machine.hangs = {"journalctl"}
    assert kernel_log.unit_lines(Reader(machine), ["a.service"]) is None
    machine.identity.uid = 1000
    machine.hangs = set()
    assert kernel_log.kernel_lines(Reader(machine), ANY) is None
    assert kernel_log.unit_lines(Reader(machine), ["a.service"]) is None


def test_services_lines_name_their_program() -> None:
    asked: list[Call] = []
    machine = host_that_logs(journal="")

    def journalctl(_machine: MemoryMachine, call: Call) -> Answer:
        asked.append(call)
        return Answer(
            '1795000001.500000 dockerd[812]: time="…" level=error msg="x"\n1795000002.1 systemd[1]: Started.\n'
        )

    machine.programs["journalctl"] = journalctl
    found = kernel_log.unit_lines(Reader(machine), ["docker.service", "kubelet.service"])
    assert [(line.program, line.text[:8]) for line in found or ()] == [("dockerd", 'time="…"'), ("systemd", "Started.")]
    assert asked[0].words[:5] == ("--unit", "docker.service", "--unit", "kubelet.service", "--boot")


def test_this_machines_own_logs_are_read() -> None:
    found = kernel_log.kernel_lines(Reader(LocalMachine()), ANY)
    assert found is None or all(line.program == "kernel" for line in found)


def test_events_of_the_driver() -> None:
    lines = [
        LogLine(1.0, "kernel", "NVRM: Xid (PCI:0000:65:00): 31, pid='<unknown>', name=<unknown>, Ch 00000008"),
        LogLine(2.0, "kernel", "NVRM: Xid (PCI:10000:65:00): 62, pid=2512125, name=python3.10, 2027(0000)"),
        LogLine(3.0, "kernel", "NVRM: Xid (0000:65:00): 13, Graphics Exception: ESR 0x405840=0x8204020e"),
        LogLine(4.0, "kernel", "NVRM: Xid (PCI:0019:01:00): 149, NETIR Fatal XC0 i0 Link -1 (0x000fe406 0x00000000)"),
        LogLine(5.0, "kernel", "NVRM: Xid (PCI:0000:65:00): 48, pid=12(#3), name=a b, DBE"),
    ]
    found = list(xid_events(lines))
    assert [(event.gpu, event.number) for event in found] == [
        ("0000:65:00.0", 31),
        ("10000:65:00.0", 62),
        ("0000:65:00.0", 13),
        ("0019:01:00.0", 149),
        ("0000:65:00.0", 48),
    ]
    assert [(event.pid, event.process) for event in found] == [
        ("", ""),
        ("2512125", "python3.10"),
        ("", ""),
        ("", ""),
        ("12", "a b"),
    ]
    assert (found[3].grade, found[3].link) == ("Fatal", "-1")


def test_the_three_wordings_of_a_lost_gpu() -> None:
    folded = ("NVRM: The NVIDIA GPU 0000:b3:00.0", "NVRM: (PCI ID: 10de:26b5) installed in this system has",
              "NVRM: fallen off the bus and is not responding to commands.")  # fmt: skip
    texts = (
        *folded,
        "NVRM: GPU 0000:18:00.0: GPU has fallen off the bus.",
        "NVRM: Xid (PCI:0000:05:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus.",
        "NVRM: The NVIDIA GPU 0000:b4:00.0",
    )
    found = losses([LogLine(10.0 * number, "kernel", text) for number, text in enumerate(texts)])
    assert {name: loss.count for name, loss in found.items()} == {
        "0000:b3:00.0": 1,
        "0000:18:00.0": 1,
        "0000:05:00.0": 1,
    }


def test_a_switchs_event_is_told_by_its_first_line() -> None:
    lines = [
        LogLine(
            1.0,
            "kernel",
            "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Non-fatal, Link 32 egress non-posted PRIV error",
        ),
        LogLine(1.0, "kernel", "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Severity 0 Engine instance 32"),
        LogLine(1.0, "kernel", "nvidia-nvswitch3: SXid (PCI:0000:05:00.0): 12028, Data {0x00000001, 0x1}"),
    ]
    (event,) = switch_events(lines)
    assert (event.switch, event.number, event.fatal) == ("0000:05:00.0", 12028, False)


def test_the_loaders_cache() -> None:
    machine = bare_host()
    machine.files.lay(
        loader.PATH, loader_cache({"libcuda.so.1": ["/a/libcuda.so.1", "/b/libcuda.so.1"], "libc.so.6": ["/c"]})
    )
    assert loader.libraries(Reader(machine)) == {
        "libcuda.so.1": ("/a/libcuda.so.1", "/b/libcuda.so.1"),
        "libc.so.6": ("/c",),
    }


@pytest.mark.parametrize("content", [b"", b"\tlibc.so.6 => /c\n", loader.MAGIC, loader.MAGIC + b"\xff" * 28])
def test_a_cache_that_is_none_tells_nothing(content: bytes) -> None:
    machine = bare_host()
    machine.files.lay(loader.PATH, content)
    assert loader.libraries(Reader(machine)) is None


def test_a_cache_of_nonsense_within_its_bounds_is_read_without_harm() -> None:
    machine = bare_host()
    whole = loader_cache({"libc.so.6": ["/c"]})
    machine.files.lay(loader.PATH, whole[:48] + b"\xff" * 24 + whole[72:])
    assert loader.libraries(Reader(machine)) == {"": ("",)}


@pytest.mark.skipif(not Path(loader.PATH).is_file(), reason="this machine has no loader's cache")
def test_this_machines_own_cache_is_what_ldconfig_prints_of_it() -> None:
    printed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    wanted = sorted(re.findall(r"^\t(\S+) \(.*\) => (\S+)$", printed, re.MULTILINE))
    found = loader.libraries(Reader(LocalMachine())) or {}
    assert sorted((name, path) for name, paths in found.items() for path in paths) == wanted


def test_processes_whatever_their_names() -> None:
    machine = bare_host()
    machine.files.lay("/proc/7/stat", "7 (a) b (c) D 1 7 7")
    machine.files.lay("/proc/8/stat", "nonsense")
    machine.files.make_folders("/proc/9")
    assert processes.processes(Reader(machine)) == (processes.Process(7, "a) b (c", "D"),)


def test_a_modules_signature() -> None:
    machine = bare_host()
    machine.files.lay("/a.ko", b"\x7fELF" + module_file.SIGNED)
    machine.files.lay("/b.ko", b"\x7fELF")
    reader = Reader(machine)
    assert [module_file.is_signed(reader, path) for path in ("/a.ko", "/b.ko", "/c.ko.zst")] == [True, False, None]


def test_when_a_certificate_is_good() -> None:
    pytest.importorskip("cryptography")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node")]),
    )
    for years in (1, 30):  # from 2050 on the date is of another kind
        first = datetime(2026, 11, 1, 8, tzinfo=timezone.utc)
        last = first + timedelta(days=365 * years)
        builder = x509.CertificateBuilder(name, name, key.public_key(), 7, first, last)
        pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        assert expiry.certificate_validity(b"-----BEGIN EC PRIVATE KEY-----\n" + pem) == (
            first.timestamp(),
            last.timestamp(),
        )


@pytest.mark.parametrize("body", ["", "!", "MIIB", "MIIBMIIBMIIBFw==", "MAMXATA="])
def test_a_certificate_that_is_none(body: str) -> None:
    assert (
        expiry.certificate_validity(f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----".encode()) is None
    )
    assert expiry.certificate_validity(b"") is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gpg") is None, reason="gpg makes the keys")
def test_when_keys_expire_as_gpg_has_it(tmp_path: Path) -> None:
    gpg = ["gpg", "--homedir", str(tmp_path), "--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]
    tmp_path.chmod(0o700)
    for name, lasts in (("ends", "10d"), ("stays", "never")):
        subprocess.run([*gpg, "--quick-generate-key", name, "ed25519", "sign", lasts], check=True, capture_output=True)
    listed = subprocess.run([*gpg, "--list-keys", "--with-colons"], check=True, capture_output=True, text=True).stdout
    rows = [line.split(":") for line in listed.splitlines()]
    wanted = {
        after[9]: float(row[6]) if row[6] else None
        for row, after in pairwise(rows)
        if row[0] == "pub" and after[0] == "fpr"
    }
    assert len(wanted) == 2
    exported = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
    assert expiry.key_expiries(exported) == wanted

    later = f"{int(time.time()) + 60}"
    sign = [*gpg, "--faked-system-time", later, "--default-key", "stays", "--quick-sign-key", next(iter(wanted))]
    subprocess.run(sign, check=True, capture_output=True)
    exported = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
    assert expiry.key_expiries(exported) == wanted, "another's signature does not count"

    fingerprint = next(name for name, when in wanted.items() if when)
    subprocess.run([*gpg, "--quick-set-expire", fingerprint, "0"], check=True, capture_output=True)
    exported = subprocess.run([*gpg, "--export"], check=True, capture_output=True).stdout
    assert set(expiry.key_expiries(exported).values()) == {None}, "the newest signature counts"
    subprocess.run(["gpgconf", "--homedir", str(tmp_path), "--kill", "all"], check=False, capture_output=True)
