"""How many nodes of which type: demand in, instructions to a provider of machines out.

`demand` and `config` say what is wanted and what is allowed, `planner` what to start, `instances` what has
become of it, `reconciler` what to do next; all of these are pure. `runner` is the shell around them,
`providers` get machines.
"""
