"""The server over its life: restarts, many jobs, its command line."""

import subprocess

import apache_beam as beam
import grpc
import pytest
from apache_beam.metrics import Metrics
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.testing.util import assert_that, equal_to
from conftest import portable_options
from server import BINARY, Server, ServerError
from waits import PATIENCE, wait


def small_job(server: Server, name: str) -> beam.Pipeline:
    def count(number):
        Metrics.counter("small", "seen").inc()
        return number % 3, number

    pipeline = beam.Pipeline(options=portable_options(server, f"--job_name={name}"))
    sums = pipeline | beam.Create([1, 2, 3, 4]) | "Count it" >> beam.Map(count) | beam.CombinePerKey(sum)
    assert_that(sums, equal_to([(0, 3), (1, 5), (2, 2)]))
    return pipeline


def run_small_job(server: Server, name: str) -> None:
    small_job(server, name).run().wait_until_finish()


def metrics_of(server: Server, job_id: str) -> dict[str, bytes]:
    with grpc.insecure_channel(server.job_endpoint) as channel:
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        request = beam_job_api_pb2.GetJobMetricsRequest(job_id=job_id)
        return {
            info.labels["NAME"]: info.payload
            for info in stub.GetJobMetrics(request, timeout=PATIENCE).metrics.committed
            if info.labels.get("NAMESPACE") == "small"
        }


def test_a_restarted_server_knows_its_jobs_messages_and_metrics(start_server):
    first = start_server()
    run_small_job(first, "before-the-restart")
    (job,) = first.api.jobs()
    before = first.api.job(job["id"]), first.api.messages(job["id"]), metrics_of(first, job["id"])
    assert before[2], "the job's own counter is missing"
    assert first.stop() == 0

    second = start_server()
    assert [j["id"] for j in second.api.jobs()] == [job["id"]]
    after = second.api.job(job["id"]), second.api.messages(job["id"]), metrics_of(second, job["id"])
    assert after == before
    run_small_job(second, "after-the-restart")
    assert len(second.api.jobs()) == 2


def test_a_killed_server_starts_again(start_server):
    first = start_server()
    run_small_job(first, "before-the-kill")
    first.kill()
    second = start_server()
    (job,) = second.api.jobs()
    assert (job["name"], job["state"]) == ("before-the-kill", "DONE")
    run_small_job(second, "after-the-kill")


def test_one_data_directory_takes_one_server(start_server, tmp_path):
    first = start_server()
    with pytest.raises(ServerError, match="exit code"):
        Server(tmp_path / "data").start()
    assert first.alive()
    run_small_job(first, "still-works")


def test_a_port_in_use_is_an_error_that_names_it(server, tmp_path):
    taken = Server(tmp_path / "other", extra=["--http", server.endpoints["http"]])
    with pytest.raises(ServerError, match=server.endpoints["http"].rpartition(":")[2]):
        taken.start()


def test_addresses_beyond_this_machine_need_a_flag_of_their_own(tmp_path):
    open_to_all = Server(tmp_path / "open", extra=["--http", "0.0.0.0:0"])
    with pytest.raises(ServerError, match="allow-remote-http"):
        open_to_all.start()


GAUGES = {
    # How much more than before the load may be left after it.
    "go_goroutines": 20,
    "process_open_fds": 20,
    "process_resident_memory_bytes": 150 << 20,
}


def test_fifty_jobs_and_ten_at_once_leave_the_server_as_it_was(start_server):
    server = start_server()
    pipeline = small_job(server, "again-and-again")
    for _ in range(10):
        pipeline.run().wait_until_finish()
    before = server.api.metrics()

    for _ in range(50):
        pipeline.run().wait_until_finish()
    for result in [pipeline.run() for _ in range(10)]:
        result.wait_until_finish()
    assert [job["state"] for job in server.api.jobs()] == ["DONE"] * 70

    def grown() -> dict[str, float]:
        """What is more than it may be. Connections end, and memory is given back, a while after the jobs."""
        after = server.api.metrics()
        growth = {name: after[name] - before[name] for name in GAUGES}
        return {name: growth[name] for name in GAUGES if growth[name] > GAUGES[name]}

    wait(lambda: not grown(), lambda: f"left behind: {grown()}")


def padstone(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=PATIENCE)


def test_the_command_line_lists_and_describes_jobs(server):
    run_small_job(server, "seen-on-the-command-line")
    address = ["--server", f"http://{server.endpoints['http']}"]
    listed = padstone("jobs", "list", *address)
    assert listed.returncode == 0, listed.stderr
    (line,) = [line for line in listed.stdout.splitlines() if "seen-on-the-command-line" in line]
    assert "DONE" in line
    described = padstone("jobs", "describe", line.split()[0], *address)
    assert described.returncode == 0, described.stderr
    assert "Count it" in described.stdout


def test_a_command_without_a_server_says_so():
    done = padstone("jobs", "list", "--server", "http://127.0.0.1:1")
    assert done.returncode == 69
    assert "127.0.0.1:1" in done.stderr
