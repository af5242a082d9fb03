"""Fixtures for tests from the outside: everything goes through bin/padstone, a Beam SDK and sockets."""

import itertools
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from broker import create_topics
from server import BINARY, Server

TEXT = "the beam rests on the block\nthe block spreads the load\n"
COUNTS = {"the": 4, "beam": 1, "rests": 1, "on": 1, "block": 2, "spreads": 1, "load": 1}
PIPELINES = Path(__file__).resolve().parent / "pipelines"


@pytest.fixture(scope="session", autouse=True)
def quiet_sdk() -> None:
    logging.getLogger("apache_beam").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    """One server with a Kafka broker for all tests that leave it as it was."""
    with Server(tmp_path_factory.mktemp("padstone"), kafka_topics="unused:1") as started:
        yield started
        assert started.alive(), f"the server has died:\n{started.log_tail()}"


@pytest.fixture
def start_server(tmp_path) -> Iterator[Callable[..., Server]]:
    """Starts servers of a test's own on one data directory; stops what is left of them."""
    started: list[Server] = []

    def start(**kwargs) -> Server:
        one = Server(tmp_path / "data", **kwargs)
        started.append(one)
        return one.start()

    yield start
    for one in started:
        if one.alive():
            one.stop()


@pytest.fixture(scope="session")
def new_topic(server) -> Callable[..., str]:
    """Makes a topic of a name not used before on the server's broker."""
    numbers = itertools.count()

    def create(prefix: str, partitions: int = 1) -> str:
        name = f"{prefix}-{next(numbers)}"
        create_topics(server.kafka, {name: partitions})
        return name

    return create


@pytest.fixture
def worker_pool(tmp_path):
    """An SDK worker pool in a process of its own, as a container image starts it."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    # The pool starts its workers with the "python" of the PATH.
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with (tmp_path / "pool.log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("localhost", port), 1).close()
            break
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, "the worker pool does not start"
            time.sleep(0.1)
    yield f"localhost:{port}"
    process.terminate()
    process.wait(20)


def portable_options(server: Server, *extra: str, runner: str = "PortableRunner") -> PipelineOptions:
    """Options with which an unmodified SDK finds the server, its expansion service included."""
    flags = [f"--runner={runner}", f"--job_endpoint={server.job_endpoint}"]
    if not any(option.startswith("--environment_type") for option in extra):
        flags.append("--environment_type=LOOPBACK")
    overrides = f'{{"sdks:java:io:expansion-service:shadowJar": "{server.endpoints["expansion"]}"}}'
    # Without the experiment the SDK runs `pip freeze` for every job, which takes longer than a small job.
    flags += [f"--beam_services={overrides}", "--experiments=disable_logging_submission_environment"]
    return PipelineOptions([*flags, *extra])


def start_script(server: Server, script: str, *arguments: str, log: Path) -> subprocess.Popen:
    """Starts `padstone run` on a script of pipelines/ with its output in a file."""
    command = [str(BINARY), "run", "--server", f"http://{server.endpoints['http']}", "--python", sys.executable]
    with log.open("wb") as out:
        return subprocess.Popen(
            [*command, str(PIPELINES / script), *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )


def run_python(server: Server, script: str, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess:
    """Runs a script of pipelines/ as a Beam user would without `padstone run`."""
    options = ["--runner=PortableRunner", f"--job_endpoint={server.job_endpoint}"]
    return subprocess.run(
        [sys.executable, str(PIPELINES / script), *options, *arguments],
        env={**server.script_env(), "PYTHONUNBUFFERED": "1", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def read_counts(prefix) -> dict[str, int]:
    lines = [line for shard in prefix.parent.glob(f"{prefix.name}*") for line in shard.read_text().splitlines()]
    assert len(lines) == len(set(lines)), "a word was written twice"
    return {word: int(count) for word, count in (line.split(": ") for line in lines)}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path
