"""Reading what is in Kafka at the end of a run: every record, what readers of committed records see, and offsets."""

import time
from collections.abc import Iterator

from broker import BrokerError
from confluent_kafka import Consumer, KafkaError, TopicPartition
from sequences import Written

READ_SECONDS = 60.0
POLL_SECONDS = 0.2


def _consumer(bootstrap: str, isolation: str, group: str = "chaos-verify") -> Consumer:
    config = {"bootstrap.servers": bootstrap, "log_level": 0, "group.id": group, "enable.auto.commit": False}
    return Consumer({**config, "isolation.level": isolation, "enable.partition.eof": True})


def read(bootstrap: str, topic: str, partitions: int, isolation: str = "read_committed") -> Iterator[Written]:
    """Every record of a topic, to the end that it has now."""
    consumer = _consumer(bootstrap, isolation)
    try:
        consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
        left = set(range(partitions))
        came = time.monotonic()
        while left:
            messages = consumer.consume(10_000, POLL_SECONDS)
            if messages:
                came = time.monotonic()
            elif time.monotonic() - came > READ_SECONDS:
                raise BrokerError(f"topic {topic}: nothing came for {READ_SECONDS:.0f} s of partitions {left}")
            for message in messages:
                if message.error() is None:
                    yield Written(message.partition(), message.offset(), message.key() or b"", message.value() or b"")
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition())
                else:
                    raise BrokerError(f"reading topic {topic}: {message.error()}")
    finally:
        consumer.close()


def open_transactions(bootstrap: str, topic: str, partitions: int) -> list[int]:
    """Partitions of which readers of committed records do not see the end: a transaction is open there."""
    committed, everything = _consumer(bootstrap, "read_committed"), _consumer(bootstrap, "read_uncommitted")
    try:
        held = []
        for p in range(partitions):
            ends = [c.get_watermark_offsets(TopicPartition(topic, p), 20)[1] for c in (committed, everything)]
            if ends[0] != ends[1]:
                held.append(p)
        return held
    finally:
        committed.close()
        everything.close()


def group_offsets(bootstrap: str, group: str, topic: str, partitions: int) -> dict[int, int]:
    """What the job has committed for its consumer group."""
    consumer = _consumer(bootstrap, "read_committed", group)
    try:
        return {
            t.partition: t.offset for t in consumer.committed([TopicPartition(topic, p) for p in range(partitions)], 20)
        }
    finally:
        consumer.close()
