"""A reference that is given back when the Python object that stands for it goes."""
cimport cython


cdef class StoreLink:
    """Where holds find the store. Cut when the store is closed: what a user still has of it keeps no memory."""

    cdef public object store

    def __init__(self, store):
        self.store = store


@cython.no_gc  # there may be many, and nothing that a hold refers to refers to it
cdef class Hold:
    """One reference of this process to an object in the store, taken before; given back when this goes."""

    cdef readonly StoreLink link
    cdef readonly bytes object_id

    def __init__(self, StoreLink link not None, bytes object_id not None):
        self.link = link
        self.object_id = object_id

    def __del__(self):
        # May run at any point of any thread, and after the session: it takes no lock but the store's own, and a store
        # that is closed or gone has nothing left to give back.
        if self.link is None or self.link.store is None:
            return
        try:
            self.link.store.drop_ref(self.object_id)
        except Exception:
            pass
