"""How tests wait: for what must come, however busy the machine is, and never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# The longest that anything of a test may take, in seconds. It is met only where something hangs.
PATIENCE = 150.0


def wait(holds: Callable[[], T], what: str | Callable[[], str] = "what is waited for", seconds: float = PATIENCE) -> T:
    """Returns the answer once it is true; `what` says, or tells when it is called, what does not come."""
    deadline = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > deadline:
            raise AssertionError(what() if callable(what) else f"{what} does not come")
        time.sleep(0.05)
    return answer
