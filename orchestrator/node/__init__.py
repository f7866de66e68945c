"""The node process: it lends workers, and is not on the path of a task.

One process per session. It keeps the zygote and the workers, watches the driver, forwards what workers
print, and ends when the driver does, taking everything along. It imports neither numpy nor cloudpickle nor
asyncio, and never unpickles anything.
"""
