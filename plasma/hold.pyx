"""References that are given back when the Python objects that stand for them go.

There may be very many of both, as one value may have any number of references inside. Python's collector would walk
over all of them again and again, so it does not know of them.
"""
cimport cython
from cpython.object cimport Py_TYPE, PyObject, PyTypeObject

cdef extern from "Python.h":
    bint PyObject_IS_GC(object)
    void PyObject_GC_UnTrack(void*)


cdef class StoreLink:
    """Where holds find the store. Cut when the store is closed: what a user still has of it keeps no memory."""

    cdef public object store

    def __init__(self, store):
        self.store = store


@cython.no_gc  # nothing that a hold refers to refers to it
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


cdef struct Place:
    Place* before
    Place* after
    PyObject* handle


# All handles, in a circle that begins and ends here.
cdef Place _all
_all.before = _all.after = &_all
_all.handle = NULL


@cython.no_gc
cdef class Handle:
    """Base of what a program holds for an object: no more than a `Hold`, until somebody looks into it.

    A subclass has ``__slots__ = ()``, and ``_open(hold)``, which returns what is to be known of the object. It may refer
    to the handle only for a while, as the collector would not find such a circle.
    """

    cdef object __weakref__
    #: a `Hold`, or what the subclass has made of it
    cdef object _known
    cdef readonly object _runtime
    cdef Place _place

    def __cinit__(self, known, runtime):
        cdef PyTypeObject* kind = Py_TYPE(self)
        if PyObject_IS_GC(self) and kind.tp_basicsize == (<PyTypeObject*>Handle).tp_basicsize and kind.tp_dictoffset == 0:
            PyObject_GC_UnTrack(<void*>self)   # as instances of all classes made in Python are; others may be in circles
        self._known = known
        self._runtime = runtime
        self._place = Place(_all.before, &_all, <PyObject*>self)
        _all.before.after = &self._place
        _all.before = &self._place

    def __dealloc__(self):
        if self._place.before != NULL:  # else it was called with what it doesn't take
            self._place.before.after = self._place.after
            self._place.after.before = self._place.before

    @property
    def _entry(self):
        known = self._known
        if type(known) is Hold:
            known = self._open(known)
            if type(self._known) is Hold:  # no other thread was faster
                self._known = known
        return self._known


def handles():
    """Return all handles of this process."""
    found = []  # first, as the collector may run here, and take some of them
    cdef Place* place = _all.after
    while place is not &_all:
        if place.handle.ob_refcnt > 0:  # else it is about to leave the circle
            found.append(<object>place.handle)
        place = place.after
    return found
