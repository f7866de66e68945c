"""How actors end: handles that go, exits from inside, hooks, and what is found of them afterwards."""

from __future__ import annotations

import abc
import asyncio
import os
import signal
import sys

import pytest

import orchestrator as ray
from orchestrator.api.named_actors import list_named_actors
from orchestrator.common.options import actor_resources
from orchestrator.exceptions import (
    ActorDiedError,
    ActorError,
    ActorHandleNotFoundError,
    ActorUnavailableError,
    RayActorError,
    SessionError,
)
from tests.waiting import until

pytestmark = pytest.mark.usefixtures("shared_session")


def gone(pid):
    return not os.path.exists(f"/proc/{pid}")


@ray.remote
class Closer:
    """Leaves a note for each thing that happens at its end."""

    def __init__(self, folder):
        import atexit

        self.folder = folder
        atexit.register((folder / "exit handler").touch)

    def __ray_shutdown__(self):
        (self.folder / "hook").touch()

    def pid(self):
        return os.getpid()

    def leave(self):
        ray.exit_actor()

    def sys_exit(self, code):
        sys.exit(code)

    def wait(self, gate):
        until(gate.exists)
        return "finished"

    def notes(self):
        return sorted(os.listdir(self.folder))


BOTH = ["exit handler", "hook"]


class TestHooks:
    def test_when_the_last_handle_goes(self, tmp_path):
        closer = Closer.remote(tmp_path)
        pid = ray.get(closer.pid.remote())
        del closer
        until(lambda: gone(pid))
        assert sorted(os.listdir(tmp_path)) == BOTH

    def test_when_it_is_asked_to_terminate_after_what_was_called_before(self, tmp_path):
        closer = Closer.remote(tmp_path)
        pid = ray.get(closer.pid.remote())
        waiting = closer.wait.remote(tmp_path / "go")
        ending = closer.__ray_terminate__.remote()
        (tmp_path / "go").touch()
        assert ray.get(waiting, timeout=20) == "finished"
        with pytest.raises(ActorDiedError, match="asked to terminate"):
            ray.get(ending, timeout=20)
        until(lambda: gone(pid))
        assert sorted(os.listdir(tmp_path)) == ["exit handler", "go", "hook"]

    @pytest.mark.parametrize("way", ["exit_actor", "sys.exit"])
    def test_when_a_method_ends_it(self, tmp_path, way):
        closer = Closer.remote(tmp_path)
        pid = ray.get(closer.pid.remote())
        ending = closer.leave.remote() if way == "exit_actor" else closer.sys_exit.remote(3)
        later = closer.pid.remote()
        for ref in (ending, later):
            with pytest.raises(ActorDiedError, match=way):
                ray.get(ref, timeout=20)
        until(lambda: gone(pid))
        assert sorted(os.listdir(tmp_path)) == BOTH

    def test_at_the_end_of_a_with_block(self, tmp_path):
        with Closer.remote(tmp_path) as closer:
            pid = ray.get(closer.pid.remote())
        with pytest.raises(ActorDiedError):
            ray.get(closer.pid.remote(), timeout=20)
        until(lambda: gone(pid))
        assert sorted(os.listdir(tmp_path)) == BOTH

    def test_not_when_it_is_killed(self, tmp_path):
        closer = Closer.remote(tmp_path)
        pid = ray.get(closer.pid.remote())
        ray.kill(closer)
        until(lambda: gone(pid))
        assert os.listdir(tmp_path) == []

    def test_a_hook_that_raises_stops_nothing(self, tmp_path):
        @ray.remote
        class Faulty:
            def __ray_shutdown__(self):
                (tmp_path / "ran").touch()
                raise RuntimeError("in the hook")

            def pid(self):
                return os.getpid()

        faulty = Faulty.options(name="faulty").remote()
        pid = ray.get(faulty.pid.remote())
        faulty.__ray_terminate__.remote()
        until(lambda: gone(pid))
        assert (tmp_path / "ran").exists()
        with pytest.raises(ActorDiedError, match="asked to terminate"):
            ray.get(faulty.pid.remote(), timeout=20)

    @pytest.mark.parametrize("kind", ["async", "threaded"])
    def test_calls_under_way_are_finished_first(self, tmp_path, kind):
        @ray.remote
        class Async:
            async def wait(self):
                (tmp_path / "began").touch()
                while not (tmp_path / "go").exists():
                    await asyncio.sleep(0.005)
                return "finished"

            async def leave(self):
                (tmp_path / "go").touch()
                ray.exit_actor()

            async def __ray_shutdown__(self):
                (tmp_path / "hook").touch()

        @ray.remote(max_concurrency=2)
        class Threaded:
            def wait(self):
                (tmp_path / "began").touch()
                until((tmp_path / "go").exists)
                return "finished"

            def leave(self):
                (tmp_path / "go").touch()
                ray.exit_actor()

            def __ray_shutdown__(self):
                (tmp_path / "hook").touch()

        actor = Async.remote() if kind == "async" else Threaded.remote()
        waiting = actor.wait.remote()
        until((tmp_path / "began").exists)
        with pytest.raises(ActorDiedError, match="exit_actor"):
            ray.get(actor.leave.remote(), timeout=20)
        assert ray.get(waiting, timeout=20) == "finished"
        until((tmp_path / "hook").exists)

    @pytest.mark.parametrize("killed", [False, True])
    def test_its_child_processes_go_with_it(self, killed):
        @ray.remote
        class Parent:
            def start(self):
                import subprocess

                self.child = subprocess.Popen(["sleep", "1000"])
                return self.child.pid

        parent = Parent.remote()
        child = ray.get(parent.start.remote())
        if killed:
            ray.kill(parent)
        del parent
        until(lambda: gone(child))

    def test_exit_actor_is_for_actors(self):
        with pytest.raises(TypeError, match="inside an actor"):
            ray.exit_actor()


