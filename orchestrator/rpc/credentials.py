"""Who belongs to the cluster: a CA made at the start of a head, and certificates signed by it.

A node's certificate has the node's id as its common name, and as alternative names the fixed `CLUSTER_NAME`,
under which every node is verified by every other, and the addresses it has. A key never leaves the machine it
was made on. Files are 0600 in the session's directory, which is 0700.

`NOT_BEFORE_SLACK` lies far enough back for clocks that are off by an hour, or a time zone; a certificate
lasts `NODE_DAYS`, longer than any session should. Both ends look at their own dates before they connect
(`Identity.objection`), because the error that TLS would give is shown to the wrong side.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from orchestrator.rpc.join_string import FINGERPRINT_SIZE_BYTES, SECRET_SIZE_BYTES

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

#: The alternative name that all certificates share.
CLUSTER_NAME = "node.orchestrator.internal"
NOT_BEFORE_SLACK = datetime.timedelta(days=2)
#: What the head's process shows as its id. No node has it.
HEAD_ID = "0" * 16
CA_DAYS = 3650
NODE_DAYS = 825

CA_FILE, CA_KEY_FILE, SECRET_FILE = "ca.pem", "ca.key", "join.secret"
NODE_FILE, NODE_KEY_FILE = "node.pem", "node.key"

#: Bounds of what a stranger may have signed.
CSR_SIZE_MAX_BYTES = 8192
ADDRESSES_MAX = 32


class CredentialError(Exception):
    """A certificate or key that cannot be used; the text says which, why, and what to do."""


class Identity(NamedTuple):
    """What one process shows to others, and whom it believes. All PEM."""

    ca: bytes
    certificate: bytes
    key: bytes

    def save(self, folder: str) -> None:
        """Write it into a private directory."""
        _write_private(os.path.join(folder, CA_FILE), self.ca)
        _write_private(os.path.join(folder, NODE_FILE), self.certificate)
        _write_private(os.path.join(folder, NODE_KEY_FILE), self.key)

    @classmethod
    def load(cls, folder: str) -> Identity:
        """Read it again.

        Raises:
            CredentialError: a file is missing or cannot be read.
        """
        return cls(*(_read(os.path.join(folder, name)) for name in (CA_FILE, NODE_FILE, NODE_KEY_FILE)))

    @property
    def node_id(self) -> str:
        """Return the node's id, from the certificate's common name."""
        return common_name(self.certificate)

    def objection(self, now: datetime.datetime) -> str:
        """Return why this identity is of no use at this time; "" if it is."""
        certificate = _load_certificate(self.certificate, "the node's certificate")
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now > end:
            return (
                f"the certificate of this node expired on {end:%Y-%m-%d %H:%M} UTC (it is "
                f"{now:%Y-%m-%d %H:%M} UTC "
                "by this machine's clock): start the node again with the join string"
            )
        if now < begin:
            return (
                f"the certificate of this node is valid from {begin:%Y-%m-%d %H:%M} UTC on, and by this "
                "machine's "
                f"clock it is {now:%Y-%m-%d %H:%M} UTC: set the clock"
            )
        return ""


class Authority(NamedTuple):
    """The cluster's CA and the secret of its join string. Whoever has this is the cluster."""

    ca: bytes
    key: bytes
    secret: bytes

    @classmethod
    def create(cls, now: datetime.datetime) -> Authority:
        """Make a new one."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = _name(f"orchestrator CA {os.urandom(4).hex()}")
        usage = _usage(signs=True)
        certificate = (
            _builder(name, name, key.public_key(), now, CA_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(_pem(certificate), _key_pem(key), os.urandom(SECRET_SIZE_BYTES))

    def save(self, folder: str) -> None:
        """Write it into a private directory."""
        _write_private(os.path.join(folder, CA_FILE), self.ca)
        _write_private(os.path.join(folder, CA_KEY_FILE), self.key)
        _write_private(os.path.join(folder, SECRET_FILE), self.secret.hex().encode())

    @classmethod
    def load(cls, folder: str) -> Authority:
        """Read it again.

        Raises:
            CredentialError: a file is missing, cannot be read, or holds something else.
        """
        ca, key, secret = (_read(os.path.join(folder, name)) for name in (CA_FILE, CA_KEY_FILE, SECRET_FILE))
        try:
            return cls(ca, key, bytes.fromhex(secret.decode()))
        except ValueError:
            path = os.path.join(folder, SECRET_FILE)
            raise CredentialError(f"{path} does not hold the secret of a join string") from None

    def fingerprint(self) -> bytes:
        """Return what the join string says of the CA."""
        return fingerprint(self.ca)

    def issue(
        self, node_id: str, addresses: Iterable[str], now: datetime.datetime, *, days: float = NODE_DAYS
    ) -> Identity:
        """Make a key and a certificate for a process on this machine."""
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(key.public_key(), node_id, addresses, now, days)
        return Identity(self.ca, certificate, _key_pem(key))

    def sign_request(self, csr_pem: bytes, now: datetime.datetime) -> bytes:
        """Return a certificate for a node that sent a request; only its id, key and addresses count.

        Raises:
            CredentialError: it is no request, or not one of a node.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        if len(csr_pem) > CSR_SIZE_MAX_BYTES:
            raise CredentialError(f"a certificate request of {len(csr_pem)} bytes is too large")
        try:
            request = x509.load_pem_x509_csr(csr_pem)
            node_id = _common_name(request.subject)
            valid = request.is_signature_valid
            names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            addresses = [*names.get_values_for_type(x509.DNSName)]
            addresses += map(str, names.get_values_for_type(x509.IPAddress))
        except (ValueError, x509.ExtensionNotFound, TypeError) as exc:
            raise CredentialError(f"not a certificate request: {exc}") from None
        key = request.public_key()
        if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
            raise CredentialError("the certificate request is not signed by a P-256 key of its own")
        if not is_node_id(node_id):
            raise CredentialError(
                f"the certificate request is for {node_id[:40]!r}, which is no id of a node"
            )
        return self._sign(key, node_id, addresses[:ADDRESSES_MAX], now, NODE_DAYS)

    def _sign(
        self, public_key: Any, node_id: str, addresses: Iterable[str], now: datetime.datetime, days: float
    ) -> bytes:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import ExtendedKeyUsageOID

        ca = _load_certificate(self.ca, "the cluster's CA certificate")
        key: Any = serialization.load_pem_private_key(self.key, None)
        both_ends = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        return _pem(
            _builder(_name(node_id), ca.subject, public_key, now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(both_ends, critical=False)
            .add_extension(_alternative_names(addresses), critical=False)
            .sign(key, hashes.SHA256())
        )


def make_request(node_id: str, addresses: Iterable[str]) -> tuple[bytes, bytes]:
    """Return a new key and a certificate request for it, both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(node_id))
        .add_extension(_alternative_names(addresses), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _key_pem(key), request.public_bytes(Encoding.PEM)


def fingerprint(ca_pem: bytes) -> bytes:
    """Return the first 128 bits of the SHA-256 of a certificate.

    Raises:
        CredentialError: it is none.
    """
    from cryptography.hazmat.primitives.serialization import Encoding

    der = _load_certificate(ca_pem, "the CA certificate").public_bytes(Encoding.DER)
    return hashlib.sha256(der).digest()[:FINGERPRINT_SIZE_BYTES]


def is_signed_by(certificate_der: bytes, ca_pem: bytes) -> bool:
    """Tell whether a certificate was signed by this CA."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature

    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca_pem))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def common_name(certificate_pem: bytes) -> str:
    """Return the common name of a certificate: the id of its node.

    Raises:
        CredentialError: it is no certificate.
    """
    return _common_name(_load_certificate(certificate_pem, "the certificate").subject)


