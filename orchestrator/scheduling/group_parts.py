"""What the head of a cluster has had this node reserve of placement groups that lie on several nodes.

The head reserves a group in *attempts*; what an attempt puts on this node is a *part*: some of the group's
bundles, by their index there. Each bundle becomes an account of its own (`accounts`).

    (none) ──prepare, room──▶ PREPARED ──commit──▶ COMMITTED
      │                           └────────┬───────────┘
      └── none for long: refused           └──release──▶ (gone, and remembered)

While PREPARED the resources are taken and nothing can run there: the group may still be rolled back, and then
was never used. What the head says it may say again, after its own restart or this node's silence. So each
step may be repeated, and an attempt that was released is refused for good: a prepare that was overtaken by
its own release must not reserve what nobody would ever free.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from orchestrator.common.resources import ResourceSet
from orchestrator.scheduling.accounts import Account

#: Attempts of which it is still known that they were released.
RELEASED_MAX = 10_000


class _Part(NamedTuple):
    #: By the bundle's index in the group.
    accounts: dict[int, Account]
    is_committed: bool


class GroupParts:
    """See the module's text.

    Args:
        root: the node's account, from which the bundles are taken.
    """

    def __init__(self, root: Account) -> None:
        self._root = root
        #: Group to attempt to part.
        self._parts: dict[str, dict[int, _Part]] = {}
        self._released: dict[tuple[str, int], None] = {}

    def prepare(self, group: str, attempt: int, bundles: dict[int, ResourceSet]) -> str:
        """Reserve bundles; return why that cannot be, or "" when they are reserved (already)."""
        if (group, attempt) in self._released:
            return "this attempt was given up before"
        if attempt in self._parts.get(group, {}):
            return ""
        accounts = self._root.split(list(bundles.values()))
        if accounts is None:
            needs = ", ".join(map(str, bundles.values()))
            names = {name for bundle in bundles.values() for name in bundle}
            return f"its bundles need {needs}, and {self._root.available.within(names)} is free"
        part = _Part(dict(zip(bundles, accounts, strict=True)), False)
        self._parts.setdefault(group, {})[attempt] = part
        return ""

    def commit(self, group: str, attempt: int) -> None:
        """Let what was prepared be used."""
        part = self._parts.get(group, {}).get(attempt)
        if part is not None:
            self._parts[group][attempt] = part._replace(is_committed=True)

    def release(self, group: str, attempt: int) -> list[Account]:
        """Give back what is free in a part; return its accounts, as something may still be taken there."""
        self._released[group, attempt] = None
        if len(self._released) > RELEASED_MAX:
            del self._released[next(iter(self._released))]
        part = self._parts.get(group, {}).pop(attempt, None)
        if part is None:
            return []
        if not self._parts[group]:
            del self._parts[group]
        for account in part.accounts.values():
            self._root.merge(account)
        return list(part.accounts.values())

    def accounts_of(self, group: str, bundle: int) -> list[Account]:
        """Return what may be used here of one bundle of a group; of all, if that is -1."""
        return [
            account
            for part in self._parts.get(group, {}).values()
            if part.is_committed
            for index, account in part.accounts.items()
            if bundle in (-1, index)
        ]

    def __iter__(self) -> Iterator[Account]:
        """The accounts of all parts, whether they may be used yet or not."""
        for attempts in self._parts.values():
            for part in attempts.values():
                yield from part.accounts.values()

    def validate(self) -> None:
        """Check every invariant; `AssertionError` with the culprit."""
        for group, attempts in self._parts.items():
            assert attempts, group
            committed = [i for part in attempts.values() if part.is_committed for i in part.accounts]
            assert len(committed) == len(set(committed)), f"{group}: a bundle is here twice"
            for attempt, part in attempts.items():
                assert part.accounts and (group, attempt) not in self._released, (group, attempt)
