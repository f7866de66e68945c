"""A million small objects in one store."""

from __future__ import annotations

from plasma import Store, TableFullError

COUNT = 1_000_000


def test_a_million_small_objects():
    """All are stored, found, listed and deleted; the promise of max_objects holds; nothing is left."""
    with Store.create(256 << 20, max_objects=COUNT, max_clients=4) as store:
        ids = [number.to_bytes(16, "big") for number in range(COUNT)]
        put, payload = store.put_parts, [b"12345678"]
        for object_id in ids:
            put(object_id, payload)
        assert store.audit()[:3] == (True, [], COUNT)
        contains = store.contains
        assert all(contains(object_id) for object_id in ids)
        assert len(store.get(ids[COUNT // 2], 0)) == 8
        stats = store.stats()
        assert (stats["objects"], stats["evictions"], stats["used_bytes"]) == (COUNT, 0, COUNT * 64)
        delete = store.delete
        for object_id in ids[::2]:
            delete(object_id)
        for object_id in ids[1::2]:
            delete(object_id)
        audit = store.audit()
        assert audit.ok and (audit.objects, audit.bytes_used) == (0, 0)
        assert store.stats()["largest_free_bytes"] == 256 << 20, "the free extents have grown together again"


def test_the_table_says_when_it_is_full():
    with Store.create(4 << 20, max_objects=1000, max_clients=4) as store:
        stored = 0
        try:
            for number in range(10_000):
                store.put_parts(number.to_bytes(16, "big"), [b"x"], referenced=True)
                stored += 1
        except TableFullError:
            pass
        assert 1000 <= stored < 10_000
        assert store.audit().ok
