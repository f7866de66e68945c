"""Environments in which tasks and actors run: variables, directories, modules, interpreters, packages.

    resolved.py      what a user wrote (`common/runtime_env.py`) with all of it found; keys; inheritance
    packages.py      directories and files as they are at that moment, below the session's directory
    ignore.py        what of a directory is left out
    cache.py         what outlives sessions: built environments, one lock each
    pip_builder.py   the program that builds one
    applying.py      what a worker does before any code of the user's

A worker has one environment for life. Two tasks share workers if the keys of their environments are equal;
the empty key stands for the plain environment, the driver's own.
"""
