"""What a program holds of an object: Buffer to read a sealed one, Allocation to write a new one."""
cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint32_t, uint64_t
from plasma._c.posix cimport pl_populate
from plasma.attachment cimport Client
from plasma.layout cimport PAGE, Entry
from plasma cimport lifecycle

from plasma.errors import NotOwnerError, ObjectSealedError

cdef extern from "sys/mman.h" nogil:
    void* mmap(void* addr, size_t length, int prot, int flags, int fd, long offset)
    int munmap(void* addr, size_t length)
    int PROT_READ, PROT_WRITE, MAP_PRIVATE, MAP_NORESERVE
    void* MAP_FAILED

cdef enum:
    WRITING = 0
    SEALED_VIEW = 1
    OVER = 2
    # Smaller objects are copied at once: a mapping costs as much as some pages.
    PRIVATE_MIN = 64 * 1024


cdef Buffer make_buffer(Client client, bytes object_id, uint32_t entry, uint32_t hold):
    """Takes over a pin that was just made."""
    cdef Buffer buffer = Buffer.__new__(Buffer)
    buffer.client = client
    buffer.start = client.seg.data_sealed + client.seg.entries[entry].offset
    buffer.size = <Py_ssize_t>client.seg.entries[entry].size_bytes
    buffer.entry = entry
    buffer.hold = hold
    buffer.object_id = object_id
    client.views += 1
    return buffer


