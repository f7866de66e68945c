"""The token that people copy."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.rpc.join_string import JoinString, JoinStringError, join_address, parse, split_address

TOKEN = JoinString("head.example.org", 6379, bytes(range(16)), bytes(range(16, 32)))
hosts = st.one_of(
    st.text(string.ascii_lowercase + string.digits + "-.", min_size=1, max_size=60),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
)


@given(hosts, st.integers(0, 65535), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_what_is_written_is_read(host: str, port: int, fingerprint: bytes, secret: bytes) -> None:
    token = JoinString(host, port, fingerprint, secret)
    assert parse(token.text()) == token


def test_it_means_nothing_to_a_shell_and_survives_terminals() -> None:
    text = TOKEN.text()
    assert set(text) <= set(string.ascii_letters + string.digits + ":/.-")
    assert parse(f"  {text[:30]}\n   {text[30:]}\n") == TOKEN
    assert parse(text.upper()) == TOKEN


@given(st.integers(0, len(TOKEN.text()) - 1), st.sampled_from(string.ascii_lowercase + string.digits + "/:."))
def test_every_slip_is_found(position: int, letter: str) -> None:
    text = TOKEN.text()
    if text[position] != letter:
        with pytest.raises(JoinStringError):
            parse(text[:position] + letter + text[position + 1 :])
    with pytest.raises(JoinStringError):
        parse(text[:position] + text[position + 1 :])


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "empty"),
        ("10.0.0.1:6379", "an address alone gives no right to join"),
        ("orc7:10.0.0.1:6379/a/b/c", "has version 7"),
        (TOKEN.text()[:40], "cut off: it has 2 of 4 parts"),
        (TOKEN.text()[:-2], "cut off: its last part has 2 of 4 letters"),
        (TOKEN.text() + "/more", "5 parts instead of 4"),
        (TOKEN.text().replace("6379", "6378"), "check does not match"),
    ],
)
def test_errors_say_what_is_wrong(text: str, complaint: str) -> None:
    with pytest.raises(JoinStringError, match=complaint):
        parse(text)


def test_the_secret_stays_out_of_logs() -> None:
    secret = TOKEN.text().split("/")[2]
    assert secret not in repr(TOKEN) and secret not in f"{TOKEN}"
    with pytest.raises(JoinStringError) as found:
        parse(TOKEN.text()[:-1] + "x")
    assert secret not in str(found.value)


@pytest.mark.parametrize(
    "text, pair", [("a:1", ("a", 1)), ("[::1]:80", ("::1", 80)), ("::1:80", ("::1", 80))]
)
def test_addresses(text: str, pair: tuple[str, int]) -> None:
    assert split_address(text) == pair
    assert split_address(join_address(*pair)) == pair


@pytest.mark.parametrize("text", ["", "a", ":1", "a:", "a:x", "a:70000", "a b:1", "a:-1", "a:²"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(JoinStringError, match=r"host:port|port"):
        split_address(text)
