"""joblib, and with it scikit-learn, on the session's workers.

from orchestrator.util.joblib import register_ray

register_ray()
with joblib.parallel_backend("ray"):
    search.fit(data, labels)
"""

from __future__ import annotations

#: The names under which joblib knows the backend.
NAMES = ("ray", "orchestrator")


def register_ray() -> None:
    """Make the backend known to joblib, as "ray" and as "orchestrator".

    Raises:
        ImportError: joblib is not installed.
    """
    try:
        from joblib import register_parallel_backend
    except ImportError as error:
        raise ImportError("register_ray() needs joblib: pip install joblib") from error
    from orchestrator.util.joblib.backend import SessionBackend

    for name in NAMES:
        register_parallel_backend(name, SessionBackend)


register = register_ray

__all__ = ["register", "register_ray"]
