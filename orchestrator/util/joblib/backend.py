"""The backend: joblib's batches as tasks.

Code written for joblib's own backends may write to the arrays it gets, unless they are large. So a batch
travels as one pickle, and what comes out of that is ordinary memory; only arrays larger than joblib's
`max_nbytes` (1 MB) are shared, read-only, as with its memory maps. Such an array is stored once for all
batches of a call, however many of them have it among their arguments.

`mmap_mode` means what it means to joblib: "r" read-only, "c" writable, each process for itself, None not
shared.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
from joblib.parallel import AutoBatchingMixin, ParallelBackendBase, SequentialBackend

from orchestrator.api.context import cluster_resources
from orchestrator.api.executor import Executor, TaskFuture
from orchestrator.api.getting import get, put
from orchestrator.api.object_ref import ObjectRef

try:
    from joblib.parallel import FallbackToBackend
except ImportError:
    from joblib._parallel_backends import FallbackToBackend

#: Arrays of this size and more are shared rather than copied, as by joblib itself.
MAX_NBYTES = 1 << 20


class SessionBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]
    """What `joblib.parallel_backend("ray")` stands for.

    Args:
        nesting_level: how deep it is inside other parallel calls; joblib's business.
        ray_remote_args: options of the tasks, like `{"num_cpus": 2}`.

    Raises:
        ValueError: on a call of `Parallel`: `n_jobs` is 0, or `mmap_mode` wants what the store cannot give.
    """

    supports_retrieve_callback = True

    def __init__(
        self,
        nesting_level: int | None = None,
        ray_remote_args: dict[str, Any] | None = None,
        **others: Any,
    ) -> None:
        super().__init__(nesting_level=nesting_level, **others)
        self._options = dict(ray_remote_args or {})
        self._max_nbytes: int | None = MAX_NBYTES
        self._writable = False
        self._executor: Executor | None = None
        self._shared = _Shared(MAX_NBYTES)
        self._n_jobs = 1

    # -- what joblib calls

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return how many batches can run at once: -1 is as many as the session has CPUs."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        if n_jobs > 0:
            return n_jobs
        return max(int(cluster_resources().get("CPU", 1)) + 1 + n_jobs, 1)

    def configure(
        self,
        n_jobs: int = 1,
        parallel: Any = None,
        max_nbytes: int | None = MAX_NBYTES,
        mmap_mode: str | None = "r",
        **others: Any,
    ) -> int:
        """Make ready for a call of `Parallel`."""
        if mmap_mode not in ("r", "c", None):
            raise ValueError(f"mmap_mode {mmap_mode!r}: shared arrays are immutable; take 'r', 'c' or None")
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        self.parallel = parallel
        self._n_jobs = n_jobs
        self._max_nbytes = None if mmap_mode is None else max_nbytes
        self._writable = mmap_mode == "c"
        self._shared = _Shared(self._max_nbytes)
        self._executor = Executor(n_jobs, **self._options)
        return n_jobs

    def submit(
        self, func: Callable[[], Any], callback: Callable[[Any], Any] | None = None
    ) -> TaskFuture[bytes]:
        """Run a batch; call `callback(future)` when it is over."""
        assert self._executor is not None
        blob, refs = self._shared.dump(func)
        future = self._executor.submit(_run_batch, blob, refs, self._writable)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    apply_async = submit

    def retrieve_result_callback(self, out: TaskFuture[bytes]) -> Any:
        """Return what a batch gave."""
        return pickle.loads(out.result())

    def stop_call(self) -> None:
        """A call of `Parallel` is over: the arrays it shared are let go."""
        self._shared = _Shared(self._max_nbytes)

    def terminate(self) -> None:
        """Joblib needs this backend no more."""
        if self._executor is not None:
            self._executor.shutdown(wait=False)
            self._executor = None
        self.stop_call()
        self.reset_batch_stats()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """A call has failed: what has not begun never does."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = Executor(self._n_jobs, **self._options) if ensure_ready else None


class _Shared:
    """The large arrays of one call of `Parallel`, each stored once."""

    def __init__(self, max_nbytes: int | None) -> None:
        self._max_nbytes = max_nbytes
        #: arrays and their references by identity; the array is kept so that its identity stays its own
        self._stored: dict[int, tuple[np.ndarray[Any, Any], ObjectRef[Any]]] = {}

    def dump(self, value: Any) -> tuple[bytes, list[ObjectRef[Any]]]:
        """Pickle a value, with its large arrays left out; return the bytes and the references of those."""
        stream = io.BytesIO()
        pickler = _Pickler(stream, self)
        pickler.dump(value)
        return stream.getvalue(), pickler.refs

    def store(self, value: Any) -> ObjectRef[Any] | None:
        """Return the reference of a large array; None for anything else."""
        if self._max_nbytes is None or type(value) is not np.ndarray:
            return None
        if value.nbytes < self._max_nbytes or value.dtype.hasobject:
            return None
        known = self._stored.get(id(value))
        if known is None:
            known = self._stored[id(value)] = value, put(value)
        return known[1]


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, stream: io.BytesIO, shared: _Shared) -> None:
        super().__init__(stream, protocol=pickle.HIGHEST_PROTOCOL)
        self._shared = shared
        self.refs: list[ObjectRef[Any]] = []

    def persistent_id(self, value: Any) -> int | None:
        """Leave a large array out: its place among the references stands for it."""
        ref = self._shared.store(value)
        if ref is None:
            return None
        self.refs.append(ref)
        return len(self.refs) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, blob: bytes, refs: list[ObjectRef[Any]], writable: bool) -> None:
        super().__init__(io.BytesIO(blob))
        self._refs = refs
        self._writable = writable

    def persistent_load(self, place: int) -> Any:
        return get(self._refs[place], writable=self._writable)


def _run_batch(blob: bytes, refs: list[ObjectRef[Any]], writable: bool) -> bytes:
    """Run a batch in a worker."""
    batch = _Unpickler(blob, refs, writable).load()
    return cloudpickle.dumps(batch())  # type: ignore[no-any-return]
