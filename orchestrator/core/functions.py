"""Functions and classes on their way to the workers: exported once, imported once.

A function is pickled by value, with what it captures, the first time it is submitted in a
session; later changes of what it captured are not seen. The pickle is an object of the store under a
hash of its bytes, so that equal functions are stored once whoever exports them.
"""

from __future__ import annotations

import time
import warnings
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from orchestrator import exceptions
from orchestrator.common import config
from orchestrator.common.ids import content_id
from orchestrator.core.part import Part
from orchestrator.objects import plasma_adapter as objects
from orchestrator.objects.plasma_adapter import Hold

if TYPE_CHECKING:
    from orchestrator.core.references import References
    from orchestrator.objects.plasma_adapter import Store


class Functions(Part):
    """The functions and classes this process has exported or imported in this session."""

    def __init__(self, store: Store, references: References, here: int = 0) -> None:
        self._store = store
        self._references = references
        #: index of this node, which is part of a function's id
        self._here = here
        #: brings an object of another node here and returns its buffer; see lineage.py
        self.fetch: Callable[[bytes], Any] | None = None
        self._keys: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
        #: those of which the head's node keeps account
        self._keys_abroad: weakref.WeakKeyDictionary[Any, bytes] = weakref.WeakKeyDictionary()
        self._holds: dict[bytes, Hold] = {}
        self._imported: dict[bytes, Any] = {}
        #: how often something of this name was pickled
        self._exports: dict[str, int] = {}

    def export(self, function: Any, name: str, home: int = 0) -> bytes:
        """Store a function or class and return its key.

        `home`: the node that is to keep account of it; this one unless given. It then has to be entrusted.

        Raises:
            SerializationError: it captures something that cannot be pickled; the text has the path.
            ValueError: it is larger than 100 MB pickled.
        """
        home = home or self._here
        keys = self._keys if home == self._here else self._keys_abroad
        key = keys.get(function)
        if key is not None:
            return key
        gathering = self._references.gathering
        outer, gathering.met = gathering.met, []
        try:
            serialized = objects.encode(function, name)
            captured = [entry.hold.object_id for entry in gathering.met]
        finally:
            gathering.met = outer
        blob = serialized.to_bytes()
        if len(blob) > config.FUNCTION_BYTES_MAX:
            raise ValueError(
                f"{name} is {len(blob) >> 20} MiB pickled, more than {config.FUNCTION_BYTES_MAX >> 20}: "
                "pass large data as arguments or put() it, rather than capturing it"
            )
        if len(blob) > config.FUNCTION_BYTES_WARN:
            warnings.warn(
                f"{name} is {len(blob) >> 20} MiB pickled: put() large data instead of capturing it",
                stacklevel=3,
            )
        key = content_id(blob, home)
        self._store_once(key, blob, captured)
        keys[function] = key
        self._count_export(name)
        return key

    def _count_export(self, name: str) -> None:
        count = self._exports[name] = self._exports.get(name, 0) + 1
        if count == config.EXPORTS_WARN + 1:
            warnings.warn(
                f"{name} has been exported {count} times: a function or class that is defined in a loop is "
                "pickled each time. Define it once, and pass what changes as arguments.",
                stacklevel=4,
            )

    def known(self) -> list[bytes]:
        """Return the keys of what was exported or imported here."""
        return [*self._holds, *self._imported]

    def _store_once(self, key: bytes, blob: bytes, captured: list[bytes]) -> None:
        if key in self._holds:
            return
        if not self._store.add_ref(key):
            try:
                small = len(blob) <= config.RESIDENT_BYTES_MAX
                objects.put_parts(self._store, key, [blob], captured, resident=small)
            except objects.ObjectExistsError:
                self._store.add_ref(key)
        self._holds[key] = Hold(self._references.link, key)

    def load(self, key: bytes) -> Any:
        """Return the function of a key.

        Raises:
            ObjectLostError: the process that exported it is gone.
        """
        function = self._imported.get(key)
        if function is None:
            # From a copy: what a pickle refers to would pin the object for the function's life.
            function = objects.deserialize(bytes(memoryview(self._bytes_of(key))))
            self._imported[key] = function
        return function

    def _bytes_of(self, key: bytes) -> Any:
        if self.fetch is None or not self._references.is_foreign(key):
            try:
                # Of a detached actor's class the bytes may be on their way here.
                return self._store.get(key, timeout_s=10.0 if self._here else 1.0)
            except objects.PlasmaError as error:
                raise _gone(key, error) from None
        # A key is made of the content, not of who has exported it. So what is heard here may be about an
        # object of this key that went with its process, or a copy that just goes, while whoever sent the
        # function has stored it again: only what is heard again after a while is about that.
        for pause_s in config.FUNCTION_PAUSES_S:
            try:
                return self.fetch(key)
            except (objects.PlasmaError, exceptions.ObjectLostError):
                pass
            time.sleep(pause_s)
        try:
            return self.fetch(key)
        except (objects.PlasmaError, exceptions.ObjectLostError) as error:
            raise _gone(key, error) from None


def _gone(key: bytes, error: Exception) -> exceptions.ObjectLostError:
    return exceptions.ObjectLostError(f"function {key.hex()} is gone with the process that had it ({error})")
