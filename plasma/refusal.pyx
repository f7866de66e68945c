"""What lifecycle refuses, in words: who is in the way, with figures, and what to do."""
from plasma.attachment cimport Client
from plasma cimport lifecycle
from plasma.spiller cimport Spiller

from plasma.errors import ObjectExistsError, ObjectStoreFullError, OutOfDiskError, PeerDiedError, PlasmaError, TableFullError
from plasma.stats import stats


def refusal(Client client, int status, bytes object_id, size_bytes, owner, Spiller spiller=None):
    """The exception that says why an object could not be created."""
    name = object_id.hex()
    if status == lifecycle.NO_SPACE:
        return _full(stats(client), f"object {name} needs {size_bytes} bytes", spiller)
    if status == lifecycle.EXISTS:
        return ObjectExistsError(f"object {name} exists already")
    if status == lifecycle.OWNER_GONE:
        return PeerDiedError(f"object {name} was to be owned by the client at address {owner}, which is gone")
    if status == lifecycle.TABLE_FULL:
        return TableFullError(
            f"the store's table is full ({client.seg.header.objects_max} objects promised); "
            "create the store with a larger max_objects")
    if status == lifecycle.LEDGER_FULL:
        return TableFullError("the ledger of pins and references is full; create the store with a larger max_objects")
    return PlasmaError(f"object {name} couldn't be created (status {status})")


def _full(totals, need, Spiller spiller):
    text = (
        f"{need}; of {totals['data_bytes']} the store has {totals['free_bytes']} free "
        f"(largest stretch {totals['largest_free_bytes']}), the rest is in {totals['objects_pinned']} pinned and "
        f"{totals['objects_referenced']} referenced objects")
    if spiller.out_of_disk is not None:
        return OutOfDiskError(
            f"{text}, and the disk at {spiller.directory} takes none of them: {spiller.out_of_disk}. "
            "Free disk space, spill elsewhere, or drop references")
    if spiller.enabled:
        return ObjectStoreFullError(
            f"{text}; what is pinned, by views and arrays that are alive, can't go to disk ({totals['spilled_bytes']} bytes "
            "are there). Drop views, or create a larger store")
    return ObjectStoreFullError(f"{text}. Drop references or views, or create a larger store")