def proof(secret: bytes, *parts: bytes) -> bytes:
    """Return a proof that one knows the secret, which says nothing about it."""
    digest = hmac.new(secret, digestmod=hashlib.sha256)
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()


def is_node_id(text: str) -> bool:
    """Tell whether this is 16 small hexadecimal digits, and not the id that the head keeps for itself."""
    return len(text) == 16 and set(text) <= set("0123456789abcdef") and text != HEAD_ID


def utc_now() -> datetime.datetime:
    """Return the time by this machine's clock."""
    return datetime.datetime.now(datetime.timezone.utc)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime.datetime, days: float
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - NOT_BEFORE_SLACK)
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative_names(addresses: Iterable[str]) -> x509.SubjectAlternativeName:
    from cryptography import x509

    names: list[x509.GeneralName] = [x509.DNSName(CLUSTER_NAME)]
    for address in dict.fromkeys(addresses):
        if address == CLUSTER_NAME:
            continue
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            names.append(x509.DNSName(address))
    return x509.SubjectAlternativeName(names)


def _name(text: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _common_name(name: x509.Name) -> str:
    from cryptography.x509.oid import NameOID

    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _load_certificate(pem: bytes, what: str) -> x509.Certificate:
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as exc:
        raise CredentialError(f"{what} is no certificate in PEM form: {exc}") from None


def _pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write_private(path: str, data: bytes) -> None:
    """Write a file that only its owner ever could read, whole or not at all."""
    scratch = f"{path}.{os.getpid()}.new"
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
    os.replace(scratch, path)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError as exc:
        raise CredentialError(f"{path}: {exc.strerror}; a head and a joined node have it") from None
