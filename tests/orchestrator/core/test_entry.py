"""An entry leaves PENDING once, and everybody who waits is told once."""

from __future__ import annotations

import threading

from orchestrator.core.entry import ERROR, PLAIN, STORED, Entry, Waiter
from orchestrator.objects.plasma_adapter import Hold, StoreLink


class TestCompletion:
    def test_callbacks_run_once_and_in_order(self):
        entry, called = Entry(1), []
        entry.when_done(lambda e: called.append(("first", e.value)))
        entry.when_done(lambda e: called.append(("second", e.value)))
        assert entry.complete(PLAIN, 5) and not entry.complete(PLAIN, 6)
        assert called == [("first", 5), ("second", 5)] and entry.value == 5

    def test_a_late_callback_runs_at_once(self):
        entry, called = Entry(1), []
        entry.complete(ERROR, ValueError())
        entry.when_done(called.append)
        assert called == [entry]

    def test_a_forgotten_callback_does_not_run(self):
        entry, called = Entry(1), []
        entry.when_done(called.append)
        entry.forget(called.append)
        entry.complete(PLAIN, None)
        assert called == []

    def test_no_callback_is_lost_or_doubled_when_threads_race(self):
        for _ in range(200):
            entry, called = Entry(1), []
            barrier = threading.Barrier(3)

            def add(entry=entry, called=called, barrier=barrier):
                barrier.wait()
                for _ in range(20):
                    entry.when_done(called.append)

            threads = [threading.Thread(target=add) for _ in range(2)]
            for thread in threads:
                thread.start()
            barrier.wait()
            entry.complete(PLAIN, None)
            for thread in threads:
                thread.join()
            assert len(called) == 40


class TestWaiter:
    def test_it_is_over_when_enough_have_arrived(self):
        entries = [Entry(i) for i in range(3)]
        waiter = Waiter(2, stop_at_error=False)
        for entry in entries:
            entry.when_done(waiter)
        entries[2].complete(PLAIN, None)
        assert not waiter.state
        entries[0].complete(ERROR, ValueError())
        assert waiter.state and waiter.arrived == [entries[2], entries[0]]

    def test_or_when_one_has_failed(self):
        entries = [Entry(i) for i in range(3)]
        waiter = Waiter(3, stop_at_error=True)
        for entry in entries:
            entry.when_done(waiter)
        entries[1].complete(ERROR, ValueError())
        assert waiter.state


class FakeStore:
    def __init__(self):
        self.dropped = []

    def drop_ref(self, object_id):
        self.dropped.append(object_id)


class TestHold:
    def test_it_gives_its_reference_back_when_it_goes(self):
        store = FakeStore()
        entry = Entry(1, STORED)
        entry.hold = Hold(StoreLink(store), b"id")
        del entry
        assert store.dropped == [b"id"]

    def test_after_the_session_there_is_nothing_to_give_back(self):
        store = FakeStore()
        link = StoreLink(store)
        hold = Hold(link, b"id")
        link.store = None
        del hold
        assert store.dropped == []
