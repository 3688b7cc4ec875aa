"""The cluster's certificates: one authority, the server's certificate and the clients'."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_VALID = timedelta(days=3650)


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as unencrypted PEM."""
        form = serialization.PrivateFormat.TraditionalOpenSSL
        return self.key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def _name(common: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePrivateKey, issuer: x509.Name, issuer_key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    """A certificate to be signed, with the identifiers that strict verifiers ask for."""
    start = datetime.now(timezone.utc) - timedelta(hours=1)
    subject_key = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(start).not_valid_after(start + _VALID)
    return builder.add_extension(subject_key, critical=False).add_extension(authority_key, critical=False)


def authority() -> Pair:
    """A new certificate authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("kubernetes")
    builder = _builder(name, key, name, key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    return Pair(builder.sign(key, hashes.SHA256()), key)


def server(issuer: Pair, address: str) -> Pair:
    """A server certificate for the IP address, localhost and the cluster's own name."""
    names = [x509.DNSName("kubernetes"), x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(address))]
    return _leaf(issuer, _name("kube-apiserver"), ExtendedKeyUsageOID.SERVER_AUTH, names)


def client(issuer: Pair, user: str, group: str) -> Pair:
    """A client certificate for a user in a group."""
    return _leaf(issuer, _name(user, group), ExtendedKeyUsageOID.CLIENT_AUTH, [])


def _leaf(issuer: Pair, subject: x509.Name, usage: x509.ObjectIdentifier, names: list[x509.GeneralName]) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, key, issuer.certificate.subject, issuer.key)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Pair(builder.sign(issuer.key, hashes.SHA256()), key)


def write(folder: Path, address: str) -> Pair:
    """Write `ca.crt`, `apiserver.crt` and `apiserver.key` into the folder; returns the authority."""
    folder.mkdir(parents=True, exist_ok=True)
    issuer = authority()
    pair = server(issuer, address)
    (folder / "ca.crt").write_bytes(issuer.certificate_pem)
    (folder / "apiserver.crt").write_bytes(pair.certificate_pem)
    (folder / "apiserver.key").write_bytes(pair.key_pem)
    (folder / "apiserver.key").chmod(0o600)
    return issuer
