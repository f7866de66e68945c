"""gRPC, set up before it is imported for the first time: its settings are read then."""

from __future__ import annotations

import os

# The zygote is forked before gRPC is there, and nobody forks later.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
# Its own log lines have no reader; what goes wrong arrives as a status.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc

__all__ = ["grpc"]
