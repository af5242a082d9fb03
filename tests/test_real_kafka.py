"""On a real Kafka broker: kill -9 all round, two servers with one job, a broker that is away. Needs Java and Maven."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker import Payments, Topic, create_topics
from conftest import next_job, start_python
from kafka_node import KafkaNode, missing
from pools import external
from server import ROOT, Server
from test_recovery import PARTITIONS, committed, records
from waits import PATIENCE, wait

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"no {missing()} in the PATH")
one_broker = pytest.mark.xdist_group("kafka")  # what its tests share


def test_kill_all_round(tmp_path):
    """A small `make chaos`: every kind of victim, one of them while another is still starting. The seed says when."""
    command = [
        sys.executable,
        str(ROOT / "chaos" / "run.py"),
        "--kills",
        "4",
        "--seed",
        "237",
        "--variant",
        "discarding",
    ]
    command += ["--rate", "500", "--window-payments", "1000", "--pause-seconds", "0.3", "1.5"]
    command += ["--during-recovery", "0.4", "--keep"]
    log = tmp_path / "log"
    with log.open("wb") as out:
        driver = subprocess.Popen(
            [*command, "--directory", str(tmp_path)], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        assert driver.wait(400) == 0, log.read_text()
    finally:
        driver.terminate()  # it ends what it has started
        driver.wait(PATIENCE)
    (path,) = tmp_path.glob("chaos-*/report.json")
    report = json.loads(path.read_text())
    assert report["found"] == {"lost": 0, "doubled": 0, "torn": 0, "disorder": 0, "wrong": 0}
    assert {kill["victim"] for kill in report["kills"]} >= {"server", "broker"}
    assert {kill["victim"] for kill in report["kills"]} & {"worker", "pool"}
    assert any(kill["phase"] != "running" for kill in report["kills"])
    assert report["payments"] > 1000 and report["script_code"] == 0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory) -> Iterator[KafkaNode]:
    with KafkaNode(tmp_path_factory.mktemp("kafka")) as node:
        yield node


class Job:
    """The pipeline forever.py on a server, with harnesses of a worker pool, and what it has written."""

    def __init__(self, kafka: KafkaNode, name: str, log: Path) -> None:
        self.kafka, self.log = kafka, log
        self.input, self.output = f"{name}-in", f"{name}-out"
        create_topics(kafka.bootstrap, {self.input: PARTITIONS, self.output: 1})
        self.producer = Payments(kafka.bootstrap, self.input, PARTITIONS)
        self.windows = 0

    def submit(self, server: Server, worker_pool: str) -> str:
        topics = ["--bootstrap", self.kafka.bootstrap, "--input", self.input, "--output", self.output]
        self.script = start_python(server, "forever.py", *external(worker_pool), *topics, log=self.log)
        self.id = next_job(server, [], self.script, self.log)
        server.api.wait_state(self.id, "RUNNING")
        return self.id

    def produce(self, windows: int = 1) -> None:
        for _ in range(windows):
            self.producer.produce(records(self.windows))
            self.windows += 1

    def caught_up(self, server: Server) -> bool:
        return committed(server, self.id) == self.producer.ends

    def written(self) -> list[int]:
        """What readers of committed records see."""
        topic = Topic(self.kafka.bootstrap, self.output, 1)
        counts = sorted(int(value) for _, _, value in topic.read_to(topic.end_offsets()))
        topic.close()
        return counts

    def expected(self, windows: int) -> list[int]:
        return sorted(number + 1 for number in range(windows) for _ in range(10))

    def end(self) -> None:
        self.script.kill()
        self.script.wait()


@pytest.fixture
def new_job(kafka, tmp_path):
    jobs = []

    def new(name: str) -> Job:
        jobs.append(Job(kafka, name, tmp_path / f"{name}.log"))
        return jobs[-1]

    yield new
    for job in jobs:
        job.end()


def sinks_opened(data_dir: Path) -> int:
    """How often servers on this data directory, or on the one it is a copy of, have opened the job's sink."""
    return (data_dir / "server.log").read_text().count("the sink is open")


def failure(server: Server, job: str) -> str:
    """Waits for the end of a job that fails, and returns its error message."""
    wait(lambda: server.api.job(job)["state"] == "FAILED")
    return server.api.job(job)["last_error"]


@one_broker
def test_of_two_servers_with_one_job_the_first_is_fenced_out(new_job, start_server, tmp_path, worker_pool):
    job, first = new_job("fenced"), start_server()
    job.submit(first, worker_pool)
    job.produce(3)
    wait(lambda: len(job.written()) >= 20)
    first.kill()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    opened = sinks_opened(tmp_path / "copy")
    first = start_server()
    # Until then it would fence out the second.
    wait(lambda: sinks_opened(first.data_dir) > opened, first.log_tail)
    with Server(tmp_path / "copy") as second:
        # Were the first to write everything before that, the second would be refused.
        wait(lambda: sinks_opened(second.data_dir) > opened, second.log_tail)
        job.produce(2)
        error = failure(first, job.id)
        assert error.startswith("kafka-fenced:") and "stop one of them" in error
        wait(lambda: job.caught_up(second))
        second.api.drain(job.id)
        assert second.api.wait_state(job.id) == "DRAINED"
    assert job.written() == job.expected(5)


@one_broker
def test_a_server_on_an_old_copy_is_refused_and_the_job_goes_on(new_job, start_server, tmp_path, worker_pool):
    job, first = new_job("behind"), start_server()
    job.submit(first, worker_pool)
    job.produce(3)
    wait(lambda: len(job.written()) >= 20)
    first.kill()
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    opened = sinks_opened(tmp_path / "copy")
    first = start_server()
    wait(lambda: sinks_opened(first.data_dir) > opened, first.log_tail)
    job.produce(2)
    wait(lambda: len(job.written()) >= 40)
    with Server(tmp_path / "copy") as second:
        error = failure(second, job.id)
        assert error.startswith("outbox-behind:") and "data directory" in error
    job.produce(2)
    wait(lambda: job.caught_up(first))
    first.api.drain(job.id)
    assert first.api.wait_state(job.id) == "DRAINED"
    assert job.written() == job.expected(7)


@one_broker
def test_a_broker_that_is_away(new_job, kafka, start_server, worker_pool):
    """The job says so, waits, and goes on; what was on its way comes once."""
    job, server = new_job("away"), start_server()
    job.submit(server, worker_pool)
    job.produce(3)
    wait(lambda: len(job.written()) >= 20)
    kafka.kill()

    def problems() -> set[str]:
        sources = server.api.job(job.id)["description"]["sources"]
        return {split.get("problem", "") for source in sources for split in source["splits"]} - {""}

    wait(lambda: any("refused" in problem for problem in problems()))
    until = time.monotonic() + 12
    while time.monotonic() < until:
        assert server.api.job(job.id)["state"] == "RUNNING"
        time.sleep(0.5)
    kafka.start()
    wait(lambda: not problems())
    job.produce(2)
    wait(lambda: job.caught_up(server))
    server.api.drain(job.id)
    assert server.api.wait_state(job.id) == "DRAINED"
    assert job.written() == job.expected(5)
