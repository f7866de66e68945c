"""A Redis server: for a head that must be replaceable by another machine.

Each table is a hash, `<prefix>:<table>`; a commit is one script, so all of it or nothing. How much a crash of
*Redis* can take back is its own configuration (`appendfsync`).

**One head at a time.** A head that starts takes the number after the last one's, its *term*, and each commit
checks that it is still the newest. So a head that was cut off and replaced cannot write any more; it ends,
saying so.

**When Redis is away** a commit waits and tries again, for ever, and says so: askers wait, and nothing that is
not stored is said. A commit that was done but not answered may safely be done again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from orchestrator.gcs.effects import Write
from orchestrator.gcs.storage import Rows, StorageError
from orchestrator.rpc.deadlines import BackOff, Explainer

PREFIX = "orchestrator:1"
#: At the start nobody waits: whoever starts the head wants to know.
CONNECT_TIMEOUT_S = 5.0
SOCKET_TIMEOUT_S = 10.0

#: KEYS: the term. ARGV: own term, prefix, then (table, key, "1" and value, or "0" and "").
_COMMIT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('REPLACED') end
for i = 3, #ARGV, 4 do
  local place = ARGV[2] .. ':' .. ARGV[i]
  if ARGV[i + 2] == '1' then redis.call('HSET', place, ARGV[i + 1], ARGV[i + 3])
  else redis.call('HDEL', place, ARGV[i + 1]) end
end
return 'OK'
"""


class RedisStorage:
    """Rows in hashes. `?prefix=name` in the URL keeps several clusters apart on one server.

    Args:
        url: as `redis.Redis.from_url` takes it.
        complain: is told that it waits.
        pause: waits for some seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        complain: Callable[[str], None] = lambda text: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        try:
            import redis
        except ImportError:
            text = "storage in Redis needs the package redis: pip install 'plasma-orchestrator[redis]'"
            raise StorageError(text) from None
        self._errors = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.BusyLoadingError)
        self._any_error: type[Exception] = redis.RedisError
        self._complain = complain
        self._pause = pause
        url, self._prefix = _split_prefix(url)
        try:
            self._redis: Any = redis.Redis.from_url(
                url, socket_connect_timeout=CONNECT_TIMEOUT_S, socket_timeout=SOCKET_TIMEOUT_S
            )
        except ValueError as exc:
            raise StorageError(f"{_shown(url)} is no address of a Redis server: {exc}") from None
        self._description = f"Redis, {_shown(url)}"
        try:
            self._term = str(self._redis.incr(f"{self._prefix}:term"))
        except self._any_error as exc:
            self._redis.close()
            raise StorageError(f"{self._description} does not answer as it should: {exc}") from None
        self._script = self._redis.register_script(_COMMIT)

    @property
    def description(self) -> str:
        """Return what it is."""
        return self._description

    def load(self) -> Rows:
        """See `Storage`."""
        out: Rows = {}
        try:
            for name in self._redis.scan_iter(f"{self._prefix}:table:*", count=1000):
                table = name.decode().removeprefix(f"{self._prefix}:table:")
                rows = {key.decode(): value for key, value in self._redis.hgetall(name).items()}
                if rows:
                    out[table] = rows
        except self._any_error as exc:
            raise StorageError(f"{self._description} cannot be read: {exc}") from None
        return out

    def commit(self, writes: Sequence[Write]) -> None:
        """See `Storage`."""
        arguments: list[str | bytes] = [self._term, f"{self._prefix}:table"]
        for table, key, value in writes:
            arguments += [table, key, "0" if value is None else "1", value or b""]
        back_off, explainer = BackOff(random.Random()), Explainer()
        while True:
            try:
                self._script(keys=[f"{self._prefix}:term"], args=arguments)
                return
            except self._errors as exc:
                waited_s = explainer.waiting(time.monotonic())
                if waited_s is not None:
                    self._complain(f"{self._description} has been away for {waited_s:.0f} s: {exc}")
            except self._any_error as exc:
                if "REPLACED" in str(exc):
                    text = f"another head has taken over {self._description}: this one ends"
                    raise StorageError(text) from None
                raise StorageError(f"{self._description} cannot be written: {exc}") from None
            self._pause(back_off.next_s())

    def close(self) -> None:
        """See `Storage`."""
        self._redis.close()


def _split_prefix(url: str) -> tuple[str, str]:
    """Return the URL without our own `prefix=`, and the prefix of all keys."""
    base, mark, query = url.partition("?")
    options = [option for option in query.split("&") if option]
    names = [option.partition("=")[2] for option in options if option.startswith("prefix=")]
    others = [option for option in options if not option.startswith("prefix=")]
    prefix = f"{PREFIX}:{names[-1]}" if names else PREFIX
    return base + (mark + "&".join(others) if others else ""), prefix


def _shown(url: str) -> str:
    """Return a URL without a password."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.rpartition("@")[2]
