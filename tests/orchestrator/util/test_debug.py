"""Log messages that would be repeated."""

from __future__ import annotations

import pytest

from orchestrator.util import debug


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(debug, "_said", debug._Said())


def test_once_for_each_key():
    assert debug.log_once("a")
    assert not debug.log_once("a")
    assert debug.log_once("b")


def test_it_can_be_forgotten():
    debug.log_once("a")
    debug.log_once("b")
    debug.reset_log_once("a")
    assert (debug.log_once("a"), debug.log_once("b")) == (True, False)
    debug.reset_log_once()
    assert debug.log_once("b")


def test_never_once_it_is_disabled():
    debug.disable_log_once_globally()
    assert not debug.log_once("a")


def test_once_a_period(monkeypatch):
    debug.enable_periodic_logging()
    monkeypatch.setattr(debug, "PERIOD_S", 0.0)
    assert debug.log_once("a")
    assert debug.log_once("a")
