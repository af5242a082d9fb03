"""Payments that keep coming while processes die, and a ledger of what was sent. One thread; the rate may be changed."""

import json
import threading
import time
from collections import defaultdict

from confluent_kafka import Producer
from sequences import Payment, Sent

QUEUE_RECORDS = 20_000  # what waits for a broker that is away; the thread then waits, too
SLICE_SECONDS = 0.02


class Producing(threading.Thread):
    """Sends payments of so many merchants round about, numbered per merchant, until it is stopped.

    Event time follows the payments, not the clock: it goes on by `step_us` with each, and a payment is up to
    `disorder_ms` behind. One in `late_every` is up to `late_ms` behind, beyond what the watermark waits for.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int, merchants: int, rng, shape: "Shape") -> None:
        super().__init__(name="producer", daemon=True)
        self.topic, self.partitions, self.rng, self.shape = topic, partitions, rng, shape
        self.merchants = [f"m-{n:03d}" for n in range(merchants)]
        self.rate = float(shape.rate)
        self.sent: Sent = defaultdict(list)
        self.made = 0
        self.ends = dict.fromkeys(range(partitions), 0)
        self.failure: str | None = None
        self.stopping = threading.Event()
        # Idempotent, without an end to its patience: what is sent comes once, however long a broker is away.
        config = {"bootstrap.servers": bootstrap, "log_level": 0, "enable.idempotence": True, "linger.ms": 10}
        config |= {
            "message.timeout.ms": 0,
            "queue.buffering.max.messages": QUEUE_RECORDS,
            "reconnect.backoff.max.ms": 500,
        }
        self.producer = Producer(config)

    def run(self) -> None:
        due, last = 0.0, time.monotonic()
        while not self.stopping.is_set() and self.failure is None:
            time.sleep(SLICE_SECONDS)
            now = time.monotonic()
            due = min(due + (now - last) * self.rate, self.rate)  # an outage is not made up for at once
            last = now
            while due >= 1 and not self.stopping.is_set():
                if not self._send():
                    break
                due -= 1
            self.producer.poll(0)

    def _send(self) -> bool:
        """Sends the next payment; False when the queue is full."""
        shape, number = self.shape, self.made
        index = number % len(self.merchants)
        merchant = self.merchants[index]
        behind = self.rng.randrange(shape.disorder_ms + 1)
        if shape.late_every and self.rng.randrange(shape.late_every) == 0:
            behind += self.rng.randrange(shape.late_ms)
        payment = Payment(
            len(self.sent[merchant]) + 1,
            max(shape.base_ms, shape.base_ms + number * shape.step_us // 1000 - behind),
            self.rng.randint(100_000, 900_000),
        )
        fields = {
            "payment_id": f"{merchant}/{payment.seq}",
            "merchant": merchant,
            "method": "upi",
            "amount": payment.paise,
        }
        fields |= {"event_time_ms": payment.time_ms, "seq": payment.seq}
        try:
            self.producer.produce(
                self.topic,
                key=merchant.encode(),
                value=json.dumps(fields, separators=(",", ":")).encode(),
                partition=index % self.partitions,
                timestamp=payment.time_ms,
                on_delivery=self._delivered,
            )
        except BufferError:
            self.producer.poll(0.01)
            return False
        self.sent[merchant].append(payment)
        self.made += 1
        return True

    def _delivered(self, error, message) -> None:
        if error is not None:
            self.failure = f"a payment was not taken: {error}"
            return
        self.ends[message.partition()] = max(self.ends[message.partition()], message.offset() + 1)

    def finish(self, seconds: float = 120.0) -> dict[int, int]:
        """Stops, waits for acknowledgements and returns the end of every partition."""
        self.stopping.set()
        self.join()
        left = self.producer.flush(seconds)
        if left or self.failure:
            raise RuntimeError(self.failure or f"{left} payments were not acknowledged")
        return dict(self.ends)


class Shape:
    """How the payments lie in event time, and how many come."""

    def __init__(
        self, rate: int, window_ms: int, window_payments: int, disorder_ms: int, late_every=0, late_ms=1
    ) -> None:
        self.rate = rate
        self.window_ms = window_ms
        self.step_us = window_ms * 1000 // window_payments
        self.disorder_ms = disorder_ms
        self.late_every, self.late_ms = late_every, late_ms
        # Far enough in the past never to overtake the clock, at which a watermark would stop.
        base_ms = int(time.time() * 1000) - 24 * 3600 * 1000
        self.base_ms = base_ms - base_ms % window_ms
