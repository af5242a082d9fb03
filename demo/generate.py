"""Payments for the demo: reproducible from a seed, out of order, some late, some malformed.

Event time is counted from `base_ms`, the start of a window; window k is [k * window_ms, (k + 1) * window_ms) after it.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

MERCHANTS = tuple(f"merchant-{n:02d}" for n in range(1, 9))
METHODS = ("upi", "upi", "upi", "upi", "upi", "upi", "upi", "card", "card", "netbanking")
MALFORMED_SHARE = 0.01
EDGE_AMOUNTS = (99_999, 100_000)  # one paisa short of a large payment, and just one


@dataclass(frozen=True, slots=True)
class Record:
    """One Kafka record. Its timestamp is the payment's event time, as create_time_policy expects."""

    partition: int
    timestamp_ms: int
    key: bytes
    value: bytes


@dataclass(frozen=True)
class Shape:
    """What the demo produces, in event time; all times in milliseconds."""

    payments: int
    partitions: int
    base_ms: int
    window_ms: int
    lateness_ms: int
    windows: int = 6
    slices_per_window: int = 5

    @property
    def slice_ms(self) -> int:
        return self.window_ms // self.slices_per_window

    @property
    def main_end_ms(self) -> int:
        return self.base_ms + self.windows * self.window_ms

    @property
    def after_end_ms(self) -> int:
        """Past the end of the last main window, but not past its allowed lateness."""
        return self.main_end_ms + min(self.window_ms, self.lateness_ms) // 2

    @property
    def after_lateness_ms(self) -> int:
        """Past the allowed lateness of all main windows."""
        return self.main_end_ms + self.lateness_ms + self.window_ms // 2

    @property
    def tail_start_ms(self) -> int:
        """Start of the window that is still open when the job is drained."""
        past = self.after_lateness_ms - self.base_ms
        return self.base_ms + (past // self.window_ms + 1) * self.window_ms

    @property
    def late_windows(self) -> list[int]:
        """Starts of the main windows that have ended when the watermark is at after_end_ms, but still take payments."""
        starts = (self.base_ms + k * self.window_ms for k in range(self.windows))
        return [s for s in starts if s + self.window_ms + self.lateness_ms > self.after_end_ms]

    @property
    def late_count(self) -> int:
        return min(max(self.payments // 50, 4), 2000)

    @property
    def too_late_count(self) -> int:
        return min(max(self.payments // 100, 4), 2000)

    @property
    def tail_count(self) -> int:
        return max(self.payments // 30, 4)

    @property
    def main_count(self) -> int:
        return max(self.payments - self.late_count - self.too_late_count - self.tail_count, self.windows)


class Generator:
    """Makes the records of a Shape. The same seed gives the same payments; one use each, in the order of the phases."""

    def __init__(self, shape: Shape, seed: int, ordered_windows: bool) -> None:
        """With ordered_windows no payment of a main window comes after one of a later window."""
        self.shape = shape
        self.random = random.Random(seed)
        self.ordered_windows = ordered_windows
        self.made = 0

    def main_slices(self) -> Iterator[tuple[int, list[Record]]]:
        """Yields (end of the slice in event time, its records), out of order as far back as the slice before."""
        shape = self.shape
        slices = shape.windows * shape.slices_per_window
        for n in range(slices):
            start = shape.base_ms + n * shape.slice_ms
            count = shape.main_count * (n + 1) // slices - shape.main_count * n // slices
            earliest = max(start - shape.slice_ms, shape.base_ms)
            if self.ordered_windows:
                earliest = max(earliest, start - (start - shape.base_ms) % shape.window_ms)
            yield start + shape.slice_ms, self._spread(count, earliest, start + shape.slice_ms)

    def advance(self, event_time_ms: int) -> list[Record]:
        """One small card payment in every partition: it adds to no total and moves the watermark."""
        return [
            self._payment(p, event_time_ms, method="card", amount=5_000, merchant=MERCHANTS[0])
            for p in range(self.shape.partitions)
        ]

    def late(self) -> list[Record]:
        """Large UPI payments for windows that have ended but still take them."""
        return self._large(self.shape.late_count, self.shape.late_windows)

    def too_late(self) -> list[Record]:
        """Large UPI payments for windows that take no more."""
        shape = self.shape
        return self._large(shape.too_late_count, [shape.base_ms + k * shape.window_ms for k in range(shape.windows)])

    def tail(self) -> list[Record]:
        """Payments in the first half of a window that nothing but a drain will end."""
        start = self.shape.tail_start_ms
        return self._spread(self.shape.tail_count, start, start + self.shape.window_ms // 2)

    def _spread(self, count: int, start_ms: int, end_ms: int) -> list[Record]:
        times = [self.random.randrange(start_ms, end_ms) for _ in range(count)]
        if count >= 2:
            times[0], times[-1] = end_ms - 1, start_ms  # both edges, the later one first
        return [self._any(time_ms) for time_ms in times]

    def _large(self, count: int, windows: list[int]) -> list[Record]:
        return [
            self._payment(
                self.made % self.shape.partitions,
                self.random.choice(windows) + self.random.randrange(self.shape.window_ms),
                method="upi",
                amount=self.random.randint(100_000, 900_000),
                merchant=self.random.choice(MERCHANTS),
            )
            for _ in range(count)
        ]

    def _any(self, time_ms: int) -> Record:
        dice = self.random.random()
        partition = self.made % self.shape.partitions
        if dice < MALFORMED_SHARE:
            return self._malformed(partition, time_ms)
        amount = self.random.choice(EDGE_AMOUNTS) if dice < 0.05 else self.random.randint(1_000, 500_000)
        return self._payment(partition, time_ms, self.random.choice(METHODS), amount, self.random.choice(MERCHANTS))

    def _payment(self, partition: int, time_ms: int, method: str, amount: int, merchant: str) -> Record:
        payment_id = f"payment-{self.made}"
        self.made += 1
        value = (
            f'{{"payment_id":"{payment_id}","merchant":"{merchant}","method":"{method}",'
            f'"amount":{amount},"event_time_ms":{time_ms}}}'
        )
        return Record(partition, time_ms, payment_id.encode(), value.encode())

    def _malformed(self, partition: int, time_ms: int) -> Record:
        self.made += 1
        value = self.random.choice(
            (
                b"",
                b'{"merchant":"merchant-01","method":"upi","amount":',
                b"\xff\xfe not text",
                b"[1,2,3]",
                json.dumps({"merchant": "merchant-01", "method": "upi", "event_time_ms": time_ms}).encode(),
                json.dumps({"merchant": "m", "method": "upi", "amount": "lots", "event_time_ms": time_ms}).encode(),
            )
        )
        return Record(partition, time_ms, b"malformed", value)
