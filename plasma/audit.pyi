from typing import NamedTuple

class Audit(NamedTuple):
    """What ``Store.audit`` found. ``problems`` is empty in a sound store."""

    ok: bool
    problems: list[str]
    objects: int
    channels: int
    clients: int
    bytes_used: int
    bytes_free: int
    pins: int
    refs: int
