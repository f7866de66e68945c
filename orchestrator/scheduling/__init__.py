"""Who may run where: pure state machines that take events and return instructions.

Nothing here does I/O, starts a thread, or looks at a clock that it was not handed.
"""
