"""Certificates of a cluster: who is believed, for how long, and what lies where."""

from __future__ import annotations

import datetime
import os
from pathlib import Path

import pytest
from cryptography import x509

from orchestrator.rpc import credentials
from orchestrator.rpc.credentials import Authority, CredentialError, Identity, make_request, utc_now

NODE = "0123456789abcdef"
NOW = datetime.datetime(2030, 5, 1, 12, tzinfo=datetime.timezone.utc)
HOUR = datetime.timedelta(hours=1)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.create(NOW)


def test_a_node_has_its_id_the_common_name_and_its_addresses(authority: Authority) -> None:
    identity = authority.issue(NODE, ["10.0.0.1", "::1", "host.example"], NOW)
    assert identity.node_id == NODE
    certificate = x509.load_pem_x509_certificate(identity.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [credentials.CLUSTER_NAME, "host.example"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["10.0.0.1", "::1"]


def test_a_clock_that_is_off_by_an_hour_breaks_nothing(authority: Authority) -> None:
    identity = authority.issue(NODE, [], NOW)
    for off in (-24 * HOUR, -HOUR, 0 * HOUR, HOUR, 24 * HOUR):
        assert identity.objection(NOW + off) == ""


def test_an_expired_certificate_says_so_and_what_to_do(authority: Authority) -> None:
    identity = authority.issue(NODE, [], NOW, days=1)
    text = identity.objection(NOW + 25 * HOUR)
    assert "expired on 2030-05-02 12:00 UTC" in text and "join string" in text
    assert "set the clock" in identity.objection(NOW - 100 * HOUR)


def test_a_request_is_signed_for_what_it_says_and_no_more(authority: Authority) -> None:
    _, csr = make_request(NODE, ["10.0.0.1"])
    certificate = authority.sign_request(csr, NOW)
    assert credentials.common_name(certificate) == NODE
    loaded = x509.load_pem_x509_certificate(certificate)
    assert not loaded.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(
    "csr, complaint",
    [
        (b"nonsense", "not a certificate request"),
        (b"x" * 10_000, "too large"),
        (make_request("not-an-id", [])[1], "no id of a node"),
        (make_request("A" * 16, [])[1], "no id of a node"),
    ],
)
def test_other_requests_are_refused(authority: Authority, csr: bytes, complaint: str) -> None:
    with pytest.raises(CredentialError, match=complaint):
        authority.sign_request(csr, NOW)


def test_files_are_private_and_read_again(authority: Authority, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        authority.save(str(tmp_path))
        identity = authority.issue(NODE, [], NOW)
        identity.save(str(tmp_path))
    finally:
        os.umask(before)
    assert Authority.load(str(tmp_path)) == authority and Identity.load(str(tmp_path)) == identity
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    with pytest.raises(CredentialError, match=r"ca\.pem: No such file"):
        Authority.load(str(tmp_path / "missing"))


def test_proofs_depend_on_all_their_parts() -> None:
    proofs = {
        credentials.proof(secret, *parts)
        for secret in (b"one", b"two")
        for parts in ((b"a", b"b"), (b"ab", b""), (b"", b"ab"), (b"b", b"a"))
    }
    assert len(proofs) == 8


def test_only_what_the_ca_signed_is_signed_by_it(authority: Authority) -> None:
    other = Authority.create(utc_now())
    leaf = x509.load_pem_x509_certificate(authority.issue(NODE, [], NOW).certificate)
    der = leaf.public_bytes(credentials_encoding())
    assert credentials.is_signed_by(der, authority.ca)
    assert not credentials.is_signed_by(der, other.ca)
    assert not credentials.is_signed_by(b"nonsense", authority.ca)


def credentials_encoding() -> object:
    from cryptography.hazmat.primitives.serialization import Encoding

    return Encoding.DER
