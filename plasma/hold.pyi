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
