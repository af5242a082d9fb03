"""The demo's own arithmetic, without Beam: totals from the input topic, compared with what the pipeline wrote."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

Key = tuple[str, int]  # (merchant, start of the window in ms since the epoch)
Range = tuple[int, int]  # offsets [from, to) of one partition


def large_payment(value: bytes, min_paise: int) -> tuple[str, int, int] | None:
    """Returns (merchant, paise, event time in ms) of a large UPI payment, None for anything else."""
    try:
        payment = json.loads(value)
        merchant, method = payment["merchant"], payment["method"]
        amount, time_ms = int(payment["amount"]), int(payment["event_time_ms"])
    except (ValueError, TypeError, KeyError):
        return None
    if method != "upi" or amount < min_paise:
        return None
    return merchant, amount, time_ms


def expected_totals(
    records: Iterable[tuple[int, int, bytes]], window_ms: int, min_paise: int, excluded: dict[int, list[Range]]
) -> tuple[dict[Key, int], int]:
    """Sums records (partition, offset, value) but those at excluded offsets. Returns totals and how many it excluded.

    Only large UPI payments count as excluded: what the filter takes away never reaches a window.
    """
    totals: dict[Key, int] = defaultdict(int)
    left_out = 0
    for partition, offset, value in records:
        payment = large_payment(value, min_paise)
        if payment is None:
            continue
        if any(first <= offset < end for first, end in excluded.get(partition, ())):
            left_out += 1
            continue
        merchant, amount, time_ms = payment
        totals[merchant, time_ms - time_ms % window_ms] += amount
    return dict(totals), left_out


@dataclass(frozen=True)
class Pane:
    """One record of the totals topic."""

    merchant: str
    window_start_ms: int
    total: int
    index: int
    timing: str  # EARLY, ON_TIME, LATE
    closing: bool = False  # the last one: Beam's Python SDK asks for it when the lateness is over, even without news

    @property
    def key(self) -> Key:
        return self.merchant, self.window_start_ms

    @classmethod
    def parse(cls, value: bytes) -> "Pane":
        fields = json.loads(value)
        return cls(
            fields["merchant"],
            fields["window_start_ms"],
            fields["total"],
            fields["pane"],
            fields["timing"],
            fields["last"],
        )


@dataclass
class Panes:
    """All panes seen so far. A pane that is written twice counts once, but must not differ."""

    last: dict[Key, Pane] = field(default_factory=dict)
    seen: dict[tuple[str, int, int], Pane] = field(default_factory=dict)
    timings: Counter = field(default_factory=Counter)
    repeated: int = 0
    contradictions: list[str] = field(default_factory=list)

    def add(self, pane: Pane) -> bool:
        """Takes in a pane; False when it was there before."""
        known = self.seen.setdefault((*pane.key, pane.index), pane)
        if known is not pane:
            self.repeated += 1
            if known != pane:
                self.contradictions.append(f"pane {pane.index} of {pane.key} was written as {known} and as {pane}")
            return False
        self.timings[pane.timing] += 1
        if pane.key not in self.last or pane.index > self.last[pane.key].index:
            self.last[pane.key] = pane
        return True


def differences(expected: dict[Key, int], panes: Panes) -> list[str]:
    """Every way in which the last panes are not the expected totals; empty when all is well."""
    found = list(panes.contradictions)
    for key in sorted(expected.keys() | panes.last.keys(), key=lambda k: (k[1], k[0])):
        merchant, start = key
        pane = panes.last.get(key)
        if pane is None:
            found.append(f"{merchant} in window {start}: expected {expected[key]}, no pane was written")
        elif key not in expected:
            found.append(f"{merchant} in window {start}: expected nothing, got {pane.total} in pane {pane.index}")
        elif pane.total != expected[key]:
            last = f"{pane.timing} pane {pane.index}"
            found.append(f"{merchant} in window {start}: expected {expected[key]}, got {pane.total} in {last}")
    for (merchant, start), pane in panes.last.items():
        missing = [n for n in range(pane.index) if (merchant, start, n) not in panes.seen]
        if missing:
            found.append(f"{merchant} in window {start}: panes {missing} are missing before pane {pane.index}")
    return found
