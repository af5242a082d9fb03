"""The Docker Engine that tests run containers on, and the images that `make images` has built.

Tests never start an engine and never build an image: without one they skip, saying what is missing. With
PADSTONE_DOCKER=required, as in continuous integration, they fail instead.
"""

import json
import os
import shutil
import subprocess
import sys
from typing import NoReturn

import apache_beam
import pytest
from waits import PATIENCE

HARNESS = f"padstone/beam_python{sys.version_info.major}.{sys.version_info.minor}_sdk:{apache_beam.version.__version__}"
SERVER = "padstone/server:latest"


def docker(*arguments: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def missing() -> str:
    """What is missing for the tests of containers, "" if nothing."""
    if not shutil.which("docker"):
        return "no docker command"
    done = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        return f"no Docker Engine: {done.stderr.strip()}"
    absent = [image for image in (HARNESS, SERVER) if not docker("images", "--quiet", image)]
    return f"no image {' and '.join(absent)}: run `make images`" if absent else ""


def lacking(what: str) -> NoReturn:
    """Skips the test, or fails it where an engine must be there."""
    if os.environ.get("PADSTONE_DOCKER") == "required":
        pytest.fail(what)
    pytest.skip(what)


def require() -> None:
    """For tests that run containers; the fixture docker_engine calls it."""
    if what := missing():
        lacking(what)


def containers(*filters: str) -> list[dict]:
    """The containers, dead or alive, with these labels: id, name, image, state and so on, as `docker ps` has them."""
    arguments = [word for label in filters for word in ("--filter", f"label={label}")]
    lines = docker("ps", "--all", "--no-trunc", "--format", "{{json .}}", *arguments).splitlines()
    return [json.loads(line) for line in lines]


def of_job(job: str) -> list[dict]:
    return containers(f"io.padstone.job-id={job}")


def running(job: str) -> set[str]:
    return {one["ID"] for one in of_job(job) if one["State"] == "running"}


def compose_command() -> list[str]:
    """The command of Docker Compose, as a plugin or a program of its own; skips the test, or fails it, without one."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    if not shutil.which("docker-compose"):
        lacking("neither docker compose nor docker-compose is there")
    return ["docker-compose"]
