"""A streaming job is stopped with a savepoint, and a changed pipeline goes on from it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from broker import Payments, Topic
from conftest import LOOPBACK, PIPELINES, next_job, start_python
from generate import Record
from server import BINARY
from test_recovery import START_MS, WINDOW_MS
from waits import PATIENCE, wait

KEYS = [f"key{n}" for n in range(10)]


def records(window: int, per_key: int) -> list[Record]:
    at = START_MS + window * WINDOW_MS
    return [Record(n % 2, at + n, KEYS[n % 10].encode(), b"x") for n in range(10 * per_key)]


class Editions:
    """editions.py on a server of its own."""

    def __init__(self, kafka: str, start_server, new_topic, tmp_path) -> None:
        self.kafka, self.tmp_path = kafka, tmp_path
        self.server = start_server()
        self.source = new_topic("upgrade-in", 2)
        self.groups, self.totals = new_topic("upgrade-groups"), new_topic("upgrade-totals")
        self.place = str(tmp_path / "place")
        self.producer = Payments(kafka, self.source, 2)
        self.scripts: list[subprocess.Popen] = []

    def arguments(self, *more: str) -> list[str]:
        topics = ["--input", self.source, "--groups", self.groups, "--totals", self.totals]
        return ["--bootstrap", self.kafka, *topics, *more]

    def start(self, *more: str, python: str = sys.executable) -> str:
        """Starts an edition and returns its job once that runs."""
        before, log = self.server.api.jobs(), self.tmp_path / f"script{len(self.scripts)}.log"
        arguments = self.arguments(*LOOPBACK, *more)
        self.scripts.append(start_python(self.server, "editions.py", *arguments, log=log, python=python))
        job = next_job(self.server, before, self.scripts[-1], log)
        self.server.api.wait_state(job, "RUNNING")
        return job

    def run(self, *flags: str, script: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        """Has `padstone run` try an edition."""
        command = [
            str(BINARY),
            "run",
            "--server",
            f"http://{self.server.endpoints['http']}",
            "--python",
            sys.executable,
        ]
        command += [*flags, str(PIPELINES / "editions.py"), *self.arguments(*script)]
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)

    def stop(self, job: str) -> None:
        command = [
            str(BINARY),
            "jobs",
            "stop",
            job,
            "--savepoint",
            self.place,
            "--server",
            self.server.endpoints["http"],
        ]
        stopped = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert stopped.returncode == 0, stopped.stderr

    def lines(self, topic: str) -> list[str]:
        """What readers of committed records see."""
        reader = Topic(self.kafka, topic, 1)
        values = [value.decode() for _, _, value in reader.read_to(reader.end_offsets())]
        reader.close()
        return sorted(values)

    def close(self) -> None:
        for script in self.scripts:
            script.kill()
            script.wait()


@pytest.fixture
def editions(server, start_server, new_topic, tmp_path) -> Iterator[Editions]:
    made = Editions(server.kafka, start_server, new_topic, tmp_path)
    yield made
    made.close()


def line(key: str, window: int, *rest) -> str:
    return " ".join([key, str((START_MS + window * WINDOW_MS) // 1000), *map(str, rest)])


def test_a_changed_pipeline_goes_on_from_a_savepoint(editions):
    first = editions.start()
    editions.producer.produce(records(0, 3))
    editions.producer.produce(records(1, 4))  # closes window 0; window 1 stays open
    wait(lambda: len(editions.lines(editions.totals)) == 10 and len(editions.lines(editions.groups)) == 10)
    editions.stop(first)
    editions.producer.produce(records(1, 2))  # while no job runs

    second = ("--edition", "2", "--experiments=padstone_no_fusion")
    dry = editions.run("--from-savepoint", editions.place, "--dry-run", script=second)
    assert dry.returncode == 0, dry.stderr
    assert "the pipeline would start" in dry.stderr and "Traceback" not in dry.stderr
    for what in ("carried over  source    Read", "carried over  grouping  Group", "carried over  state     Totals"):
        assert what in dry.stderr
    assert len(editions.server.api.jobs()) == 1

    renamed = (*second, "--totals_name", "Sums")
    refused = editions.run("--from-savepoint", editions.place, script=renamed)
    assert refused.returncode == 1 and "savepoint-not-restored" in refused.stderr and 'state "Totals"' in refused.stderr

    # The SDK's own option, as a user without padstone run gives it.
    job = editions.start(
        f"--savepoint_path={editions.place}/{first}", '--transform_name_mapping={"Totals": "Sums"}', *renamed
    )
    editions.producer.produce(records(2, 1))
    wait(lambda: len(editions.lines(editions.totals)) == 20 and len(editions.lines(editions.groups)) == 20)
    editions.server.api.drain(job)
    assert editions.server.api.wait_state(job) == "DRAINED"
    counts = {0: 3, 1: 6, 2: 1}
    assert editions.lines(editions.groups) == sorted(
        line(key, window, count) for window, count in counts.items() for key in KEYS
    )
    by = {0: "1", 1: "12", 2: "2"}
    assert editions.lines(editions.totals) == sorted(
        line(key, window, count, by[window]) for window, count in counts.items() for key in KEYS
    )


@pytest.mark.skipif("PADSTONE_OLDEST" not in os.environ, reason="make test-oldest has the oldest SDK")
def test_a_newer_beam_goes_on_where_the_oldest_one_was_stopped(editions):
    first = editions.start(python=os.environ["PADSTONE_OLDEST"])
    editions.producer.produce(records(0, 3))
    editions.producer.produce(records(1, 4))
    wait(lambda: len(editions.lines(editions.totals)) == 10 and len(editions.lines(editions.groups)) == 10)
    editions.stop(first)
    job = editions.start(f"--savepoint_path={editions.place}")
    editions.producer.produce(records(1, 2))
    editions.producer.produce(records(2, 1))
    wait(lambda: len(editions.lines(editions.totals)) == 20 and len(editions.lines(editions.groups)) == 20)
    editions.server.api.drain(job)
    assert editions.server.api.wait_state(job) == "DRAINED"
    counts = {0: 3, 1: 6, 2: 1}
    assert editions.lines(editions.groups) == sorted(
        line(key, window, count) for window, count in counts.items() for key in KEYS
    )
    assert editions.lines(editions.totals) == sorted(
        line(key, window, count, "1") for window, count in counts.items() for key in KEYS
    )
