"""The Global Control Store: what all nodes of a cluster must agree on, in one process of the head.

`messages` is what is said. The tables (`nodes` `names` `jobs` `placement_groups` `kv` `answered`
`cluster_view`) are pure; `head` is all of them as one state machine. Around it: `storage`,
`server`, `main` on the head, `client` and `link` in each node process.
"""
