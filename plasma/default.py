"""The process's default store: what ``plasma.put``, ``plasma.get`` and ``plasma.empty`` work on.

A convenience for scripts that use one store. Libraries pass a :class:`Store` along instead.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from plasma.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from plasma.store import Store

__all__ = ["connect", "empty", "get", "put", "use"]


class _Default:
    """The one variable of this module."""

    store: Store | None = None

    def current(self) -> Store:
        if self.store is None or self.store.closed:
            raise UsageError(
                "there is no default store: call plasma.connect(path) or plasma.use(plasma.Store.create())"
            )
        return self.store


_default = _Default()


def use(store: Store | None) -> Store | None:
    """Make ``store`` the default one, or nothing with None.

    Returns the default store before, if there was one.
    """
    _default.store, before = store, _default.store
    return before


def connect(path: str | os.PathLike[str], timeout_s: float = 5.0) -> Store:
    """Attach to the store that is served at ``path``, within ``timeout_s`` seconds.

    It becomes the default store if there is none yet. Raises :class:`NotAStoreError` for anything that isn't
    a living store of this user, :class:`LayoutVersionError` for one of another version.
    """
    from plasma import client

    store = client.connect(path, timeout_s)
    if _default.store is None or _default.store.closed:
        _default.store = store
    return store


def put(value: Any, object_id: bytes | None = None) -> bytes:
    """Store ``value`` in the default store and return its id. See :meth:`Store.put`."""
    return _default.current().put(value, object_id)


def get(object_id: bytes, timeout_s: float | None = None) -> Any:
    """The value of that id, from the default store; waits for it. See :meth:`Store.load`."""
    return _default.current().load(object_id, timeout_s)


def empty(shape: int | tuple[int, ...], dtype: npt.DTypeLike = float) -> np.ndarray[Any, Any]:
    """An array in the default store, to be filled and then :func:`put` without a copy.

    See :mod:`plasma.arrays`.
    """
    return _default.current().empty(shape, dtype)