class TestHandles:
    def test_one_in_another_process_keeps_the_actor(self, tmp_path):
        closer = Closer.remote(tmp_path)
        pid = ray.get(closer.pid.remote())

        @ray.remote
        class Keeper:
            def keep(self, boxed):
                self.kept = boxed[0]

            def use(self):
                return ray.get(self.kept.pid.remote())

            def drop(self):
                del self.kept

        keeper = Keeper.remote()
        ray.get(keeper.keep.remote([closer]))
        del closer
        assert ray.get(keeper.use.remote()) == pid and not gone(pid)
        ray.get(keeper.drop.remote())
        until(lambda: gone(pid))

    def test_one_that_dies_with_its_process_counts_no_more(self, tmp_path):
        closer = Closer.remote(tmp_path)
        pid = ray.get(closer.pid.remote())

        @ray.remote
        class Keeper:
            def keep(self, boxed):
                self.kept = boxed[0]
                return os.getpid()

        keeper = Keeper.remote()
        other = ray.get(keeper.keep.remote([closer]))
        del closer
        os.kill(other, signal.SIGKILL)
        until(lambda: gone(pid))

    def test_one_inside_an_object_keeps_the_actor(self, tmp_path):
        closer = Closer.remote(tmp_path)
        pid = ray.get(closer.pid.remote())
        boxed = ray.put([closer])
        del closer
        assert ray.get(ray.get(boxed)[0].pid.remote()) == pid
        del boxed
        until(lambda: gone(pid))

    def test_an_actor_goes_with_the_process_that_created_it(self, tmp_path):
        @ray.remote
        class Parent:
            def __init__(self):
                self.child = Closer.remote(tmp_path)

            def pids(self):
                return os.getpid(), ray.get(self.child.pid.remote())

            def child_handle(self):
                return self.child

        parent = Parent.remote()
        own, child = ray.get(parent.pids.remote())
        handle = ray.get(parent.child_handle.remote())
        os.kill(own, signal.SIGKILL)
        until(lambda: gone(child))
        with pytest.raises(ActorDiedError, match="created it is gone"):
            ray.get(handle.pid.remote(), timeout=20)

    def test_the_id_decides_about_equality(self, tmp_path):
        closer = Closer.options(name="same").remote(tmp_path)
        assert {closer, ray.get_actor("same")} == {closer}
        assert closer != Closer.remote(tmp_path)


class TestNames:
    def test_are_listed_by_namespace(self, tmp_path):
        here = Closer.options(name="here").remote(tmp_path)
        there = Closer.options(name="there", namespace="elsewhere").remote(tmp_path)
        assert "here" in list_named_actors() and "there" not in list_named_actors()
        everywhere = list_named_actors(all_namespaces=True)
        assert {"namespace": "elsewhere", "name": "there"} in everywhere
        assert ray.get_actor("there", namespace="elsewhere") == there
        with pytest.raises(ValueError, match="no actor named 'there'"):
            ray.get_actor("there")
        ray.kill(here)
        until(lambda: "here" not in list_named_actors())

    def test_a_name_and_namespace_are_not_empty(self):
        with pytest.raises(ValueError, match="must not be empty"):
            Closer.options(name="")
        with pytest.raises(ValueError, match="non-empty"):
            ray.get_actor("")

    def test_get_if_exists_looks_at_the_name_only(self, tmp_path):
        first = Closer.options(name="single").remote(tmp_path)
        again = Closer.options(name="single", get_if_exists=True, num_cpus=1000, max_restarts=3)
        assert again.remote("other argument") == first
        with pytest.raises(ValueError, match="needs a name"):
            Closer.options(get_if_exists=True)

    def test_many_who_ask_at_once_get_the_same_actor(self, tmp_path):
        @ray.remote(num_cpus=0)
        def ask():
            actor = Closer.options(name="race", get_if_exists=True, lifetime="detached").remote(tmp_path)
            return ray.get(actor.pid.remote())

        assert len(set(ray.get([ask.remote() for _ in range(8)], timeout=60))) == 1
        ray.kill(ray.get_actor("race"))


