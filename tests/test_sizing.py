"""Harness processes come and go by what there is to do, without a payment lost or counted twice."""

import contextlib
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from broker import Payments, Topic
from conftest import PROCESS, next_job, run_python, start_script
from generate import Record
from pools import external
from server import BINARY, Server
from waits import PATIENCE, wait

START_MS = 1_790_000_000_000
MINUTES, A_MINUTE, MERCHANTS = 10, 300, 40


def await_pool(server: Server, job: str, what: str, holds) -> dict:
    """Waits until the job's pool is as it should be, and returns it."""

    def pools() -> list[dict]:
        return server.api.job(job)["description"].get("pools") or []

    return wait(
        lambda: next((pool for pool in pools()[:1] if holds(pool)), None),
        lambda: f"not {what}: {pools()}\n{server.log_tail()}",
    )


def metrics(server: Server) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{server.endpoints['http']}/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    found = (line.rsplit(" ", 1) for line in lines if line.startswith("padstone_harness_"))
    return {name.partition("{")[0]: float(value) for name, value in found}


def produce(server: Server, topic: str, partitions: int) -> None:
    """Payments of ten minutes, each merchant's in one partition."""
    payments = Payments(server.kafka, topic, partitions)
    records = []
    for n in range(MINUTES * A_MINUTE):
        merchant = n % MERCHANTS
        at = START_MS + n * 60_000 // A_MINUTE
        records.append(Record(merchant % partitions, at, f"m{merchant:02d}".encode(), str(n).encode()))
    payments.produce(records)


def read(server: Server, topic: str) -> list[bytes]:
    reader = Topic(server.kafka, topic, 1)
    try:
        return [value for _, _, value in reader.read_to(reader.end_offsets())]
    finally:
        reader.close()


@contextlib.contextmanager
def backlog(server: Server, tmp_path, *options: str) -> Iterator[tuple[str, Path]]:
    """A job before which ten minutes of payments wait, and the file that keeps it slow. Each must be numbered once."""
    slow = tmp_path / "slow"
    slow.touch()
    produce(server, "payments", 4)
    log = tmp_path / "script.log"
    topics = ["--bootstrap", server.kafka, "--input=payments", "--output=numbers", "--totals=totals"]
    script = start_script(server, "backlog.py", *PROCESS, *topics, f"--slow_while={slow}", *options, log=log)
    try:
        job = next_job(server, [], script, log)
        yield job, slow
        server.api.drain(job)
        assert server.api.wait_state(job) == "DRAINED"
    finally:
        script.kill()
        script.wait()
    every = {n: n // MERCHANTS + 1 for n in range(MINUTES * A_MINUTE)}
    numbers = Counter(tuple(map(int, value.split())) for value in read(server, "numbers"))
    assert numbers == Counter(every.items())
    assert sum(map(int, read(server, "totals"))) == len(every)


TOPICS = "payments:4,numbers:1,totals:1"


def test_a_backlog_makes_the_pool_grow_and_later_shrink(start_server, tmp_path):
    quick = ["--autoscaling-interval=100ms", "--autoscaling-idle-time=1s"]
    server = start_server(kafka_topics=TOPICS, extra=quick)
    with backlog(server, tmp_path, "--sdk_worker_parallelism=1", "--max_num_workers=3") as (job, slow):
        grown = await_pool(server, job, "grown", lambda pool: pool["ready"] >= 2)
        assert grown["sized"] and (grown["min"], grown["max"]) == (1, 3) and "what waits" in grown["reason"], grown
        slow.unlink()
        command = [str(BINARY), "jobs", "describe", job, "--server", server.endpoints["http"]]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE).stdout
        assert "POOL" in shown and "1-3" in shown and "has had" in shown, shown
        found = metrics(server)
        assert found["padstone_harness_processes_max"] == 3 and found["padstone_harness_grown_total"] >= 1, found
        await_pool(server, job, "shrunk", lambda pool: pool["ready"] == 1 and not pool["ending"] and pool["shrunk"] > 0)
        texts = "\n".join(message["text"] for message in server.api.messages(job))
        assert "grows from 1 to 2 harness processes: what waits would take" in texts, texts
        assert "harness processes: for" in texts, texts


def test_a_process_with_too_much_memory_is_replaced(start_server, tmp_path):
    server = start_server(kafka_topics=TOPICS)
    leaks = ["--leak=300000", "--seconds=0.01", "--harness_memory_limit=400MiB"]
    with backlog(server, tmp_path, "--sdk_worker_parallelism=1", *leaks) as (job, slow):
        first = await_pool(server, job, "replaced", lambda pool: pool["recycled"] == 1)
        slow.unlink()
        assert (first["wanted"], first["min"], first["max"]) == (1, 1, 1), first
        await_pool(server, job, "alone", lambda pool: pool["ready"] == 1 and pool["ending"] == 0)
        texts = "\n".join(message["text"] for message in server.api.messages(job))
        assert "more than the limit of 400 MiB: another one takes its place" in texts, texts
        stages = server.api.job(job)["description"]["stages"]
        assert not any(stage.get("bundles_lost") or stage.get("bundles_failed") for stage in stages), stages


def test_a_job_adopts_a_warm_worker(start_server, worker_pool, tmp_path):
    server = start_server(extra=["--warm-workers", worker_pool])
    wait(lambda: "a worker is kept warm" in server.log_tail(), server.log_tail)
    done = run_python(server, "lifecycle.py", *external(worker_pool), f"--diary={tmp_path / 'diary'}")
    assert done.returncode == 0, done.stderr
    (job,) = server.api.jobs()
    (worker,) = server.api.job(job["id"])["description"]["workers"]
    assert worker["id"].startswith("warm-"), worker
    assert "teardown" in (tmp_path / "diary").read_text()
