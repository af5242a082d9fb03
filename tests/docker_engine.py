"""The Docker Engine that tests run containers on, and the images that `make images` has built.

Tests never start an engine and never build an image: without one they skip, saying what is missing. With
PADSTONE_DOCKER=required, as in continuous integration, they fail instead.
"""

import json
import os
import shutil
import subprocess
import sys

import apache_beam
import pytest

HARNESS = f"padstone/beam_python{sys.version_info.major}.{sys.version_info.minor}_sdk:{apache_beam.version.__version__}"
SERVER = "padstone/server:latest"


def docker(*arguments: str, check: bool = True, timeout: float = 60) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=timeout)
    assert not check or done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def missing() -> str:
    """What is missing for the tests of containers, "" if nothing."""
    if not shutil.which("docker"):
        return "no docker command"
    done = subprocess.run(["docker", "version"], capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        return f"no Docker Engine: {done.stderr.strip()}"
    absent = [image for image in (HARNESS, SERVER) if not docker("images", "--quiet", image)]
    return f"no image {' and '.join(absent)}: run `make images`" if absent else ""


def require() -> None:
    """Skips the test, or fails it where an engine must be there, if one cannot run."""
    if what := missing():
        if os.environ.get("PADSTONE_DOCKER") == "required":
            pytest.fail(what)
        pytest.skip(what)


def containers(*filters: str) -> list[dict]:
    """The containers, dead or alive, with these labels: id, name, image, state and so on, as `docker ps` has them."""
    arguments = [word for label in filters for word in ("--filter", f"label={label}")]
    lines = docker("ps", "--all", "--no-trunc", "--format", "{{json .}}", *arguments).splitlines()
    return [json.loads(line) for line in lines]


def of_job(job: str) -> list[dict]:
    return containers(f"io.padstone.job-id={job}")
