from typing import Any

class StoreLink:
    """Where holds find the store. Cut (``store = None``) when that is closed: what a user still has keeps no memory."""

    store: Any
    def __init__(self, store: Any) -> None: ...

class Hold:
    """One reference of this process to an object in the store, taken before; given back when this goes."""

    @property
    def link(self) -> StoreLink: ...
    @property
    def object_id(self) -> bytes: ...
    def __init__(self, link: StoreLink, object_id: bytes) -> None: ...
    def __del__(self) -> None: ...

class Handle:
    """Base of what a program holds for an object: no more than a `Hold`, until somebody looks into it.

    A subclass has ``__slots__ = ()``, and ``_open(hold)``, which returns what is to be known of the object. It may refer
    to the handle only for a while, as the collector would not find such a circle.
    """

    _entry: Any
    _runtime: Any
    def __init__(self, known: Any, runtime: Any) -> None: ...

def handles() -> list[Handle]:
    """Return all handles of this process."""
