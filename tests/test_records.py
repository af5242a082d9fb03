"""Kafka records as rows: metadata in, headers out, through the unmodified wheel."""

from broker import Payments
from confluent_kafka import Consumer, TopicPartition
from conftest import run_python
from generate import Record
from waits import PATIENCE

START_MS = 1_790_000_000_000


def test_records_with_metadata_in_and_headers_out(server, new_topic):
    source, target = new_topic("rows-in"), new_topic("rows-out")
    records = [Record(0, START_MS + n, f"k{n}".encode(), f"v{n}".encode()) for n in range(20)]
    Payments(server.kafka, source, 1).produce(records)
    done = run_python(
        server,
        "records.py",
        "--environment_type=LOOPBACK",
        *("--bootstrap", server.kafka, "--input", source, "--output", target, "--records", "20"),
    )
    assert done.returncode == 0, done.stderr
    consumer = Consumer({"bootstrap.servers": server.kafka, "group.id": "rows", "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(target, 0, 0)])
    messages = consumer.consume(20, PATIENCE)
    consumer.close()
    assert sorted((m.key(), m.value(), tuple(m.headers())) for m in messages) == sorted(
        (r.key, r.value.upper(), (("origin", f"{source}/0/{n}/{r.timestamp_ms}".encode()),))
        for n, r in enumerate(records)
    )
