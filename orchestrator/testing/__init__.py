"""Simulated time, networks and processes: a run full of faults is one seed, and can be had again."""
