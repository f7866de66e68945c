"""What happens to errors: of values that cannot travel, and of tasks nobody asks about."""

from __future__ import annotations

import asyncio
import io
import os
import re
import socket
import sqlite3
import sys
import threading
import weakref

import pytest

import orchestrator as ray
from orchestrator import exceptions
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("shared_session"), pytest.mark.both_modes]


@ray.remote
def identity(x):
    return x


@ray.remote
def fail(text="told you"):
    raise ValueError(text)


class Client:
    """As libraries have them: an object with a lock and a connection deep inside."""

    def __init__(self):
        self.pool = {"connections": [threading.Lock()]}


CLIENT = Client()


def frame():
    return sys._getframe()


async def coroutine():
    return 1


#: What cannot be pickled, and the words by which its error tells what it is.
UNPICKLABLES = {
    "a lock": (threading.Lock, "_thread.lock"),
    "a re-entrant lock": (threading.RLock, "_thread.RLock"),
    "a generator": (lambda: (i for i in ()), "generator"),
    "a socket": (lambda: socket.socket(), "socket"),
    "an open file": (lambda: open(os.devnull, "w"), "TextIOWrapper"),
    "a buffered file": (lambda: open(os.devnull, "rb"), "BufferedReader"),
    "a database": (lambda: sqlite3.connect(":memory:"), "sqlite3.Connection"),
    "a frame": (frame, "frame"),
    "a thread": (lambda: threading.Thread(), "_thread|lock|Thread"),
    "thread-local data": (threading.local, "_thread._local"),
    "a weak reference": (lambda: weakref.ref(CLIENT), "weakref"),
    "a client with a lock inside": (Client, r"\.pool\['connections'\]\[0\] → _thread.lock"),
}


class TestTwelveThingsThatCannotTravel:
    @pytest.fixture(params=UNPICKLABLES, ids=lambda name: name.replace(" ", "-"))
    def thing(self, request):
        make, words = UNPICKLABLES[request.param]
        value = make()
        yield value, words
        if isinstance(value, (io.IOBase, socket.socket, sqlite3.Connection)):
            value.close()

    def test_as_an_argument(self, thing):
        value, words = thing
        with pytest.raises(TypeError, match=rf"argument 0 of identity\['here'\].*({words})"):
            identity.remote({"here": value})

    def test_captured_by_a_function(self, thing):
        value, words = thing

        @ray.remote
        def captures():
            return value

        with pytest.raises(TypeError, match=rf"closure variable 'value' of .*captures.*({words})"):
            captures.remote()

    @pytest.mark.not_inline("what it opens stays open in this process")
    @pytest.mark.parametrize("name", [name for name in UNPICKLABLES if name != "a weak reference"])
    def test_as_a_result(self, name):
        make, words = UNPICKLABLES[name]

        @ray.remote
        def result():
            return [make()]

        with pytest.raises(TypeError, match=rf"return value\[0\].*({words})"):
            ray.get(result.remote(), timeout=20)

    def test_put(self, thing):
        value, words = thing
        with pytest.raises(TypeError, match=rf"value.*({words})"):
            ray.put([value])

    def test_a_client_of_the_module(self):
        @ray.remote
        def uses_client():
            return CLIENT.pool

        words = r"global variable 'CLIENT' of .*uses_client.*\.pool\['connections'\]\[0\] → _thread.lock"
        with pytest.raises(TypeError, match=words):
            uses_client.remote()


