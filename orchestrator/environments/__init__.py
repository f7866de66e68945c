"""Environments in which tasks and actors run: variables, directories, modules, interpreters, packages.

    runtime_env.py   what a user writes, checked: `RuntimeEnv`
    resolved.py      the same with everything in it found, copied and made absolute; its key; inheritance
    packages.py      directories and files as they are at that moment, below the session's directory
    ignore.py        what of a directory is left out
    cache.py         what outlives sessions: built environments, one lock each
    pip_builder.py   the program that builds one
    applying.py      what a worker does before any code of the user's

A worker has one environment for life. Two tasks share workers if the keys of their environments are equal;
the empty key stands for the plain environment, the driver's own.
"""
