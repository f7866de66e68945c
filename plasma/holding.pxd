from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy
from plasma.attachment cimport Client

cdef class Holder:
    cdef readonly Client client
    cdef uint32_t _take_ref(self, bytes object_id) except? 99
    cdef int _agent(self) except -1

cdef inline int parse_id(bytes object_id, uint64_t* hi, uint64_t* lo) except -1:
    if object_id is None or PyBytes_GET_SIZE(object_id) != 16:
        raise ValueError(f"an object id is 16 bytes (see plasma.object_id), got {object_id!r}")
    memcpy(hi, PyBytes_AS_STRING(object_id), 8)
    memcpy(lo, PyBytes_AS_STRING(object_id) + 8, 8)
    return 0
