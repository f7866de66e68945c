"""Identities for the tests of this package."""

from __future__ import annotations

from orchestrator.rpc.credentials import Authority, Identity, utc_now


def make_identity() -> Identity:
    """An identity of a cluster of its own."""
    return Authority.create(utc_now()).issue("0123456789abcdef", ["127.0.0.1"], utc_now())
