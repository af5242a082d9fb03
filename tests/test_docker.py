"""Harnesses in containers (DOCKER), on a Docker Engine that runs and the images of `make images`."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from broker import Payments, Topic
from conftest import IN_CONTAINERS, next_job, run_python, start_python
from docker_engine import HARNESS, docker, of_job, running
from server import ROOT, Server
from test_recovery import PARTITIONS, committed, records
from waits import PATIENCE, wait

pytestmark = pytest.mark.usefixtures("docker_engine")


class Demo:
    """The demo with its harness in containers. What it prints is in a file."""

    def __init__(self, directory: Path, network: str, processes: int) -> None:
        self.log = directory / f"{network}.log"
        self.containers: set[str] = set()
        command = [sys.executable, str(ROOT / "demo" / "run.py"), "--image", HARNESS, "--network", network]
        command += ["--processes", str(processes), "--payments", "2000", "--pace-seconds", "0.3"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--early-seconds", "1"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def job(self) -> str:
        """The id of its job, "" before it has one."""
        words = self.log.read_text().partition(" is running; ")[0].split()
        return words[-1] if words and words[-1].startswith("payments-demo") else ""

    def follow(self) -> None:
        """Notes its containers in a thread until it ends: one demo may be over before the other has begun."""

        def look() -> None:
            while self.process.poll() is None:
                if job := self.job():
                    self.containers |= {one["ID"] for one in of_job(job)}
                time.sleep(0.1)

        threading.Thread(target=look, daemon=True).start()

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)  # it stops its server
        self.process.wait(PATIENCE)


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_the_demo_in_containers(processes, tmp_path):
    """Exact totals on both networks at once, with so many containers, of which none is left."""
    demos = [Demo(tmp_path, network, processes) for network in ("host", "bridge")]
    try:
        for demo in demos:
            demo.follow()
        for demo in demos:
            assert demo.process.wait(PATIENCE) == 0, demo.log.read_text()
            assert "totals are exact" in demo.log.read_text()
            assert len(demo.containers) == processes
            assert of_job(demo.job()) == []
    finally:
        for demo in demos:
            demo.end()


def test_nothing_is_lost_with_containers_and_servers_that_are_killed(server, start_server, new_topic, tmp_path):
    source, target = new_topic("docker-in", PARTITIONS), new_topic("docker-out")
    own, log = start_server(), tmp_path / "script.log"
    arguments = ["--bootstrap", server.kafka, "--input", source, "--output", target, "--sdk_worker_parallelism=2"]
    script = start_python(own, "forever.py", *IN_CONTAINERS, *arguments, log=log)
    try:
        job = next_job(own, [], script, log)
        own.api.wait_state(job, "RUNNING")
        producer = Payments(server.kafka, source, PARTITIONS)
        for number in range(2):  # SIGKILL to every container, with records in all stages
            wait(lambda: len(running(job)) == 2)
            before = running(job)
            producer.produce(records(number))
            for one in sorted(before):
                docker("kill", one)
            wait(lambda before=before: not before & {one["ID"] for one in of_job(job)})
        wait(lambda: own.log_path.read_text().count("signal: killed") >= 4, own.log_tail)
        wait(lambda: len(running(job)) == 2)
        before = running(job)
        producer.produce(records(2))
        own.kill()  # its containers outlive it, and the next server removes them
        assert before <= {one["ID"] for one in of_job(job)}
        own = start_server()
        own.api.wait_state(job, "RUNNING")
        wait(lambda: not before & {one["ID"] for one in of_job(job)})
        producer.produce(records(3))
        wait(lambda: committed(own, job) == producer.ends)
        own.api.drain(job)
        assert own.api.wait_state(job) == "DRAINED"
        wait(lambda: of_job(job) == [])
    finally:
        script.kill()
        script.wait()
    topic = Topic(server.kafka, target, 1)
    counts = sorted(int(value) for _, _, value in topic.read_to(topic.end_offsets()))
    topic.close()
    assert counts == sorted([number + 1 for number in range(4) for _ in range(10)])


def test_what_user_code_logs_is_under_its_transforms(start_server, tmp_path):
    own = start_server()
    done = run_python(own, "containers.py", *IN_CONTAINERS, "--docker_env=TZ=UTC")
    assert done.returncode == 0, done.stderr
    (job,) = (job["id"] for job in own.api.jobs())
    texts = [message["text"] for message in own.api.messages(job)]
    assert any(text.startswith("[Tell where] element 7 on ") for text in texts), texts
    wait(lambda: of_job(job) == [])


def test_a_container_out_of_memory_is_named_and_gone_after_a_cancel(start_server, tmp_path):
    own, log = start_server(), tmp_path / "script.log"
    script = start_python(own, "containers.py", *IN_CONTAINERS, "--eat=2000", "--docker_memory=500m", log=log)
    try:
        job = next_job(own, [], script, log)
        wait(lambda: any("killed a process of it for memory" in m["text"] for m in own.api.messages(job)))
        text = next(m["text"] for m in own.api.messages(job) if "for memory" in m["text"])
        assert "500MiB" in text and "Eat memory" in text
        own.api.cancel(job)
        assert own.api.wait_state(job) == "CANCELLED"
        wait(lambda: of_job(job) == [])
    finally:
        script.kill()
        script.wait()


def refused(server: Server, text: Path, output: Path, *flags: str) -> str:
    done = run_python(server, "wordcount.py", *flags, "--input", str(text), "--output", str(output))
    assert done.returncode != 0
    return done.stderr


def test_an_image_that_is_not_there_is_refused_with_a_hint(start_server, text, tmp_path):
    flags = ["--environment_type=DOCKER", "--environment_config=padstone/nowhere:1", "--docker_pull=never"]
    error = refused(start_server(), text, tmp_path / "counts", *flags)
    assert "docker-no-image" in error and "padstone/nowhere:1" in error and "hint: load or build the image" in error
