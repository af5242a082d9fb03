"""What the demo does with Kafka: topics, producing records, reading topics. Works on any broker."""

import time
from collections.abc import Iterator

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from generate import Record

CONNECT_SECONDS = 10.0
DELIVERY_SECONDS = 60.0


class BrokerError(RuntimeError):
    """The broker cannot be reached or did not take a record."""


def _quiet(bootstrap: str) -> dict:
    # librdkafka's own log is silenced: what goes wrong comes back as an error of the call.
    return {"bootstrap.servers": bootstrap, "log_level": 0}


def create_topics(bootstrap: str, partitions: dict[str, int]) -> None:
    """Creates topics with one replica; fails when one exists already, since the demo counts every record of it."""
    admin = AdminClient(_quiet(bootstrap))
    try:
        admin.list_topics(timeout=CONNECT_SECONDS)
    except KafkaException as error:
        raise BrokerError(f"no Kafka broker answers at {bootstrap}: {error}") from error
    topics = [NewTopic(name, count, replication_factor=1) for name, count in partitions.items()]
    for name, future in admin.create_topics(topics, operation_timeout=CONNECT_SECONDS).items():
        try:
            future.result(CONNECT_SECONDS * 2)
        except (KafkaException, TimeoutError) as error:
            raise BrokerError(f"cannot create topic {name} at {bootstrap}: {error}") from error


def delete_topics(bootstrap: str, names: list[str]) -> None:
    admin = AdminClient(_quiet(bootstrap))  # its requests end with it
    for future in admin.delete_topics(names).values():
        future.result(CONNECT_SECONDS)


class Topic:
    """One topic, read by partition and offset without a consumer group."""

    def __init__(self, bootstrap: str, name: str, partitions: int) -> None:
        self.name = name
        self.partitions = partitions
        self.consumer = Consumer(
            {
                **_quiet(bootstrap),
                "group.id": f"demo-{name}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        self.consumer.assign([TopicPartition(name, p, 0) for p in range(partitions)])
        self.positions = dict.fromkeys(range(partitions), 0)

    def end_offsets(self) -> dict[int, int]:
        """The end of each partition as a reader of committed records sees it."""
        return {p: self._end(p) for p in range(self.partitions)}

    def poll(self, seconds: float) -> list[tuple[int, int, bytes]]:
        """Returns records (partition, offset, value) that have come, waiting at most so long for the first."""
        records = []
        for message in self.consumer.consume(10_000, seconds):
            if message.error() and message.error().code() == KafkaError._PARTITION_EOF:
                # The end may lie behind the last record: a transaction's marker has an offset, too.
                self.positions[message.partition()] = message.offset()
                continue
            if message.error():
                raise BrokerError(f"reading topic {self.name}: {message.error()}")
            self.positions[message.partition()] = message.offset() + 1
            records.append((message.partition(), message.offset(), message.value() or b""))
        return records

    def read_to(self, ends: dict[int, int], stall_seconds: float = 30.0) -> Iterator[tuple[int, int, bytes]]:
        """Yields records from the present position up to the given ends."""
        deadline = time.monotonic() + stall_seconds
        while any(self.positions[p] < end for p, end in ends.items()):
            records = self.poll(0.2)
            if records:
                deadline = time.monotonic() + stall_seconds
            elif time.monotonic() > deadline:
                raise BrokerError(f"topic {self.name}: nothing came for {stall_seconds:.0f} s before offsets {ends}")
            yield from records

    def close(self) -> None:
        self.consumer.close()

    def _end(self, partition: int) -> int:
        try:
            return self.consumer.get_watermark_offsets(TopicPartition(self.name, partition), CONNECT_SECONDS)[1]
        except KafkaException as error:
            raise BrokerError(f"end of topic {self.name}: {error}") from error


class Payments:
    """Produces records and knows the end offset of every partition after each batch."""

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.topic = topic
        self.producer = Producer({**_quiet(bootstrap), "linger.ms": 20, "enable.idempotence": True})
        self.ends = dict.fromkeys(range(partitions), 0)
        self.failures: list[str] = []

    def produce(self, records: list[Record]) -> dict[int, int]:
        """Returns once the broker has acknowledged all records, with the end offsets after them."""
        for record in records:
            self._send(record)
        left = self.producer.flush(DELIVERY_SECONDS)
        if left or self.failures:
            raise BrokerError(f"topic {self.topic}: {left} records not acknowledged; {'; '.join(self.failures[:3])}")
        return dict(self.ends)

    def _send(self, record: Record) -> None:
        deadline = time.monotonic() + DELIVERY_SECONDS
        while True:
            try:
                self.producer.produce(
                    self.topic,
                    key=record.key,
                    value=record.value,
                    partition=record.partition,
                    timestamp=record.timestamp_ms,
                    on_delivery=self._delivered,
                )
                self.producer.poll(0)
                return
            except BufferError as error:  # the local queue is full: wait for acknowledgements
                if time.monotonic() > deadline:
                    raise BrokerError(f"topic {self.topic}: the broker takes no records: {error}") from error
                self.producer.poll(0.1)

    def _delivered(self, error, message) -> None:
        if error is not None:
            self.failures.append(str(error))
            return
        self.ends[message.partition()] = max(self.ends[message.partition()], message.offset() + 1)
