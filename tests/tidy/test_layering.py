"""Imports run one way. A failure here asks not for an entry in a list but for a look at where it belongs."""

from __future__ import annotations

import pytest

from tests.tidy.tree import ROOT, Import, imports_in, imports_of

#: What each layer of orchestrator may import beside itself. `exceptions` lies below all of them.
LAYERS: dict[str, frozenset[str]] = {
    "exceptions": frozenset(),
    "common": frozenset(),
    "objects": frozenset({"common"}),
    "scheduling": frozenset({"common"}),
    "environments": frozenset({"common"}),
    "rpc": frozenset({"common"}),
    "gcs": frozenset({"common", "scheduling", "rpc"}),
    "transfer": frozenset({"common", "objects", "rpc"}),
    "core": frozenset({"common", "objects", "environments"}),
    "gateway": frozenset({"common", "rpc"}),
    "node": frozenset(
        {"common", "objects", "scheduling", "environments", "rpc", "gcs", "transfer", "gateway"}
    ),
    "autoscaler": frozenset({"common", "scheduling", "gcs", "node"}),
    "inline": frozenset({"common", "objects", "core"}),
    "dag": frozenset({"common", "objects", "core"}),
    "api": frozenset({"common", "objects", "environments", "core", "inline", "dag"}),
    # What a program wishes of the autoscaler is a value that the autoscaler's own code writes and reads.
    "util": frozenset({"common", "api", "autoscaler"}),
    "experimental": frozenset({"common", "dag", "api", "util"}),
    "_private": frozenset({"api"}),
    "cli": frozenset({"common", "api", "util"}),
    "__main__": frozenset({"cli"}),
    "testing": frozenset({"common", "objects", "scheduling", "core", "node", "api", "util", "rpc", "gcs"}),
}

#: The places where a process starts another layer's program, or goes in at its door: (file, module).
ENTRY_POINTS = {
    ("orchestrator/node/zygote.py", "orchestrator.core.worker"),
    ("orchestrator/api/session.py", "orchestrator.node.launch"),
    ("orchestrator/api/attached.py", "orchestrator.node.attaching"),
    ("orchestrator/gcs/main.py", "orchestrator.autoscaler.beside_head"),
    ("orchestrator/gcs/main.py", "orchestrator.autoscaler.config"),
    ("orchestrator/gcs/main.py", "orchestrator.autoscaler.files"),
    ("orchestrator/gcs/main.py", "orchestrator.autoscaler.providers"),
    ("orchestrator/autoscaler/sdk.py", "orchestrator.util.scaling"),
    ("orchestrator/cli/sessions.py", "orchestrator.autoscaler.config"),
    ("orchestrator/cli/sessions.py", "orchestrator.autoscaler.files"),
    ("orchestrator/cli/sessions.py", "orchestrator.node.standing"),
    ("orchestrator/cli/sessions.py", "orchestrator.node.founding"),
    ("orchestrator/cluster_utils.py", "orchestrator.node.standing"),
    ("orchestrator/cluster_utils.py", "orchestrator.node.founding"),
    ("orchestrator/cli/state.py", "orchestrator.node.standing"),
}

#: Files of orchestrator that may import plasma. The node process attaches to the store but never serializes:
#: going through the adapter would cost it numpy. Its launcher only asks where the package lies.
PLASMA_DOOR = {
    "orchestrator/objects/plasma_adapter.py",
    "orchestrator/node/daemon.py",
    "orchestrator/node/launch.py",
    "orchestrator/node/store_errors.py",
    "orchestrator/node/supervisor.py",
    # As the node process does.
    "orchestrator/transfer/stores.py",
}