class TestFailuresNobodyAsksAbout:
    def test_they_are_shown_when_their_reference_goes(self, capfd):
        ref = fail.options(name="forgotten").remote("a reason")
        ray.wait([ref], timeout=20)
        del ref
        assert "a reason" in shown(capfd, "forgotten failed, and nobody has asked")

    def test_even_if_the_reference_went_at_once(self, capfd):
        fail.options(name="at-once").remote("gone")
        fail.options(name="without-any", num_returns=0).remote("gone")
        fail.options(name="too-large", num_cpus=999).remote()
        text = shown(capfd, "at-once failed", "without-any failed", "too-large failed")
        assert "ValueError" in text

    def test_of_thousands_a_handful(self, capfd):
        many = fail.options(name="one-of-many")
        refs = [many.remote(f"number {i}") for i in range(3000)]
        ray.wait(refs, num_returns=len(refs), timeout=100)
        del refs
        text = shown(capfd, "one-of-many failed")
        ray.get(identity.remote(1))
        text += capfd.readouterr().err
        assert text.count("one-of-many failed") <= 10

    def test_a_chain_is_one_failure(self, capfd):
        ref = fail.options(name="the-first").remote()
        for _ in range(5):
            ref = identity.options(name="the-rest").remote(ref)
        ray.wait([ref], timeout=20)
        del ref
        text = shown(capfd, "the-first failed")
        assert text.count("nobody has asked") == 1 and "the-rest failed" not in text

    @pytest.mark.not_inline("what has failed at its call cannot be cancelled")
    def test_what_was_asked_for_is_not(self, capfd):
        ref, other, third = (fail.options(name="asked-for").remote() for _ in range(3))
        with pytest.raises(ValueError):
            ray.get(ref)
        assert isinstance(other.exception(timeout=20), ValueError)
        cancelled = fail.options(name="asked-for", num_cpus=2).remote()
        ray.cancel(cancelled)
        with pytest.raises(ValueError):
            third.future().result(timeout=20)
        del ref, other, third, cancelled
        fail.options(name="the-mark").remote()
        assert "asked-for" not in shown(capfd, "the-mark failed")


def shown(capfd, *marks):
    """What is written to stderr until all the marks are there."""
    text = ""

    def all_there():
        nonlocal text
        text += capfd.readouterr().err
        return all(mark in text for mark in marks)

    until(all_there), text
    return text


RAY_NAMES = """
ActorAlreadyExistsError ActorDiedError ActorHandleNotFoundError ActorPlacementGroupRemoved
ActorUnavailableError ActorUnschedulableError AsyncioActorExit AuthenticationError
CrossLanguageError GetTimeoutError LocalRayletDiedError NodeDiedError ObjectFetchTimedOutError
ObjectFreedError ObjectLostError ObjectReconstructionFailedError ObjectRefStreamEndOfStreamError
ObjectStoreFullError OufOfBandObjectRefSerializationException OutOfDiskError OutOfMemoryError
OwnerDiedError PendingCallsLimitExceeded PlasmaObjectNotAvailable RayActorError
RayCgraphCapacityExceeded RayChannelError RayChannelTimeoutError RayDirectTransportError RayError
RaySystemError RayTaskError ReferenceCountingAssertionError RpcError RuntimeEnvSetupError
StreamingGeneratorReplayInconsistentError TaskCancelledError TaskPlacementGroupRemoved
TaskUnschedulableError UnserializableException UserCodeException WorkerCrashedError
"""


class TestCausesAndClasses:
    def test_a_failed_dependency_surfaces_through_many_tasks(self, tmp_path):
        @ray.remote
        def touch(*_, **__):
            (tmp_path / "ran").touch()

        ref = fail.remote("the origin")
        for _ in range(20):
            ref = touch.remote(1, [2], key=ref)
        with pytest.raises(ValueError, match="the origin"):
            ray.get(ref, timeout=20)
        assert not (tmp_path / "ran").exists()

    def test_every_name_of_ray_s_is_there(self):
        assert not [name for name in RAY_NAMES.split() if name not in exceptions.__all__]

    def test_who_is_who(self):
        assert issubclass(exceptions.GetTimeoutError, TimeoutError)
        assert issubclass(exceptions.RayChannelTimeoutError, (TimeoutError, exceptions.RaySystemError))
        assert issubclass(exceptions.ActorAlreadyExistsError, ValueError)
        assert issubclass(exceptions.ActorDiedError, exceptions.RayActorError)
        assert issubclass(exceptions.OwnerDiedError, exceptions.ObjectLostError)
        errors = [getattr(exceptions, name) for name in exceptions.__all__]
        roots = (exceptions.RayError, TypeError, StopIteration)
        assert all(issubclass(error, roots) for error in errors)

    def test_a_large_exception_keeps_its_class(self):
        @ray.remote
        def fail_at_length():
            raise KeyError("x" * 1_000_000)

        with pytest.raises(KeyError) as caught:
            ray.get(fail_at_length.remote(), timeout=20)
        assert len(caught.value.args[0]) == 1_000_000

    def test_a_class_of_the_program_s_is_the_same_when_it_comes_back(self):
        class Refused(Exception):
            def __init__(self, code, *, hint):
                super().__init__(f"refused with {code}")
                self.code, self.hint = code, hint

        @ray.remote
        def refuse():
            raise Refused(7, hint="try again")

        with pytest.raises(Refused, match="refused with 7") as caught:
            ray.get(refuse.remote(), timeout=20)
        assert (caught.value.code, caught.value.hint) == (7, "try again")

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="except* came with Python 3.11")
    def test_groups_can_be_taken_apart(self):
        @ray.remote
        def fail_in_groups():
            raise ExceptionGroup("both", [ValueError("a"), OSError("b")])  # noqa: F821

        error = fail_in_groups.remote().exception(timeout=20)
        matching, rest = error.split(ValueError)
        assert [str(each) for each in matching.exceptions] == ["a"]
        assert [type(each) for each in rest.exceptions] == [OSError]


