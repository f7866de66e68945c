"""Which node: what one node knows of all others, and what it decides by that.

It imports numpy, which a session on one machine has no use for in its node process: import it in clusters
only.
"""
