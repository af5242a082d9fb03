"""Streaming jobs on the server's own Kafka broker: panes, drain, cancel."""

import contextlib

import pytest
from broker import Payments, Topic
from conftest import next_job, start_script
from generate import Record
from server import ServerError
from waits import PATIENCE, wait

WINDOW_MS = 10_000


def records(keys: str, start_ms: int, partitions: int) -> list[Record]:
    """One record for each key, a millisecond apart, dealt out over the partitions."""
    return [Record(n % partitions, start_ms + n, key.encode(), b"x") for n, key in enumerate(keys)]


class Job:
    """A forever.py job with its input and output topics."""

    def __init__(self, server, new_topic, tmp_path, partitions: int = 2) -> None:
        self.server = server
        self.partitions = partitions
        self.input, self.output = new_topic("records", partitions), new_topic("counts")
        self.log = tmp_path / "script.log"
        before = server.api.jobs()
        arguments = ["--bootstrap", server.kafka, "--input", self.input, "--output", self.output]
        self.script = start_script(server, "forever.py", *arguments, log=self.log)
        self.id = next_job(server, before, self.script, self.log)
        server.api.wait_state(self.id, "RUNNING")
        self.producer = Payments(server.kafka, self.input, partitions)

    def produce(self, keys: str, start_ms: int) -> None:
        self.producer.produce(records(keys, start_ms, self.partitions))
        self._wait(lambda: self.committed() == self.producer.ends)

    def committed(self) -> dict[int, int]:
        sources = self.server.api.job(self.id)["description"].get("sources") or ()
        splits = [split for source in sources for split in source["splits"] or ()]  # none before it is open
        return {int(split["split"].rpartition("-")[2]): max(0, split["committed"]) for split in splits}

    def counts(self) -> list[tuple[bytes, bytes]]:
        """What is in the output topic, as (offset order) values."""
        topic = Topic(self.server.kafka, self.output, 1)
        values = [value for _, _, value in topic.read_to(topic.end_offsets())]
        topic.close()
        return values

    def wait_counts(self, n: int) -> list[bytes]:
        self._wait(lambda: len(self.counts()) >= n)
        return self.counts()

    def _wait(self, holds) -> None:
        def still() -> bool:
            assert self.script.poll() is None, self.log.read_text()
            return holds()

        wait(still, self.log.read_text)


@pytest.fixture
def job(server, new_topic, tmp_path):
    running = Job(server, new_topic, tmp_path)
    yield running
    if running.script.poll() is None:
        running.script.kill()
        running.script.wait()
    with contextlib.suppress(ServerError):  # it may have ended
        server.api.cancel(running.id)


START_MS = 1_790_000_000_000


def test_windows_close_as_the_watermark_passes_and_a_drain_closes_the_rest(server, job):
    job.produce("aab", START_MS)
    assert job.counts() == []
    job.produce("ccccc", START_MS + WINDOW_MS)  # past the end of the first window
    assert sorted(job.wait_counts(2)) == [b"1", b"2"]

    server.api.drain(job.id)
    assert server.api.wait_state(job.id, "DRAINED") == "DRAINED"
    assert job.script.wait(PATIENCE) == 0, job.log.read_text()
    assert sorted(job.counts()) == [b"1", b"2", b"5"]


def test_a_cancelled_job_stops_at_once_and_writes_no_more(server, job):
    job.produce("aab", START_MS)
    server.api.cancel(job.id)
    assert server.api.wait_state(job.id, "CANCELLED") == "CANCELLED"
    assert job.script.wait(PATIENCE) == 2, job.log.read_text()
    assert job.counts() == []


def test_a_running_job_tells_its_watermark_splits_and_counts(server, job):
    job.produce("aab", START_MS)
    description = server.api.job(job.id)["description"]
    (source,) = description["sources"]
    assert sorted(split["split"] for split in source["splits"]) == [f"{job.input}-0", f"{job.input}-1"]
    assert {split["position"] for split in source["splits"]} == {1, 2}

    def group() -> dict:
        (stage,) = [one for one in server.api.job(job.id)["description"]["stages"] if one["kind"] == "group"]
        return stage

    assert any("Count" in name for name in group()["transforms"])
    wait(
        lambda: START_MS - WINDOW_MS < group().get("input_watermark_millis", 0) <= START_MS + WINDOW_MS, "the watermark"
    )


def test_drain_and_cancel_of_an_ended_job_change_nothing(server, job):
    server.api.cancel(job.id)
    server.api.wait_state(job.id, "CANCELLED")
    for ask in (server.api.drain, server.api.cancel):
        try:
            ask(job.id)
        except ServerError as refused:
            assert job.id in str(refused) or "CANCELLED" in str(refused)
        assert server.api.job(job.id)["state"] == "CANCELLED"
