cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from libc.errno cimport EINTR
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memset
from plasma._c.posix cimport (
    add32, and32, cpu_relax, exchange32, full_fence, load32, load64, or32, pl_bell_drain, pl_bell_socket,
    pl_futex_wait, pl_now_ns,
)
from plasma cimport lifecycle
from plasma.attachment cimport Client
from plasma.doorbell cimport ring_for_event, ring_for_message
from plasma.layout cimport (
    CHANNEL, CRASH_CHANNEL_ANNOUNCED, CRASH_CHANNEL_CREATED, CRASH_RECEIVE_ADVANCED, CRASH_RECEIVE_COPIED,
    LANE_CONTROL, LANE_WORK, SLOT_ACTIVE, WAIT_BACKGROUND, WAIT_CONTROL, WAIT_EVENT, WAIT_POLL,
    WAIT_WORK, RingHeader, Segment, Slot, crash_point,
)
from plasma.mutex cimport lock_shard, unlock_shard
from plasma.patience cimport LOOK_NS_MIN, begin_wait, end_wait
from plasma.room cimport make_room
from plasma.ring cimport MESSAGE_MAX, RING_BYTES, ring_pass, ring_revoke, ring_send, ring_take, ring_used

from plasma.errors import MessageTooLargeError, ObjectStoreFullError, PeerDiedError

cdef extern from "unistd.h" nogil:
    int close(int fd) noexcept

cdef extern from "sched.h" nogil:
    int sched_yield() noexcept

cdef enum:
    LOOKS = 32                           # between two looks at the clock

MESSAGE_BYTES_MAX = MESSAGE_MAX


@cython.no_gc                            # can be in no cycle; its end must find what it refers to intact
cdef class Sender:
    """The sending end of one channel. Get it from Endpoint.sender() and keep it."""

    def __init__(self):
        raise TypeError("a Sender comes from Endpoint.sender()")

    def __dealloc__(self):
        if self.ring is not NULL and self.client.usable():
            lifecycle.close_channel(self.client.seg, self.entry, self.client.seg.address)
            lifecycle.unpin(self.client.seg, self.entry, self.hold)

    def send(self, bytes payload not None):
        """Publishes a message and wakes the receiver if it sleeps. Never blocks.

        Returns the message's ticket (>= 1), or 0 when the ring is full now: this process's bell rings when there is
        room again. Raises PeerDiedError, MessageTooLargeError.
        """
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef uint64_t ticket
        if not self.client.usable() or self.ring.closed:
            self._refuse()
        if size > MESSAGE_MAX:
            raise MessageTooLargeError(
                f"a message has at most {MESSAGE_MAX} bytes, this one {size}: put the value and send its id"
            )
        ticket = ring_send(self.client.seg, self.ring, PyBytes_AS_STRING(payload), <uint32_t>size)
        if ticket:
            ring_for_message(self.client.seg, self.peer_slot, self.lane)
        return ticket

    def _refuse(self):
        self.client.check()
        raise PeerDiedError(f"the client at address {self.address} is gone")

    def revoke(self, uint64_t ticket):
        """True: the receiver has not seen the message and never will. False: it is taken (or the peer is dead)."""
        if ticket == 0 or not self.client.usable():
            return False
        return ring_revoke(self.ring, ticket)

    @property
    def alive(self):
        return self.client.usable() and not self.ring.closed

    @property
    def used_bytes(self):
        """Bytes published and not taken yet."""
        self.client.check()
        return ring_used(self.ring)