class Stop(BaseException):
    """An exception that `except Exception` lets pass."""


@ray.remote
def stop():
    raise Stop("here")


@ray.remote
class Stopper:
    def stop(self):
        raise Stop("there")


@ray.remote
def missing_key():
    error = KeyError("k")
    error.__notes__ = ["look elsewhere"]  # as add_note() does, from Python 3.11 on
    raise error


@ray.remote
def asks(ref):
    return ray.get(ref[0])


class TestErrorsAsTheyWouldBeLocally:
    def test_what_is_no_exception_can_be_caught_all_the_same(self):
        with pytest.raises(Stop, match="here") as caught:
            ray.get(stop.remote())
        assert isinstance(caught.value, ray.exceptions.TaskError) and caught.value.args == ("here",)
        with pytest.raises(Stop, match="there"):
            ray.get(Stopper.remote().stop.remote())

    @pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, asyncio.CancelledError])
    def test_what_steers_the_interpreter_steers_none_but_its_own(self, kind):
        @ray.remote
        def leave():
            raise kind("enough")

        with pytest.raises(ray.exceptions.TaskError, match="enough") as caught:
            ray.get(leave.remote())
        assert not isinstance(caught.value, kind) and type(caught.value.cause) is kind

    def test_the_cause_is_what_was_raised_however_many_tasks_it_came_through(self):
        with pytest.raises(KeyError) as caught:
            ray.get(asks.remote([asks.remote([missing_key.remote()])]))
        assert type(caught.value.cause) is KeyError
        assert str(caught.value).count("[remote: asks") == 2

    def test_notes_arrive(self):
        with pytest.raises(KeyError) as caught:
            ray.get(missing_key.remote())
        assert caught.value.__notes__ == ["look elsewhere"]

    def test_it_can_be_raised_again_as_the_users(self):
        with pytest.raises(ray.exceptions.RayTaskError) as caught:
            ray.get(missing_key.remote())
        assert isinstance(caught.value.as_instanceof_cause(), KeyError)


class TestReferences:
    def test_ids(self):
        first, second = identity.options(num_returns=2).remote([1, 2])
        assert first.task_id() == second.task_id() and first != second
        assert first.task_id().hex() == first.hex()
        assert first.job_id().hex() == ray.get_runtime_context().get_job_id()
        assert not first.is_nil() and re.fullmatch("[0-9a-f]{32}", first.hex())
        assert ray.get(first) == 1

    def test_callbacks_get_values_and_errors(self):
        seen = []
        identity.remote(3)._on_completed(seen.append)
        fail.remote()._on_completed(seen.append)
        until(lambda: len(seen) == 2)
        assert 3 in seen and any(isinstance(value, ValueError) for value in seen)

    def test_a_callback_of_one_that_is_done_is_called_at_once(self):
        ref = identity.remote(1)
        ray.get(ref)
        called = []
        ref.add_done_callback(called.append)
        assert called == [ref] and ref.done()

    def test_in_a_coroutine_as_a_future(self):
        import asyncio

        async def program():
            return await asyncio.wait_for(identity.remote(5).as_future(), 20)

        assert asyncio.run(program()) == 5
