def names() -> tuple[str, ...]:
    """The labelled steps."""

def arm(name: str, countdown: int = 1, signal: int = ...) -> None:
    """Every store that this process has open gets a signal at that step, the ``countdown``-th time it is reached."""