def test_a_named_actor_is_created_without_waiting_for_room(tmp_path):
    holder = Closer.options(num_cpus=2).remote(tmp_path)
    ray.get(holder.pid.remote())
    waiting = Closer.options(name="waiting for room", num_cpus=2).remote(tmp_path)
    assert ray.get_actor("waiting for room") == waiting, "it is known at once"
    call = waiting.pid.remote()
    assert ray.wait([call], timeout=0.1)[0] == []
    ray.kill(holder)
    assert ray.get(call, timeout=20) > 0


class TestErrors:
    def test_of_every_handle_name_the_constructor_that_failed(self):
        @ray.remote
        class Broken:
            def __init__(self):
                raise ZeroDivisionError("no way")

            def method(self):
                pass

        broken = Broken.remote()

        @ray.remote
        def elsewhere(boxed):
            try:
                ray.get(boxed[0].method.remote())
            except ActorDiedError as error:
                return error.actor_init_failed, str(error)

        init_failed, text = ray.get(elsewhere.remote([broken]), timeout=20)
        assert init_failed and "no way" in text
        with pytest.raises(ActorDiedError, match="no way") as caught:
            ray.get(broken.method.remote(), timeout=20)
        assert caught.value.actor_init_failed and caught.value.actor_id == broken._orchestrator_id.hex()

    def test_have_rays_names_and_order(self):
        assert RayActorError is ActorError
        assert issubclass(ActorDiedError, RayActorError) and issubclass(ActorUnavailableError, RayActorError)
        assert issubclass(ActorHandleNotFoundError, (SessionError, ValueError))


class TestClasses:
    def test_an_abstract_class_is_refused_at_once(self):
        @ray.remote
        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...

        class Square(Shape):
            def area(self):
                return 4

        with pytest.raises(TypeError, match="Shape is abstract: it does not define area"):
            Shape.remote()
        assert ray.get(Square.remote().area.remote()) == 4

    def test_class_and_static_methods(self):
        @ray.remote
        class Made:
            label = "made"

            @classmethod
            def name(cls):
                return cls.label

            @staticmethod
            def double(x):
                return 2 * x

        assert (Made.name(), Made.double(2)) == ("made", 4)
        made = Made.remote()
        assert ray.get([made.name.remote(), made.double.remote(4)]) == ["made", 8]

    def test_a_subclass_may_override_and_call_super_and_has_its_own_options(self):
        @ray.remote(max_concurrency=2)
        class Base:
            def __init__(self, x):
                self.x = x

            def value(self):
                return self.x

        @ray.remote
        class Derived(Base):
            def __init__(self, x):
                super().__init__(10 * x)

            def value(self):
                return super().value() + 1

        assert ray.get(Derived.remote(2).value.remote()) == 21
        assert Derived(2).value() == 21

    def test_its_repr_marks_what_it_prints(self, capfd):
        @ray.remote
        class Model:
            def __init__(self, index):
                self.index = index

            def __repr__(self):
                return f"Model(index={self.index})"

            def speak(self):
                print("a line")

        models = [Model.remote(index) for index in range(2)]
        ray.get([model.speak.remote() for model in models])
        printed = []
        until(lambda: printed.append(capfd.readouterr().out) or "".join(printed).count("a line") == 2)
        for index in range(2):
            assert f"(Model(index={index}) pid=" in "".join(printed)


class TestResources:
    def test_without_any_it_holds_none_with_some_it_holds_them_for_life(self, tmp_path):
        def held_by(**options):
            actor = Closer.options(**options).remote(tmp_path)
            ray.get(actor.pid.remote())
            return ray.get(actor.__ray_call__.remote(assigned))

        def assigned(self):
            return ray.get_runtime_context().get_assigned_resources()

        assert held_by() == {}
        assert held_by(num_cpus=0.5) == {"CPU": 0.5}
        assert held_by(num_cpus=0) in ({}, {"CPU": 0.0})

    def test_any_that_is_named_makes_it_hold_a_cpu_but_memory_does_not(self):
        def held(**options):
            return actor_resources(options)[1].to_floats()

        assert held(num_gpus=1) == {"CPU": 1.0, "GPU": 1.0}
        assert held(resources={"disk": 2}) == {"CPU": 1.0, "disk": 2.0}
        assert held(memory=1 << 20) == {"memory": float(1 << 20)}
        assert actor_resources({})[0].to_floats() == {"CPU": 1.0}, "to be placed"
