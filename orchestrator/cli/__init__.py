"""The command line: `orchestrator start`, `status`, `list tasks`, `stop`, and so on.

Exit codes: 0 done; 1 it failed, and stderr says why; 2 the command is wrong; 3 there is no such session.
"""
