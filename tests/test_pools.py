"""docs/pools.md: several worker pools, a lost one, pools elsewhere, what is not there, and what runs instead."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from conftest import COUNTS, PIPELINES, portable_options, read_counts, start_script
from test_status import jobs, until


class Pool:
    """Beam's worker pool with a boot program. kill ends it with its workers, as the end of a pod does."""

    def __init__(self, folder: Path, prefix: tuple[str, ...] = (), host: str = "127.0.0.1") -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address, self.prefix = f"{host}:{self.port}", prefix
        self.log = folder / f"pool-{self.port}.log"
        self.boot = folder / "boot"
        self.boot.write_text(f'#!/bin/sh\nexec {sys.executable} {PIPELINES / "boot.py"} "$@"\n')
        self.boot.chmod(0o755)
        self.process: subprocess.Popen | None = None

    def start(self, wait: bool = True) -> "Pool":
        command = [*self.prefix, sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
        command += [f"--service_port={self.port}", f"--container_executable={self.boot}"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if wait:
            until(self.listens, "the worker pool")
        return self

    def listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(tuple(self.address.rsplit(":", 1)), 1).close()
        except OSError:
            return False
        return True

    def workers(self) -> int:
        """How many workers it has, as the children of its process."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return len(found.stdout.split())

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def new_pool(tmp_path) -> Iterator[Callable[..., Pool]]:
    made: list[Pool] = []

    def make(**kwargs) -> Pool:
        made.append(Pool(tmp_path, **kwargs))
        return made[-1]

    yield make
    for pool in made:
        pool.kill()


def word_count(server, source: Path, output: Path, *flags: str):
    pipeline = beam.Pipeline(options=portable_options(server, *flags))
    (
        pipeline
        | beam.io.ReadFromText(str(source))
        | beam.FlatMap(lambda line: [(word, 1) for word in line.split()])
        | beam.CombinePerKey(sum)
        | beam.MapTuple(lambda word, count: f"{word}: {count}")
        | beam.io.WriteToText(str(output))
    )
    return pipeline.run()


def external(*pools: Pool) -> list[str]:
    return ["--environment_type=EXTERNAL", "--environment_config=" + ",".join(pool.address for pool in pools)]


def used(server, job: str) -> set[str]:
    return {worker.get("worker_pool", "") for worker in server.api.job(job)["description"]["workers"]}


def says(server, job: str, text: str) -> Callable[[], bool]:
    return lambda: any(text in message["text"] for message in server.api.messages(job))


def test_a_lost_pool_is_made_up_for(server, new_pool, tmp_path):
    elements = 60_000  # minutes, unless they become quick
    one, two = new_pool().start(wait=False), new_pool(host="127.0.0.2").start(wait=False)
    until(lambda: one.listens() and two.listens(), "the worker pools")
    before = {job["id"] for job in server.api.jobs()}
    arguments = ["--folder", str(tmp_path), "--elements", str(elements), "--sdk_worker_parallelism=1"]
    script = start_script(server, "spread.py", *external(one, two), *arguments, log=tmp_path / "script.log")
    try:
        until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, "a process of each pool")
        (job,) = [job["id"] for job in server.api.jobs() if job["id"] not in before]
        assert (one.workers(), two.workers()) == (1, 1)

        one.kill()
        until(says(server, job, f"the worker pool at {one.address} is lost"), "the message of the loss")
        until(lambda: two.workers() == 2, "the lost worker's successor")

        one.start()
        until(says(server, job, f"the worker pool at {one.address} is back"), "the message of the return")
        until(lambda: used(server, job) == {one.address, two.address}, "a worker of the pool that is back")
        described = jobs(server, "describe", job).stdout
        assert f"EXTERNAL {one.address},{two.address}" in described, described
    finally:
        (tmp_path / "quick").touch()
        code = script.wait(120)
    assert code == 0, (tmp_path / "script.log").read_text()
    lines = [line for shard in tmp_path.glob("out-*") for line in shard.read_text().splitlines()]
    assert sorted(lines, key=int) == [str(n) for n in range(elements)]


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Another host, to all appearances: a network namespace with one link to this one, and no loopback interface."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("needs root and iproute2 for a network namespace")
    name, here, there = f"pst{os.getpid()}", f"10.213.{os.getpid() % 250}.1", f"10.213.{os.getpid() % 250}.2"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
    try:
        for command in (
            f"ip link add {name}a type veth peer name {name}b netns {name}",
            f"ip addr add {here}/24 dev {name}a",
            f"ip link set {name}a up",
            f"ip -n {name} addr add {there}/24 dev {name}b",
            f"ip -n {name} link set {name}b up",
        ):
            subprocess.run(command.split(), check=True)
        yield here, there, ("ip", "netns", "exec", name)
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=True)


def test_a_pool_on_another_host(start_server, elsewhere, new_pool, text, tmp_path):
    here, there, inside = elsewhere
    pool = new_pool(host=there, prefix=inside).start()
    flags = ["--worker-endpoint", "0.0.0.0:0", "--allow-remote-worker-endpoint", "--advertised-worker-host", here]
    server = start_server(extra=flags)
    word_count(server, text, tmp_path / "counts", *external(pool)).wait_until_finish()
    assert read_counts(tmp_path / "counts") == COUNTS
    pool.kill()


def test_what_is_not_there_is_refused_at_once(server, new_pool, text, tmp_path):
    before = server.api.jobs()
    for flags, code in (
        (external(new_pool(), new_pool()), "harness-worker-pool"),
        (["--environment_type=PROCESS", '--environment_config={"command": "/no/such/boot"}'], "harness-start"),
        ([*external(new_pool()), "--environment_override=nonsense"], "environment-override"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            word_count(server, text, tmp_path / "counts", *flags)
        assert code in refused.value.details() and "hint" in refused.value.details(), refused.value
        assert refused.value.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT)
    assert server.api.jobs() == before


def test_an_image_is_run_by_a_pool_that_comes_up_later(start_server, new_pool, text, tmp_path):
    pool, image = new_pool(), "apache/beam_python3.11_sdk:2.77.0"
    flags = ["--environment-override", f"apache/beam_python*=EXTERNAL:{pool.address}"]
    server = start_server(extra=[*flags, "--worker-pool-wait-seconds=120"])
    environment = ["--environment_type=DOCKER", f"--environment_config={image}"]
    result = word_count(server, text, tmp_path / "counts", *environment)
    (job,) = [job["id"] for job in server.api.jobs()]
    until(says(server, job, "(for 2m0s at most) failed and will be tried again"), "the message that the job waits")
    assert says(server, job, f"EXTERNAL {pool.address} instead of DOCKER {image}")()
    described = jobs(server, "describe", job).stdout
    assert f"EXTERNAL {pool.address}" in described and f"DOCKER {image}" in described, described
    pool.start()
    assert result.wait_until_finish() == "DONE"
    assert read_counts(tmp_path / "counts") == COUNTS
