"""A job that runs when the server is killed goes on with the next server on the same data directory."""

import subprocess
import sys

import pytest
from broker import Payments, Topic
from conftest import PIPELINES, next_job, start_python
from generate import Record
from pools import external
from server import BINARY
from waits import PATIENCE, wait

START_MS = 1_790_000_000_000
WINDOW_MS = 10_000
PARTITIONS = 2


def records(number: int) -> list[Record]:
    """Window `number` of the input: so many records of each of ten keys, over all partitions."""
    at = START_MS + number * WINDOW_MS
    return [Record(n % PARTITIONS, at + n, f"key{n % 10}".encode(), b"x") for n in range(10 * (number + 1))]


def committed(server, job: str) -> dict[int, int]:
    sources = server.api.job(job)["description"].get("sources") or ()
    splits = [split for source in sources for split in source["splits"] or ()]  # none before it is open
    return {int(split["split"].rpartition("-")[2]): max(0, split["committed"]) for split in splits}


def test_a_killed_server_goes_on_with_its_job(server, start_server, new_topic, tmp_path, worker_pool):
    source, target = new_topic("recovery-in", PARTITIONS), new_topic("recovery-out")
    own = start_server()
    # The script's own client loses its server; its worker pool lives on, as a sidecar does.
    topics, log = ["--bootstrap", server.kafka, "--input", source, "--output", target], tmp_path / "script.log"
    script = start_python(own, "forever.py", *external(worker_pool), *topics, log=log)
    try:
        job = next_job(own, [], script, log)
        own.api.wait_state(job, "RUNNING")
        producer = Payments(server.kafka, source, PARTITIONS)
        for number in range(4):
            producer.produce(records(number))
            if number < 3:  # killed with records unread, read and not grouped, and panes on their way
                own.kill()
                own = start_server()
                own.api.wait_state(job, "RUNNING")
        wait(lambda: committed(own, job) == producer.ends)
        own.api.drain(job)
        assert own.api.wait_state(job) == "DRAINED"
    finally:
        script.kill()
        script.wait()
    topic = Topic(server.kafka, target, 1)
    counts = sorted(int(value) for _, _, value in topic.read_to(topic.end_offsets()))
    topic.close()
    assert counts == sorted([number + 1 for number in range(4) for _ in range(10)])


@pytest.mark.parametrize("environment", ["LOOPBACK", "EXTERNAL"])
def test_padstone_run_waits_for_a_killed_server(environment, server, start_server, new_topic, tmp_path, worker_pool):
    """The client and its LOOPBACK workers live on; the server comes back on other ports and goes on with both."""
    source, target = new_topic("run-in", PARTITIONS), new_topic("run-out")
    own = start_server()
    command = [str(BINARY), "run", "--data-dir", str(own.data_dir), "--python", sys.executable]
    command += [str(PIPELINES / "forever.py"), "--bootstrap", server.kafka, "--input", source, "--output", target]
    command += [f"--environment_type={environment}"]
    if environment == "EXTERNAL":
        command += [f"--environment_config={worker_pool}"]
    log = tmp_path / "script.log"
    with log.open("wb") as out:
        script = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)
    try:
        job = next_job(own, [], script, log)
        own.api.wait_state(job, "RUNNING")
        producer = Payments(server.kafka, source, PARTITIONS)
        for number in range(3):
            producer.produce(records(number))
            if number < 2:
                own.kill()
                wait(lambda times=number + 1: log.read_text().count("does not answer") == times)
                own = start_server()
                own.api.wait_state(job, "RUNNING")
                wait(lambda times=number + 1: log.read_text().count("answers again") == times)
        wait(lambda: committed(own, job) == producer.ends)
        own.api.drain(job)
        assert script.wait(PATIENCE) == 0, log.read_text()
        assert own.api.job(job)["state"] == "DRAINED"
    finally:
        if script.poll() is None:
            script.terminate()
            script.wait(PATIENCE)
    text = log.read_text()
    assert text.count(f"job {job}: DRAINED") == 1, text
    topic = Topic(server.kafka, target, 1)
    counts = sorted(int(value) for _, _, value in topic.read_to(topic.end_offsets()))
    topic.close()
    assert counts == sorted([number + 1 for number in range(3) for _ in range(10)])
