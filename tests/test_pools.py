"""docs/pools.md: several worker pools, a lost one, pools elsewhere, what is not there, and what runs instead."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import apache_beam as beam
import grpc
import pytest
from conftest import COUNTS, next_job, portable_options, read_counts, start_script
from pools import external
from test_status import jobs
from waits import PATIENCE, wait


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


def used(server, job: str) -> set[str]:
    return {worker.get("worker_pool", "") for worker in server.api.job(job)["description"].get("workers", ())}


def says(server, job: str, text: str) -> Callable[[], bool]:
    return lambda: any(text in message["text"] for message in server.api.messages(job))


def test_a_lost_pool_is_made_up_for(server, new_pool, tmp_path):
    elements = 60_000  # minutes, unless they become quick
    one = new_pool(host="127.0.0.1", boot_program=True).start(ready=False)
    two = new_pool(host="127.0.0.2", boot_program=True).start(ready=False)
    wait(lambda: one.listens() and two.listens(), "the worker pools")
    before, log = server.api.jobs(), tmp_path / "script.log"
    arguments = ["--folder", str(tmp_path), "--elements", str(elements), "--sdk_worker_parallelism=1"]
    script = start_script(server, "spread.py", *external(one, two), *arguments, log=log)
    try:
        wait(lambda: len(list(tmp_path.glob("*.pid"))) == 2, "a process of each pool")
        job = next_job(server, before, script, log)
        assert (one.workers(), two.workers()) == (1, 1)

        one.kill()
        wait(says(server, job, f"the worker pool at {one.address} is lost"), "the message of the loss")
        wait(lambda: two.workers() == 2, "the lost worker's successor")

        one.start()
        wait(says(server, job, f"the worker pool at {one.address} is back"), "the message of the return")
        wait(lambda: used(server, job) == {one.address, two.address}, "a worker of the pool that is back")
        described = jobs(server, "describe", job).stdout
        assert f"EXTERNAL {one.address},{two.address}" in described, described
    finally:
        (tmp_path / "quick").touch()
        code = script.wait(PATIENCE)
    assert code == 0, log.read_text()
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
    pool = new_pool(host=there, prefix=inside, boot_program=True).start()
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
    pool, image = new_pool(boot_program=True), "apache/beam_python3.11_sdk:2.77.0"
    flags = ["--environment-override", f"apache/beam_python*=EXTERNAL:{pool.address}"]
    server = start_server(extra=[*flags, "--worker-pool-wait-seconds=120"])
    environment = ["--environment_type=DOCKER", f"--environment_config={image}"]
    result = word_count(server, text, tmp_path / "counts", *environment)
    (job,) = [job["id"] for job in server.api.jobs()]
    wait(says(server, job, "(for 2m0s at most) failed and will be tried again"), "the message that the job waits")
    assert says(server, job, f"EXTERNAL {pool.address} instead of DOCKER {image}")()
    described = jobs(server, "describe", job).stdout
    assert f"EXTERNAL {pool.address}" in described and f"DOCKER {image}" in described, described
    pool.start()
    assert result.wait_until_finish() == "DONE"
    assert read_counts(tmp_path / "counts") == COUNTS
