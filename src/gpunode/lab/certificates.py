"""Certificate authorities of the lab's own, and servers' certificates by them. Made once per cache, by openssl."""

from collections.abc import Sequence
from pathlib import Path

from gpunode.lab.machine import command, lock

VALID_DAYS = "3650"
FOR_EVER = "99991231235959Z"  # RFC 5280, 4.1.2.5
AUTHORITY = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
SERVER = ("basicConstraints=CA:FALSE", "keyUsage=critical,digitalSignature", "extendedKeyUsage=serverAuth")
# Of `openssl ca`, the one command of every openssl that takes a date to begin at.
REGISTER = """\
[ca]
default_ca = lab
[lab]
database = {folder}/index.txt
new_certs_dir = {folder}
unique_subject = no
rand_serial = yes
policy = any
[any]
commonName = supplied
"""


def authority(folder: Path, name: str = "gpunode lab authority") -> Path:
    """The folder of an authority, whose certificate is its ca.crt. Raises LabError."""
    with lock("authority"):
        if not (folder / "ca.crt").exists():
            folder.mkdir(parents=True, exist_ok=True)
            settings = _settings(folder / "ca.cnf", AUTHORITY)
            options = ["-x509", "-days", VALID_DAYS, "-out", str(folder / "ca.new")]
            _request(settings, folder / "ca.key", name, *options)
            (folder / "ca.new").rename(folder / "ca.crt")
    return folder


def server(authority: Path, names: Sequence[str], begins: str = "") -> bytes:
    """A server's key and certificate in one PEM text, good for `names` (`DNS:NAME`, `IP:ADDRESS`).

    `begins` is the moment from which it is good, as ASN.1 writes it (`20990101000000Z`); now where it is empty. Raises LabError.
    """
    target = authority / f"server-{names[-1].partition(':')[2]}{begins and '-'}{begins}"
    key, certificate = target.with_name(f"{target.name}.key"), target.with_name(f"{target.name}.crt")
    with lock("authority"):
        if not target.exists():
            settings = _settings(target.with_name(f"{target.name}.cnf"), (*SERVER, f"subjectAltName={','.join(names)}"))
            _sign(authority, settings, key, certificate, names[0].partition(":")[2], begins)
            target.write_bytes(key.read_bytes() + certificate.read_bytes())
        return target.read_bytes()


def _settings(path: Path, extensions: Sequence[str]) -> Path:
    # Not the machine's own openssl.cnf: it adds extensions of its own. Python's strict check wants the key identifiers.
    lines = ["[req]", "distinguished_name = dn", "x509_extensions = v3", "[dn]", "[v3]", *extensions]
    register = REGISTER.format(folder=path.parent)
    path.write_text("\n".join([*lines, "subjectKeyIdentifier = hash", "authorityKeyIdentifier = keyid", register]))
    return path


def _request(settings: Path, key: Path, name: str, *options: str) -> None:
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-keyout", str(key)]
    command("openssl", "req", *new_key, "-config", str(settings), "-subj", f"/CN={name}", *options)


def _sign(authority: Path, settings: Path, key: Path, certificate: Path, name: str, begins: str) -> None:
    request = certificate.with_suffix(".csr")
    _request(settings, key, name, "-new", "-out", str(request))
    (authority / "index.txt").touch()
    signer = ["-cert", str(authority / "ca.crt"), "-keyfile", str(authority / "ca.key"), "-md", "sha256"]
    validity = ["-startdate", begins, "-enddate", FOR_EVER] if begins else ["-days", VALID_DAYS]
    files = ["-in", str(request), "-out", str(certificate), "-notext"]
    command("openssl", "ca", "-batch", "-config", str(settings), "-extensions", "v3", *signer, *validity, *files)
