"""Bytes by namespace and key, against a dict."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.gcs.kv import KvTable
from orchestrator.gcs.requests import DeleteValue, Done, GetValue, Keys, ListKeys, PutValue, Refused, Value

spaces = st.sampled_from(["", "a", "a/b"])
keys = st.binary(max_size=2)
steps = st.lists(
    st.one_of(
        st.builds(PutValue, spaces, keys, st.binary(max_size=4), st.booleans()),
        st.builds(DeleteValue, spaces, keys, st.booleans()),
    ),
    max_size=40,
)


@given(steps)
def test_it_is_a_dict_that_survives(steps: list[PutValue | DeleteValue]) -> None:
    table, model, rows = KvTable(), {}, {}
    for step in steps:
        place = (step.namespace, step.key)
        if isinstance(step, PutValue):
            answer, writes = table.put(step)
            wanted = step.overwrite or place not in model
            assert answer == Done(int(wanted))
            if wanted:
                model[place] = step.value
        else:
            answer, writes = table.delete(step)
            gone = [
                at
                for at in model
                if at[0] == step.namespace
                and (at[1].startswith(step.key) if step.prefix else at[1] == step.key)
            ]
            assert answer == Done(len(gone))
            for at in gone:
                del model[at]
        for write in writes:
            rows.pop(write.key, None)
            if write.value is not None:
                rows[write.key] = write.value
        table.validate()
    after = KvTable()
    after.restore(rows.items())
    after.validate()
    for one in (table, after):
        for namespace in ("", "a", "a/b"):
            found = one.keys(ListKeys(namespace))
            assert found == Keys(tuple(sorted(key for space, key in model if space == namespace)))
            for key in found.keys:
                assert one.get(GetValue(namespace, key)) == Value(model[namespace, key])
    assert table.size_bytes == after.size_bytes


def test_the_bounds() -> None:
    table = KvTable(total_size_max_bytes=1000)
    assert table.put(PutValue("", b"k", bytes(700)))[0] == Done(1)
    answer, writes = table.put(PutValue("", b"l", bytes(700)))
    assert isinstance(answer, Refused) and "at most 1000" in answer.text and not writes
    assert table.put(PutValue("", b"k", bytes(750)))[0] == Done(1)
    assert isinstance(table.put(PutValue("", bytes(5000), b""))[0], Refused)
    assert isinstance(KvTable().put(PutValue("", b"k", bytes((16 << 20) + 1)))[0], Refused)
    table.validate()
