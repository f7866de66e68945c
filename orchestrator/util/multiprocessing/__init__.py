"""`multiprocessing.Pool` whose processes are actors."""

from __future__ import annotations

from orchestrator.util.multiprocessing.pool import Pool
from orchestrator.util.multiprocessing.results import AsyncResult, IMapIterator, TimeoutError

__all__ = ["AsyncResult", "IMapIterator", "Pool", "TimeoutError"]
