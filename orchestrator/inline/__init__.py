"""`init(mode="inline")`: a session inside the calling process, for debugging and for tests.

Everything runs here and in program order: a task at its `.remote()`, a plain actor's method at its call, a
generator up to the item that is asked for. A breakpoint stops, a profiler sees all, a traceback
goes from the driver's line into the task's.

**The seam.** The layer `api` knows a `Runtime` and its parts. This package is another implementation
of both, chosen once, by `init`; nothing asks for the mode at a call.

    part          here                             in a session of processes
    store         a dict of bytes (store.py)       shared memory
    pump          waits for other threads          reads channels
    node          answers itself (node.py)         the node process
    dispatcher    runs the task at once            leases and channels
    actors        objects in this process          their processes' channels
    executor      the worker's own, once for each task that is under way, with replies that go straight back

All else (arguments, references, functions, completion, the submitter of tasks) is the same code: what is
passed is pickled and unpickled, what is returned too. So a task that changes its argument changes a copy,
an array in a result is read-only, a lock among the arguments is an error: a program that is right here
is right there.

**What is concurrent stays so.** Actors with `async def` methods have an event loop on a thread of their own,
threaded ones their threads. A call waits for the references among its arguments where it is made.

**What cannot be here**: killing what runs, other processes' memory and environment, a time limit on code
that runs in the caller's own thread.
"""
