"""Fixtures for tests from the outside: everything goes through bin/padstone, a Beam SDK and sockets."""

import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from broker import create_topics
from docker_engine import HARNESS, require
from pools import Pool
from server import BINARY, Server
from waits import PATIENCE, wait

TEXT = "the beam rests on the block\nthe block spreads the load\n"
COUNTS = {"the": 4, "beam": 1, "rests": 1, "on": 1, "block": 2, "spreads": 1, "load": 1}
PIPELINES = Path(__file__).resolve().parent / "pipelines"

# Without it the SDK runs `pip freeze` for every job, which takes longer than a small job. The demo does not have it.
NO_PIP_FREEZE = "--experiments=disable_logging_submission_environment"

# Options of environments. A harness process of PROCESS is started directly, without a boot program.
LOOPBACK = ["--environment_type=LOOPBACK"]
PROCESS = ["--environment_type=PROCESS", f"--environment_config={json.dumps({'command': sys.executable})}"]
IN_CONTAINERS = ["--environment_type=DOCKER", f"--environment_config={HARNESS}", "--docker_pull=never"]


@pytest.fixture(scope="session", autouse=True)
def quiet_sdk() -> None:
    logging.getLogger("apache_beam").setLevel(logging.ERROR)


@pytest.fixture(scope="session", autouse=True)
def temporary(tmp_path_factory) -> None:
    """What SDKs, and servers that are killed, leave in the directory for temporary files goes with pytest's own."""
    os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("tmp"))
    tempfile.tempdir = None  # to be looked up anew


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
def new_pool(tmp_path) -> Iterator[Callable[..., Pool]]:
    """Makes worker pools, which are yet to be started."""
    made: list[Pool] = []

    def make(**kwargs) -> Pool:
        made.append(Pool(tmp_path, **kwargs))
        return made[-1]

    yield make
    for pool in made:
        pool.kill()


@pytest.fixture
def worker_pool(new_pool) -> str:
    """The address of an SDK worker pool in a process of its own, as a container image starts it."""
    return new_pool().start().address


@pytest.fixture(scope="session")
def docker_engine() -> None:
    """For tests that run containers: skips them, or fails, where there is no engine or no image."""
    require()


def portable_options(server: Server, *extra: str, runner: str = "PortableRunner") -> PipelineOptions:
    """Options with which an unmodified SDK finds the server, its expansion service included."""
    flags = [f"--runner={runner}", f"--job_endpoint={server.job_endpoint}"]
    if not any(option.startswith("--environment_type") for option in extra):
        flags.append("--environment_type=LOOPBACK")
    overrides = f'{{"sdks:java:io:expansion-service:shadowJar": "{server.endpoints["expansion"]}"}}'
    flags += [f"--beam_services={overrides}", NO_PIP_FREEZE]
    return PipelineOptions([*flags, *extra])


def start_script(server: Server, script: str, *arguments: str, log: Path) -> subprocess.Popen:
    """Starts `padstone run` on a script of pipelines/ with its output in a file."""
    command = [str(BINARY), "run", "--server", f"http://{server.endpoints['http']}", "--python", sys.executable]
    with log.open("wb") as out:
        return subprocess.Popen(
            [*command, str(PIPELINES / script), *arguments, NO_PIP_FREEZE],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def python_command(server: Server, script: str, *arguments: str, python: str = sys.executable) -> list[str]:
    options = ["--runner=PortableRunner", f"--job_endpoint={server.job_endpoint}", NO_PIP_FREEZE]
    return [python, str(PIPELINES / script), *options, *arguments]


def run_python(server: Server, script: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs a script of pipelines/ as a Beam user would without `padstone run`."""
    return subprocess.run(
        python_command(server, script, *arguments),
        env={**server.script_env(), "PYTHONUNBUFFERED": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def start_python(server: Server, script: str, *arguments: str, log: Path, python: str = "") -> subprocess.Popen:
    """Starts such a script with its output in a file."""
    with log.open("wb") as out:
        return subprocess.Popen(
            python_command(server, script, *arguments, python=python or sys.executable),
            env=server.script_env(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def next_job(server: Server, before: list[dict], script: subprocess.Popen, log: Path) -> str:
    """Waits for the job of a script that was started when these jobs were there, and returns its id."""
    known = {job["id"] for job in before}

    def new() -> list[str]:
        found = [job["id"] for job in server.api.jobs() if job["id"] not in known]
        assert found or script.poll() is None, log.read_text()
        return found

    (job,) = wait(new, lambda: f"no job comes: {log.read_text()}")
    return job


def read_counts(prefix) -> dict[str, int]:
    lines = [line for shard in prefix.parent.glob(f"{prefix.name}*") for line in shard.read_text().splitlines()]
    assert len(lines) == len(set(lines)), "a word was written twice"
    return {word: int(count) for word, count in (line.split(": ") for line in lines)}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path