@cython.no_gc                            # can be in no cycle; its end must find what it refers to intact
cdef class Endpoint:
    """This process's end of all its channels, and its bell."""

    CONTROL = LANE_CONTROL
    WORK = LANE_WORK

    def __cinit__(self, Client client):
        self.client = client
        self.senders = {}
        self.loop_fd = -1

    def __dealloc__(self):
        cdef uint32_t lane
        for lane in range(2):
            while self.inlet_count[lane]:
                self.forget(lane, self.inlet_count[lane] - 1)
            free(self.inlets[lane])
        if self.loop_fd >= 0:
            close(self.loop_fd)

    @property
    def address(self):
        return self.client.seg.address

    # ---- sending

    def sender(self, uint64_t address, uint32_t lane=LANE_CONTROL):
        """The sending end of the channel to a client, opened on first use. Raises PeerDiedError."""
        cdef Sender sender
        if lane > LANE_WORK:
            raise ValueError(f"lane must be 0 (CONTROL) or 1 (WORK), got {lane}")
        key = (address, lane)
        found = self.senders.get(key)
        self.client.check()
        if found is not None:
            if (<Sender>found).ring.closed:
                del self.senders[key]
                raise PeerDiedError(f"the client at address {address} is gone")
            return found
        sender = self._open(address, lane)
        self.senders[key] = sender
        return sender

    def close_sender(self, uint64_t address):
        """Forgets the channels to a client that is no longer needed; their rings go when the receiver has read them."""
        self.senders.pop((address, LANE_CONTROL), None)
        self.senders.pop((address, LANE_WORK), None)

    cdef Sender _open(self, uint64_t address, uint32_t lane):
        cdef Segment* seg = self.client.seg
        cdef uint32_t slot = <uint32_t>(address & 0xFFFF)
        cdef uint32_t entry = 0, hold = 0
        cdef bint fresh
        cdef int status
        cdef uint64_t size = sizeof(RingHeader) + RING_BYTES
        if not 0 < slot < seg.header.slots_max or seg.slots[slot].address != address or seg.slots[slot].state != SLOT_ACTIVE:
            raise PeerDiedError(f"no client lives at address {address}")
        status = lifecycle.create(seg, seg.address, address << 1 | lane, size, CHANNEL, 0, 0, &entry, &hold, &fresh)
        if status == lifecycle.NO_SPACE and make_room(seg, size):
            status = lifecycle.create(seg, seg.address, address << 1 | lane, size, CHANNEL, 0, 0, &entry, &hold, &fresh)
        if status != lifecycle.OK:
            raise ObjectStoreFullError(f"no room for a channel of {size} bytes to the client at address {address}")
        cdef RingHeader* ring = <RingHeader*>(seg.data + seg.entries[entry].offset)
        memset(ring, 0, sizeof(RingHeader))
        ring.capacity = RING_BYTES
        ring.sender = seg.address
        ring.receiver = address
        ring.lane = lane
        lifecycle.seal(seg, entry, hold, True)
        crash_point(seg, CRASH_CHANNEL_CREATED)
        if lifecycle.pin_for_peer(seg, entry, address) != lifecycle.OK:
            lifecycle.unpin(seg, entry, hold)
            raise PeerDiedError(f"the client at address {address} is gone")
        add32(&seg.slots[slot].inbox, 1)
        crash_point(seg, CRASH_CHANNEL_ANNOUNCED)
        cdef Sender sender = Sender.__new__(Sender)
        sender.client = self.client
        sender.ring = ring
        sender.entry = entry
        sender.hold = hold
        sender.lane = lane
        sender.peer_slot = slot
        sender.address = address
        return sender

    # ---- receiving

    cdef void accept(self) noexcept:
        """Looks through this client's channels for new ones, and lets go of those that are closed and empty."""
        cdef Segment* seg = self.client.seg
        cdef Slot* slot = &seg.slots[seg.slot]
        cdef uint32_t h, e, lane, i
        cdef RingHeader* ring
        cdef Inlet* grown
        cdef object address
        self.inbox_seen = load32(&slot.inbox)
        lock_shard(seg, 0)
        h = slot.channels
        while h:
            e = seg.holds[h].entry
            ring = <RingHeader*>(seg.data + seg.entries[e].offset)
            lane = ring.lane & 1
            if ring.receiver == seg.address:
                i = 0
                while i < self.inlet_count[lane] and self.inlets[lane][i].entry != e:
                    i += 1
                if i == self.inlet_count[lane]:
                    if i == self.inlet_room[lane]:
                        grown = <Inlet*>realloc(self.inlets[lane], (2 * i + 8) * sizeof(Inlet))
                        if grown == NULL:
                            break        # the next change of the inbox tries again
                        self.inlets[lane] = grown
                        self.inlet_room[lane] = 2 * i + 8
                    address = ring.sender
                    Py_INCREF(address)
                    self.inlets[lane][i] = Inlet(ring, e, h, <void*>address)
                    self.inlet_count[lane] += 1
            h = seg.holds[h].next_of_slot
        unlock_shard(seg, 0)
        for lane in range(2):
            i = 0
            while i < self.inlet_count[lane]:
                ring = self.inlets[lane][i].ring
                if load32(&ring.closed) and ring_used(ring) == 0:
                    self.forget(lane, i)
                else:
                    i += 1

    cdef void forget(self, uint32_t lane, uint32_t index) noexcept:
        cdef Inlet inlet = self.inlets[lane][index]
        self.inlet_count[lane] -= 1
        self.inlets[lane][index] = self.inlets[lane][self.inlet_count[lane]]
        if self.client.usable():
            lifecycle.unpin(self.client.seg, inlet.entry, inlet.hold)
        Py_XDECREF(<PyObject*>inlet.sender)

    cdef bint anything(self, uint32_t mask) noexcept:
        cdef uint32_t lane, i
        cdef RingHeader* ring
        if load32(&self.client.seg.slots[self.client.seg.slot].inbox) != self.inbox_seen:
            self.accept()
        for lane in range(2):
            if mask & (<uint32_t>1 << lane):
                for i in range(self.inlet_count[lane]):
                    ring = self.inlets[lane][i].ring
                    if load64(&ring.tail) != ring.head:
                        return True
        return False

    cdef bytes take(self, uint32_t lane, void** sender):
        """The next message of a lane, each channel in its turn; None: there is none."""
        cdef Segment* seg = self.client.seg
        cdef uint32_t n, k, i, size
        cdef uint64_t next_head
        cdef const char* start
        cdef Inlet* inlet
        cdef bytes payload
        if load32(&seg.slots[seg.slot].inbox) != self.inbox_seen:
            self.accept()
        n = self.inlet_count[lane]
        i = self.cursor[lane]
        k = 0
        while k < n:
            if i >= n:
                i = 0
            inlet = &self.inlets[lane][i]
            if load64(&inlet.ring.tail) == inlet.ring.head:
                if load32(&inlet.ring.closed) and ring_used(inlet.ring) == 0:
                    self.forget(lane, i)             # its last message has been read; another inlet is at i now
                    n -= 1
                else:
                    i += 1
                    k += 1
                continue
            i += 1
            k += 1
            start = ring_take(seg, inlet.ring, &size, &next_head)
            if start != NULL:
                payload = PyBytes_FromStringAndSize(start, size)
                crash_point(seg, CRASH_RECEIVE_COPIED)
                ring_pass(inlet.ring, next_head)
                crash_point(seg, CRASH_RECEIVE_ADVANCED)
            self._tell_room(inlet.ring)
            if start == NULL:            # all that was there had been revoked
                continue
            self.cursor[lane] = i
            sender[0] = inlet.sender
            return payload
        return None

    cdef void _tell_room(self, RingHeader* ring) noexcept:
        """Rings a sender that found its ring full, once half of it is free."""
        full_fence()                     # SYNC: full/passed
        if load32(&ring.sender_waits) and ring_used(ring) <= RING_BYTES // 2 and exchange32(&ring.sender_waits, 0):
            if lifecycle.client_is(self.client.seg, ring.sender):
                ring_for_event(self.client.seg, <uint32_t>(ring.sender & 0xFFFF))

    def receive(self, uint32_t lane=LANE_CONTROL):
        """(sender's address, payload) of the next message of that lane, or None. Never blocks."""
        cdef void* sender = NULL
        cdef bytes payload
        cdef object address
        if lane > LANE_WORK:
            raise ValueError(f"lane must be 0 (CONTROL) or 1 (WORK), got {lane}")
        if not self.client.usable():
            self.client.check()
        payload = self.take(lane, &sender)
        if payload is None:
            return None
        address = <object>sender         # owned before the tuple, whose making may run the garbage collector
        return (address, payload)

    def receive_many(self, uint32_t lane=LANE_CONTROL, uint32_t limit=256):
        """A list of up to `limit` messages of that lane, as receive() gives them."""
        cdef void* sender = NULL
        cdef bytes payload
        cdef object address
        cdef list messages = []
        if lane > LANE_WORK:
            raise ValueError(f"lane must be 0 (CONTROL) or 1 (WORK), got {lane}")
        if not self.client.usable():
            self.client.check()
        while limit:
            payload = self.take(lane, &sender)
            if payload is None:
                break
            address = <object>sender
            messages.append((address, payload))
            limit -= 1
        return messages

    def has_message(self, uint32_t lane=LANE_CONTROL):
        if not self.client.usable():
            self.client.check()
        return self.anything(<uint32_t>1 << lane)

    def channels(self):
        """For people: (sender, lane, bytes waiting, closed) of each channel to this client."""
        cdef uint32_t lane, i
        if not self.client.usable():
            self.client.check()
        return [
            (<object>self.inlets[lane][i].sender, lane, ring_used(self.inlets[lane][i].ring),
             bool(self.inlets[lane][i].ring.closed))
            for lane in range(2) for i in range(self.inlet_count[lane])
        ]

    # ---- waiting

    def bell(self):
        """The number of this client's bell. Look at it before looking at what you wait for."""
        if not self.client.usable():
            self.client.check()
        return load32(&self.client.seg.slots[self.client.seg.slot].bell)

    def wait(self, uint32_t lane_mask, timeout_s, uint32_t bell):
        """Sleeps until a message of a lane in the mask is there or the bell's number isn't `bell` any more.

        Returns False when timeout_s (None: for ever) passed before. Signal handlers run, so Ctrl-C ends it.
        """
        cdef Segment* seg = self.client.seg
        cdef Slot* slot = &seg.slots[seg.slot]
        cdef int64_t deadline = -1, left = -1
        cdef uint32_t flags
        cdef int rc
        cdef bint looked = False
        self.client.check()
        if timeout_s is not None:
            deadline = pl_now_ns() + <int64_t>(max(0.0, min(timeout_s, 1e9)) * 1e9)
        flags = WAIT_EVENT | (WAIT_CONTROL if lane_mask & 1 else 0) | (WAIT_WORK if lane_mask & 2 else 0)
        while True:
            if self.anything(lane_mask) or load32(&slot.bell) != bell:
                if looked:
                    end_wait(&self.patience)
                return True
            if deadline >= 0:
                left = deadline - pl_now_ns()
                if left <= 0:
                    if looked:
                        end_wait(&self.patience)
                    return False
            if not looked:
                looked = True
                self._look(lane_mask, bell, left)
                if self.client.closing or not self.client.usable():
                    return True
                continue
            self._count_sleeper(slot, flags, 1)
            or32(&slot.waiting, flags)
            full_fence()                 # SYNC: sleep/publish
            rc = 0
            if not self.anything(lane_mask) and load32(&slot.bell) == bell:
                self.client.views += 1   # another thread's close() unmaps nothing before we are awake
                with nogil:
                    rc = pl_futex_wait(&slot.bell, bell, left)
                self._count_sleeper(slot, flags, -1)
                self.client.view_gone()
            else:
                self._count_sleeper(slot, flags, -1)
            if rc == EINTR:
                PyErr_CheckSignals()
            if self.client.closing or not self.client.usable():      # perhaps by a handler of signals
                return True

    cdef bint _look(self, uint32_t mask, uint32_t bell, int64_t left):
        """The first part of a wait: looks for a while, for at most `left` nanoseconds (-1: no matter). True: something
        came. Others who want the core soon get it: the writer of the message, or a thread that wants the interpreter."""
        cdef Slot* slot = &self.client.seg.slots[self.client.seg.slot]
        cdef int64_t looked = 0, most
        cdef int n
        begin_wait(&self.patience)
        most = self.patience.look_ns if left < 0 else min(self.patience.look_ns, left)
        while looked < most:
            for n in range(LOOKS):
                if self.anything(mask) or load32(&slot.bell) != bell:
                    return True
                cpu_relax()
            if looked >= LOOK_NS_MIN:
                self.client.views += 1   # another thread's close() unmaps nothing meanwhile
                with nogil:
                    sched_yield()
                self.client.view_gone()
                if self.client.closing or not self.client.usable():
                    return False
            looked = pl_now_ns() - self.patience.began
        return False

    cdef void _count_sleeper(self, Slot* slot, uint32_t flags, int by) noexcept:
        """An announcement is taken down with the last thread it is for: one that is left behind would draw to the
        foreground what nobody there takes, past the background thread."""
        cdef uint32_t over = 0
        self.sleeping[0] += by if flags & WAIT_CONTROL else 0
        self.sleeping[1] += by if flags & WAIT_WORK else 0
        self.sleeping[2] += by
        over |= WAIT_CONTROL if self.sleeping[0] == 0 else 0
        over |= WAIT_WORK if self.sleeping[1] == 0 else 0
        over |= WAIT_EVENT if self.sleeping[2] == 0 else 0
        if over and by < 0:
            and32(&slot.waiting, ~over)

    def wait_background(self, timeout_s, uint32_t bell):
        """Like wait() for the CONTROL lane, but woken only when no foreground thread and no event loop waits."""
        cdef Segment* seg = self.client.seg
        cdef Slot* slot = &seg.slots[seg.slot]
        cdef int64_t left = -1
        cdef uint32_t word
        self.client.check()
        if timeout_s is not None:
            left = <int64_t>(max(0.0, min(timeout_s, 1e9)) * 1e9)
        word = load32(&slot.bell_background)
        or32(&slot.waiting, WAIT_BACKGROUND)
        full_fence()                     # SYNC: sleep/publish
        if not self.anything(1) and load32(&slot.bell) == bell:
            self.client.views += 1       # as in wait()
            with nogil:
                pl_futex_wait(&slot.bell_background, word, left)
            self.client.view_gone()
        if self.client.closing or not self.client.usable():
            return True
        and32(&slot.waiting, ~<uint32_t>WAIT_BACKGROUND)
        return self.anything(1) or load32(&slot.bell) != bell

    def ring(self):
        """Wakes this client's own waiters, from another thread of the process."""
        if self.client.usable():
            ring_for_event(self.client.seg, self.client.seg.slot)

    # ---- event loops

    def fileno(self):
        """A descriptor that becomes readable when an armed bell rings."""
        cdef Segment* seg = self.client.seg
        if self.loop_fd < 0:
            self.client.check()
            self.loop_fd = pl_bell_socket(seg.header.token_hi, seg.header.token_lo, seg.address)
            if self.loop_fd < 0:
                raise OSError("can't bind this client's wake-up socket")
        return self.loop_fd

    def look(self):
        """Looks for messages for a moment, before an event loop arms the bell and sleeps. True: there are some."""
        self.client.check()
        if not self._look(3, load32(&self.client.seg.slots[self.client.seg.slot].bell), -1):
            return False
        end_wait(&self.patience)
        return True

    def arm(self):
        """True: asleep; the next message or event makes fileno() readable. False: messages, or news for take_unneeded(), are
        there: take them first."""
        cdef Slot* slot = &self.client.seg.slots[self.client.seg.slot]
        self.client.check()
        or32(&slot.waiting, WAIT_POLL)
        full_fence()                     # SYNC: sleep/publish
        if self.anything(3) or load32(&slot.news):
            and32(&slot.waiting, ~<uint32_t>WAIT_POLL)
            return False
        return True

    def drain(self):
        """Makes fileno() quiet again."""
        end_wait(&self.patience)
        if self.loop_fd >= 0:
            pl_bell_drain(self.loop_fd)