@cython.no_gc                            # can be in no cycle; its end must find what it refers to intact
cdef class Buffer:
    """A read-only view of a sealed object's bytes, straight from shared memory.

    The object stays where it is until this and every view made of it (memoryview, numpy array, ...) is gone, even if
    it is deleted meanwhile.
    """

    def __init__(self):
        raise TypeError("a Buffer comes from Store.get() or Store.try_get()")

    def __dealloc__(self):
        if self.client is not None and not self.released:
            self._unpin()

    cdef void _unpin(self) noexcept:
        self.released = True
        if self.client.usable():
            lifecycle.unpin(self.client.seg, self.entry, self.hold)
        self.client.view_gone()

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self.released:
            raise ValueError(f"the Buffer on object {self.object_id.hex()} has been released")
        PyBuffer_FillInfo(view, self, <void*>self.start, self.size, 1, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1

    def release(self):
        """Lets go of the object now instead of with the last name of this Buffer. Doing it twice does no harm.

        Raises BufferError while a view made of it (memoryview, array, ...) is alive.
        """
        if self.exports:
            raise BufferError(f"object {self.object_id.hex()} has {self.exports} views that are still alive")
        if not self.released:
            self._unpin()

    def __len__(self):
        return self.size

    def __repr__(self):
        return f"<plasma.Buffer {self.object_id.hex()} of {self.size} bytes>"


def writable(buffer):
    """A view of the same bytes that may be written to; nobody else sees the changes.

    Of a large Buffer nothing is copied but the pages that are written to, by the processor's copy-on-write.
    """
    cdef PrivatePages private
    cdef Buffer source
    cdef Py_buffer view
    cdef uint64_t at, first
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        # A view of a view, however deep, exports the memory of the Buffer below.
        below = buffer.obj if isinstance(buffer, memoryview) else buffer
        if not isinstance(below, Buffer) or view.len < PRIVATE_MIN:
            return bytearray(buffer)
        source = below
        at = source.client.seg.header.data_start + <uint64_t>(<const char*>view.buf - source.client.seg.data_sealed)
    finally:
        PyBuffer_Release(&view)
    first = at & ~<uint64_t>(PAGE - 1)
    private = PrivatePages.__new__(PrivatePages)
    private.mapped = <size_t>(at - first) + view.len
    private.pages = mmap(NULL, private.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, source.client.arena.fd,
                         <long>first)
    if private.pages == MAP_FAILED:
        private.pages = NULL             # too many mappings, or an address space limit
        return bytearray(buffer)
    private.source = source
    private.start = <char*>private.pages + (at - first)
    private.size = view.len
    source.exports += 1                  # it can't be released under the view
    return private


@cython.no_gc                            # as above
cdef class PrivatePages:
    """A writable view of a sealed object, copy-on-write. See writable()."""

    def __init__(self):
        raise TypeError("PrivatePages come from writable()")

    def __dealloc__(self):
        if self.pages != NULL:
            munmap(self.pages, self.mapped)
            self.source.exports -= 1

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.start, self.size, 0, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass

    def __len__(self):
        return self.size


cdef Allocation make_allocation(Client client, bytes object_id, uint32_t entry, uint32_t hold, bint fresh):
    cdef Allocation allocation = Allocation.__new__(Allocation)
    allocation.client = client
    allocation.start = client.seg.data + client.seg.entries[entry].offset
    allocation.size = <Py_ssize_t>client.seg.entries[entry].size_bytes
    allocation.entry = entry
    allocation.hold = hold
    allocation.fresh = fresh
    allocation.object_id = object_id
    client.views += 1
    return allocation


@cython.no_gc                            # can be in no cycle; its end must find what it refers to intact
cdef class Allocation:
    """Writable memory of an object that is being created: fill it, then seal() it.

    After the seal the pages are write-protected in this process too: a view made before still reads, and whoever
    writes through it gets SIGSEGV instead of corrupting what others read. Dropped without seal(), the object is
    aborted: nothing of it remains.
    """

    def __init__(self):
        raise TypeError("an Allocation comes from Store.create_buffer()")

    def __dealloc__(self):
        if self.client is None:
            return
        if self.client.usable():
            if self.phase == WRITING:
                lifecycle.abort(self.client.seg, self.entry, self.hold)
            elif self.phase == SEALED_VIEW and self._protect(False):
                # Pages that can't be opened again (too many mappings) must not be allocated again: the pin stays.
                lifecycle.unpin(self.client.seg, self.entry, self.hold)
        self.client.view_gone()

    cdef bint _protect(self, bint readonly) noexcept:
        cdef Entry* entry = &self.client.seg.entries[self.entry]
        return self.client.arena.protect(entry.offset, entry.allocated_bytes, readonly)

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self.phase == OVER:
            raise ObjectSealedError(f"object {self.object_id.hex()} was aborted; create it again")
        if self.phase == SEALED_VIEW and flags & PyBUF_WRITABLE:
            raise ObjectSealedError(
                f"object {self.object_id.hex()} is sealed and can't be written any more; put a changed copy instead"
            )
        PyBuffer_FillInfo(view, self, self.start, self.size, self.phase != WRITING, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1

    @property
    def sealed(self):
        return self.phase == SEALED_VIEW

    @property
    def size_bytes(self):
        return self.size

    def __len__(self):
        return self.size

    def populate(self, Py_ssize_t start, Py_ssize_t size):
        """Has the kernel provide the pages of a stretch now, in one call and without the interpreter's lock.

        Whoever then writes to it meets warm memory: first touches of shared memory are several times slower than
        copies. What is warm already costs little; where the kernel can't, nothing happens. Call it from another thread,
        ahead of the one that writes.
        """
        cdef char* first
        if start < 0 or size < 0 or start + size > self.size:
            raise ValueError(f"object {self.object_id.hex()} has {self.size} bytes, not {size} from {start} on")
        if self.phase != WRITING:
            return
        first = self.start + start
        self.exports += 1                # no abort meanwhile
        with nogil:
            pl_populate(first, size)
        self.exports -= 1

    def seal(self):
        """Makes the object immutable and visible to all clients.

        Raises ObjectSealedError the second time.
        """
        cdef int status
        self.client.check()
        if self.phase != WRITING:
            raise ObjectSealedError(f"object {self.object_id.hex()} is " + (
                "sealed already" if self.phase == SEALED_VIEW else "aborted"))
        self._protect(True)
        status = lifecycle.seal(self.client.seg, self.entry, self.hold, True)
        if status != lifecycle.OK:
            self._protect(False)
            raise NotOwnerError(f"object {self.object_id.hex()} is no longer this client's to seal (status {status})")
        self.phase = SEALED_VIEW

    def abort(self):
        """Gives the memory back. Raises BufferError while views of it exist: they would write into the next object."""
        self.client.check()
        if self.phase != WRITING:
            raise ObjectSealedError(f"object {self.object_id.hex()} can't be aborted: it is sealed or gone")
        if self.exports:
            raise BufferError(f"object {self.object_id.hex()} has {self.exports} views in use: release them first")
        lifecycle.abort(self.client.seg, self.entry, self.hold)
        self.phase = OVER

    def __repr__(self):
        return f"<plasma.Allocation {self.object_id.hex()} of {self.size} bytes, {('writing', 'sealed', 'aborted')[self.phase]}>"
