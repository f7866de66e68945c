"""Running seeds of a simulation: all must pass, or, with a bug put in, one must not."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def run_all(simulation: str, run: Callable[[int], object], seeds: Iterable[int]) -> None:
    """Run these seeds of a simulation.

    Raises:
        AssertionError: one failed; the text says how to run it again.
    """
    for seed in seeds:
        try:
            run(seed)
        except Exception as exc:
            again = f"python tools/simulate.py --only {simulation} --seed {seed}"
            raise AssertionError(f"seed {seed}: {again}") from exc


def find_failure(
    run: Callable[[int], object],
    seeds: Iterable[int],
    failure: type[Exception] | tuple[type[Exception], ...] = AssertionError,
) -> None:
    """Run these seeds until a check finds something.

    Args:
        failure: what the checks raise. Any other exception is no finding, and goes to the caller.

    Raises:
        AssertionError: nothing was noticed.
    """
    for seed in seeds:
        try:
            run(seed)
        except failure:
            return
    raise AssertionError("nothing was noticed")