#: Folders and files that do no I/O and know no clock, thread or socket but what they are handed.
PURE = (
    "orchestrator/gateway/directory.py",
    "orchestrator/gateway/directory_away.py",
    "orchestrator/gateway/directory_home.py",
    "orchestrator/gateway/directory_peers.py",
    "orchestrator/gateway/directory_records.py",
    "orchestrator/gateway/frames.py",
    "orchestrator/gateway/handshake.py",
    "orchestrator/gateway/stream.py",
    "orchestrator/scheduling",
    "plasma/eviction.py",
    "orchestrator/rpc/codec.py",
    "orchestrator/rpc/deadlines.py",
    "orchestrator/rpc/join_string.py",
    "orchestrator/gcs/messages.py",
    "orchestrator/gcs/requests.py",
    "orchestrator/gcs/effects.py",
    "orchestrator/gcs/records.py",
    "orchestrator/gcs/nodes.py",
    "orchestrator/gcs/cluster_view.py",
    "orchestrator/gcs/names.py",
    "orchestrator/gcs/jobs.py",
    "orchestrator/gcs/kv.py",
    "orchestrator/gcs/commit_queue.py",
    "orchestrator/gcs/call_book.py",
    "orchestrator/gcs/placement_groups.py",
    "orchestrator/gcs/group_records.py",
    "orchestrator/gcs/bundle_choice.py",
    "orchestrator/gcs/answered.py",
    "orchestrator/gcs/head.py",
    "orchestrator/transfer/addresses.py",
    "orchestrator/gateway/broadcast.py",
    "orchestrator/transfer/chunks.py",
    "orchestrator/transfer/events.py",
    "orchestrator/transfer/pull_manager.py",
    "orchestrator/transfer/pulls.py",
    "orchestrator/transfer/push_manager.py",
    "orchestrator/transfer/wire.py",
    "orchestrator/autoscaler/config.py",
    "orchestrator/autoscaler/demand.py",
    "orchestrator/autoscaler/planner.py",
    "orchestrator/autoscaler/instances.py",
    "orchestrator/autoscaler/reconciler.py",
    "orchestrator/autoscaler/wishes.py",
)
IMPURE_MODULES = {
    "asyncio", "concurrent", "fcntl", "io", "mmap", "multiprocessing", "os", "pathlib", "queue", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "subprocess", "sys", "tempfile", "threading", "time",
    "uuid",
}  # fmt: skip


def layer_of(module: str) -> str | None:
    """``orchestrator.core.pump`` → ``core``; None for the package itself, which may show anything."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def layer_of_file(path: str) -> str | None:
    return layer_of(path.removesuffix(".pyi").removesuffix(".py").replace("/", "."))


def crosses_upwards(found: Import) -> bool:
    here, there = layer_of_file(found.path), layer_of(found.module)
    if here not in LAYERS or there is None or here == there or there == "exceptions":
        return False
    return there not in LAYERS[here] and (found.path, found.module) not in ENTRY_POINTS


def test_plasma_never_imports_orchestrator() -> None:
    wrong = [str(one) for one in imports_in("plasma") if one.module.split(".")[0] == "orchestrator"]
    assert not wrong, "\n".join(wrong)


def test_a_lower_layer_never_imports_a_higher_one() -> None:
    found = [one for one in imports_in("orchestrator") if one.module.split(".")[0] == "orchestrator"]
    wrong = [str(one) for one in found if crosses_upwards(one)]
    assert not wrong, "\n".join(wrong)


def test_every_layer_is_known() -> None:
    folders = {path.parent.name for path in (ROOT / "orchestrator").glob("*/__init__.py")}
    assert folders <= set(LAYERS), f"new layers: say in LAYERS what they may import: {folders - set(LAYERS)}"


def test_few_files_are_the_door_to_plasma() -> None:
    found = [one for one in imports_in("orchestrator") if one.module.split(".")[0] == "plasma"]
    wrong = [str(one) for one in found if one.path not in PLASMA_DOOR]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("place", PURE)
def test_pure_files_know_no_clock_thread_or_socket(place: str) -> None:
    target = ROOT / place
    found = list(imports_of(target)) if target.is_file() else list(imports_in(place))
    assert found, f"{place} has moved"
    wrong = [str(one) for one in found if one.module.split(".")[0] in IMPURE_MODULES]
    assert not wrong, "\n".join(wrong)


def test_the_rule_itself_sees_what_it_forbids() -> None:
    assert crosses_upwards(Import("orchestrator/common/ids.py", 1, "orchestrator.core.pump"))
    assert crosses_upwards(Import("orchestrator/node/daemon.py", 1, "orchestrator.core.worker"))
    assert not crosses_upwards(Import("orchestrator/node/zygote.py", 1, "orchestrator.core.worker"))
    assert not crosses_upwards(Import("orchestrator/core/pump.py", 1, "orchestrator.exceptions"))
