def names() -> tuple[str, ...]:
    """The labelled steps."""

def arm(name: str, countdown: int = 1) -> None:
    """Every store that this process has open dies at that step, the ``countdown``-th time it is reached."""
