"""An event loop's selector that looks for messages before it sleeps.

A message for a loop that sleeps costs its sender a datagram, and the loop an `epoll` turn and a
wake-up: most of a short call's time. So before it sleeps, the loop looks at the channels for a
moment (as long as lately paid, see `Endpoint.look`), and only then asks to be woken.
"""

from __future__ import annotations

import selectors

from orchestrator.common import config
from orchestrator.objects.plasma_adapter import CONTROL, WORK, Endpoint


class RingSelector(selectors.EpollSelector):
    """Calls the endpoint's descriptor readable while messages are in its channels."""

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__()
        self._endpoint = endpoint
        self._put_off = False

    def put_off(self) -> None:
        """Say nothing of the messages that are there for a moment: another thread is taking them."""
        self._put_off = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for `timeout` seconds (None: for ever) for messages and for descriptors."""
        endpoint = self._endpoint
        bell = self.get_map().get(endpoint.fileno())
        if bell is None:
            return super().select(timeout)
        if timeout is not None and timeout <= 0.0:
            messages = endpoint.has_message(WORK) or endpoint.has_message(CONTROL)
            ready = super().select(0.0)
        elif self._put_off:
            self._put_off = False
            messages = True
            ready = super().select(config.COLLECT_S)
        else:
            messages = endpoint.look() or not endpoint.arm()
            ready = super().select(0.0 if messages else timeout)
        for key, _ in ready:
            if key is bell:
                endpoint.drain()
                return ready
        if messages:
            ready.append((bell, selectors.EVENT_READ))
        return ready
