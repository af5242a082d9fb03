"""Checkpoints of a job go to a directory, and another server with another data directory goes on from them."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator

import pytest
from broker import Payments, Topic
from conftest import next_job, start_python
from pools import external
from server import BINARY, Server
from test_recovery import PARTITIONS, committed, records
from waits import PATIENCE, wait


def padstone(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=PATIENCE)


class Job:
    """forever.py on a server of its own, with its user code in a worker pool that outlives the server."""

    def __init__(self, kafka: str, new_topic, pool: str, tmp_path) -> None:
        self.kafka, self.pool, self.tmp_path = kafka, pool, tmp_path
        self.place = str(tmp_path / "place")
        self.source, self.target = new_topic("checkpoint-in", PARTITIONS), new_topic("checkpoint-out")
        self.servers: list[Server] = []
        self.first = self.server("first")
        topics, log = ["--bootstrap", kafka, "--input", self.source, "--output", self.target], tmp_path / "script.log"
        self.script = start_python(self.first, "forever.py", *external(pool), *topics, log=log)
        self.id = next_job(self.first, [], self.script, log)
        self.first.api.wait_state(self.id, "RUNNING")
        self.producer = Payments(kafka, self.source, PARTITIONS)

    def server(self, name: str) -> Server:
        flags = ["--checkpoint-dir", self.place, "--checkpoint-interval", "200ms"]
        one = Server(self.tmp_path / name, extra=flags)
        self.servers.append(one)
        return one.start()

    def command(self, server: Server, *arguments: str) -> subprocess.CompletedProcess:
        return padstone(*arguments, "--server", server.endpoints["http"])

    def produce(self, server: Server, number: int, again: int = 0) -> None:
        """Produces a window, which closes those before it, and waits until their panes are written."""
        self.producer.produce(records(number))
        wait(lambda: committed(server, self.id) == self.producer.ends)
        want = 10 * number + again

        def written() -> bool:
            panes = self.panes()
            assert len(panes) <= want, Counter(panes)
            return len(panes) == want

        wait(written, lambda: f"not {want} panes: {Counter(self.panes())}")

    def panes(self) -> list[int]:
        """The counts that readers of committed records see."""
        topic = Topic(self.kafka, self.target, 1)
        values = [int(value) for _, _, value in topic.read_to(topic.end_offsets())]
        topic.close()
        return values

    def drain(self, server: Server) -> None:
        server.api.drain(self.id)
        assert server.api.wait_state(self.id) == "DRAINED"

    def close(self) -> None:
        self.script.kill()
        self.script.wait()
        for one in self.servers:
            if one.alive():
                one.stop()


@pytest.fixture
def job(server, new_topic, tmp_path, worker_pool) -> Iterator[Job]:
    made = Job(server.kafka, new_topic, worker_pool, tmp_path)
    yield made
    made.close()


def once(windows: int) -> Counter:
    """What a run without interruption writes: a pane of each of ten keys for each window."""
    return Counter({number + 1: 10 for number in range(windows)})


def test_a_savepoint_goes_on_elsewhere_as_if_nothing_had_been(job):
    job.produce(job.first, 0)
    job.produce(job.first, 1)
    stopped = job.command(job.first, "jobs", "stop", job.id, "--savepoint")
    assert stopped.returncode == 0, stopped.stderr
    lines = stopped.stdout.split("\n")
    assert lines[0] == f"{job.id} UPDATED"
    assert job.script.wait(PATIENCE) != 0 and "UPDATED" in (job.tmp_path / "script.log").read_text()
    job.first.stop()
    job.first.start()  # it does not come back by itself
    assert job.first.api.wait_state(job.id) == "UPDATED"

    job.producer.produce(records(2))
    second = job.server("second")
    restored = job.command(second, "checkpoints", "restore", job.place, "--json")
    assert restored.returncode == 0, restored.stderr
    answer = json.loads(restored.stdout)
    assert answer["checkpoint"]["id"] == lines[1] and answer["checkpoint"]["kind"] == "savepoint"
    assert answer["job"]["id"] == job.id and "given_up" not in answer
    job.produce(second, 3)
    again = job.command(second, "checkpoints", "restore", job.place)
    assert again.returncode == 1 and "job-exists" in again.stderr
    job.drain(second)
    assert Counter(job.panes()) == once(4)
    history = [change["state"] for change in second.api.job(job.id)["history"]]
    assert history[:3] == ["STOPPED", "STARTING", "RUNNING"] and history[-1] == "DRAINED"


def test_a_killed_server_is_replaced_and_a_rewind_says_what_it_writes_again(job, worker_pool):
    job.produce(job.first, 0)
    job.produce(job.first, 1)
    taken = job.command(job.first, "jobs", "savepoint", job.id)
    assert taken.returncode == 0, taken.stderr
    old = taken.stdout.split("\n")[0]
    job.produce(job.first, 2)
    job.produce(job.first, 3)
    second = job.server("second")
    refused = job.command(second, "checkpoints", "restore", job.place, "--id", old)
    assert refused.returncode == 1 and "outbox-behind" in refused.stderr and "--allow-rewind" in refused.stderr
    assert f'topic "{job.target}": 20 records' in refused.stderr
    assert second.api.jobs() == []
    job.produce(job.first, 4)  # having been asked does not stop the first server

    completed = f'padstone_checkpoint_completed_total{{job="{job.id}"}}'
    before = job.first.api.metrics()[completed]
    wait(lambda: job.first.api.metrics()[completed] > before + 1)  # one of them began after everything was written
    job.first.kill()
    listed = padstone("checkpoints", "list", job.place).stdout.splitlines()
    assert len(listed) <= 1 + 1 + 4  # the savepoint and three checkpoints, and one that was just written
    elsewhere = ["--environment_type", "EXTERNAL", "--environment_config", worker_pool]
    restored = job.command(second, "checkpoints", "restore", job.place, "--job", job.id[:8], *elsewhere)
    assert restored.returncode == 0, restored.stderr
    job.produce(second, 5)
    assert Counter(job.panes()) == once(5)

    third = job.server("third")
    restored = job.command(third, "checkpoints", "restore", job.place, "--id", old, "--allow-rewind")
    assert restored.returncode == 0, restored.stderr
    again = int(re.search(r"given up: .*: (\d+) records", restored.stdout).group(1))
    assert again == 40  # windows 1 to 4
    job.produce(third, 6, again)
    assert second.api.wait_state(job.id) == "FAILED"  # it was about to write the same window
    assert "kafka-fenced" in second.api.job(job.id)["last_error"]
    job.drain(third)
    want = once(7)
    for number in range(1, 5):
        want[number + 1] += 10
    assert Counter(job.panes()) == want
