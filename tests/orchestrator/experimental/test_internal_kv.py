"""Bytes by name, shared by the session."""

from __future__ import annotations

import pytest

import orchestrator as ray
from orchestrator.experimental import internal_kv as kv

pytestmark = pytest.mark.usefixtures("shared_session")


def test_a_value_is_found_in_every_process():
    @ray.remote
    def read(key):
        return kv._internal_kv_get(key)

    assert kv._internal_kv_initialized()
    assert not kv._internal_kv_put("greeting", "hello")
    assert ray.get(read.remote("greeting")) == b"hello"
    assert kv._internal_kv_exists(b"greeting")
    assert kv._internal_kv_get("nothing") is None


def test_a_value_is_overwritten_unless_told_otherwise():
    kv._internal_kv_put("a", "1")
    assert kv._internal_kv_put("a", "2", overwrite=False)
    assert kv._internal_kv_get("a") == b"1"
    assert kv._internal_kv_put("a", "3")
    assert kv._internal_kv_get("a") == b"3"


def test_keys_are_listed_and_deleted_by_prefix():
    for key in ("x/1", "x/2", "y/1"):
        kv._internal_kv_put(key, "", namespace="list")
    assert kv._internal_kv_list("x/", namespace="list") == [b"x/1", b"x/2"]
    assert kv._internal_kv_del("x/", namespace="list") == 0
    assert kv._internal_kv_del("x/", del_by_prefix=True, namespace="list") == 2
    assert kv._internal_kv_del("y/1", namespace="list") == 1
    assert kv._internal_kv_list("", namespace="list") == []


def test_namespaces_are_apart():
    kv._internal_kv_put("same", "here", namespace="a")
    assert kv._internal_kv_get("same", namespace="b") is None


def test_other_kinds_are_refused():
    with pytest.raises(TypeError, match="str or bytes, not int"):
        kv._internal_kv_put("a", 3)
