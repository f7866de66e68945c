"""Constants of the runtime, each with the reason for its value."""

from __future__ import annotations

#: A value up to this size travels inside a message. A message may hold 128 KiB; the rest is
#: room for the envelope. Above it one copy into shared memory is cheaper than two through a ring.
INLINE_BYTES_MAX = 100 * 1024

#: A task with so many bytes of arguments on one node runs there if it can. To send less takes about as long
#: as to ask another node for a worker.
LOCALITY_BYTES_MIN = 1 << 20

#: Functions and classes up to this size stay in memory when the store is full: each worker needs them again.
RESIDENT_BYTES_MAX = 1024 * 1024

#: The longest message that is sent as it is. Leaves room for inline values of the full size and an envelope.
MESSAGE_BYTES_MAX = 120 * 1024

#: str and bytes below this are kept as they are by `put`: they are immutable, and comparing
#: nothing is faster than unpickling. Above it the copy is worth having out of the heap's way.
PLAIN_TEXT_MAX = 1024

#: Work to keep in flight to one worker. A worker's round trip is about 20 µs, so a millisecond hides
#: it fifty times over, and a task never waits longer than this behind others that could be elsewhere.
PIPELINE_US = 1000

#: What a function is assumed to take before its first run: the whole pipeline, so one at a time.
UNKNOWN_COST_US = 1000

#: The least a task is assumed to take. Bounds the tasks in flight to one worker to PIPELINE_US / 4.
COST_MIN_US = 4

#: An estimate follows its function within a handful of runs, and one slow run does not own it.
EWMA_WEIGHT = 0.25

#: A lease without work is kept this long: the next task then needs no word with the node.
LEASE_IDLE_S = 0.2

#: The same for a task's own leases. Its process is one of many, and what it keeps its children's
#: children may be waiting for; still long enough for a loop of calls.
NESTED_LEASE_IDLE_S = 0.005

#: After the node has said that others wait, a lease is given back as soon as it is idle, for this long.
CONTENDED_S = 0.2

#: How often leases with more than one task in flight are compared with idle ones.
REBALANCE_S = 0.005

#: A worker gives its CPU back when a `get` has not returned after this. Shorter waits are
#: cheaper to sit out than to announce.
BLOCKED_AFTER_S = 0.001

#: A wait without a limit that takes this long is told to the node, which looks for circles.
LONG_WAIT_S = 0.5

#: The tick of the background thread: the longest a dead node process stays unnoticed.
TICK_S = 1.0

#: While messages arrive, the background thread collects them this often rather than waking for
#: each: a thread that wants the interpreter lock slows the one that submits.
COLLECT_S = 0.001

#: What that time grows to while other threads read.
COLLECT_MAX_S = 0.008

#: The setting for how many seconds a demand may want what no node of a cluster has; unset: for ever.
INFEASIBLE_AFTER = "INFEASIBLE_AFTER_S"

#: A task that could not be placed for this long is explained in one warning.
UNPLACED_WARNING_S = 10.0

#: A pickled function above the first is warned about (it is usually captured data), above the second refused.
FUNCTION_BYTES_WARN = 10 * 1024 * 1024
FUNCTION_BYTES_MAX = 100 * 1024 * 1024
#: A function of another node that is said to be gone is asked for again, after each of these pauses.
FUNCTION_PAUSES_S = (0.02, 0.2, 1.0)

#: Calls in flight of an actor with an `async def` method, as in Ray.
ASYNC_CONCURRENCY = 1000

#: What an actor's shutdown hook and exit handlers may take, as in Ray.
SHUTDOWN_HOOK_TIMEOUT_S = 30.0

#: Re-executions after a worker's death, as in Ray.
MAX_RETRIES = 3

#: Runs a process remembers for the state API: at 250 bytes each, 2.5 MiB.
HISTORY_MAX = 10_000

#: What specs of finished tasks may take, so that lost results can be made again: as in Ray.
LINEAGE_BYTES_MAX = 1 << 30

#: Specs of objects that are gone linger until so many bytes of new ones have come, or as many as are in use.
LINEAGE_PURGE_BYTES = 4 << 20

#: The same after a worker was killed for want of memory: a budget of its own, without end, as in Ray. The
#: node kills no task again before the memory is there, so such a loop makes progress.
OOM_RETRIES = -1

#: An exception that is larger, with what it carries, arrives as its text.
ERROR_BYTES_MAX = 16 * 1024 * 1024

#: How long a task that ignores the interrupt of its `timeout_s` may go on before its process ends.
TIMEOUT_GRACE_S = 1.0

#: A function of one name exported more often than this is most likely defined in a loop.
EXPORTS_WARN = 100

#: Waiting for room in a store that is full: what is released anyway goes within milliseconds, and
#: somebody who holds on to everything should hear of it at once.
STORE_FULL_TIMEOUT_S = 1.0

#: How long a named actor's look-up, a resource query or an actor's creation may take to answer.
NODE_ANSWER_TIMEOUT_S = 60.0
