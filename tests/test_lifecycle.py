"""docs/dofn-lifecycle.md, held by a DoFn that notes its calls, in every environment and for every end of a job."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PIPELINES, run_python

# A whole life: bundles that are complete, at most one that is not, and a teardown. Finalization comes between bundles.
LIFE = re.compile(r"setup( start( process)*( finish( finalized)*)?)*( teardown)?")
LOOPBACK = ["--environment_type=LOOPBACK"]
ENVIRONMENTS = ("LOOPBACK", "PROCESS", "EXTERNAL")


@pytest.fixture(params=ENVIRONMENTS)
def environment(request) -> list[str]:
    """The options of an environment."""
    if request.param == "PROCESS":
        return ["--environment_type=PROCESS", f"--environment_config={json.dumps({'command': sys.executable})}"]
    if request.param == "EXTERNAL":
        return ["--environment_type=EXTERNAL", f"--environment_config={request.getfixturevalue('worker_pool')}"]
    return LOOPBACK


class Diary:
    """The lives of the instances of the DoFn, as they have been written down so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.flags = ["--diary", str(path)]

    def lives(self) -> dict[str, list[str]]:
        lives: dict[str, list[str]] = {}
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            instance, _, call = line.split(" ")
            lives.setdefault(instance, []).append(call)
        return lives

    def calls(self) -> list[str]:
        return [call for life in self.lives().values() for call in life]

    def await_lives(self, holds, seconds: float = 30) -> dict[str, list[str]]:
        deadline = time.monotonic() + seconds
        while not holds(self.lives()):
            assert time.monotonic() < deadline, f"the diary says\n{self.path.read_text()}"
            time.sleep(0.05)
        return self.lives()

    def check(self) -> None:
        """Every life is in order and has ended; one that an end of the job has caught in its setup may not have."""
        lives = self.lives()
        assert lives, "nobody lived"
        for life in lives.values():
            assert LIFE.fullmatch(" ".join(life)), life
            assert life == ["setup"] or "teardown" in life, life


@pytest.fixture
def diary(tmp_path) -> Diary:
    return Diary(tmp_path / "diary")


@contextlib.contextmanager
def running(server, diary: Diary, environment: list[str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A job that goes on until it is stopped, with the script that submitted it; it has processed something."""
    name = f"lifecycle-{time.monotonic_ns()}"
    options = ["--runner=PortableRunner", f"--job_endpoint={server.job_endpoint}", f"--job_name={name}"]
    with (tmp_path / "script.log").open("wb") as log:
        script = subprocess.Popen(
            [sys.executable, str(PIPELINES / "lifecycle.py"), *options, *environment, *diary.flags, "--forever"],
            env={**server.script_env(), "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        diary.await_lives(lambda lives: any(life.count("finish") >= 2 for life in lives.values()), 60)
        (job,) = [job["id"] for job in server.api.jobs() if job["name"] == name]
        yield script, job
    finally:
        script.kill()
        script.wait()


def test_a_job_that_is_done(server, diary, environment):
    # A thread of the script, which ends with the job, has no time to lose; a process is waited for.
    slow = [] if environment == LOOPBACK else ["--teardown_seconds=1.5"]
    done = run_python(server, "lifecycle.py", *environment, *diary.flags, *slow)
    assert done.returncode == 0, done.stderr
    diary.check()
    calls = diary.calls()
    assert calls.count("process") == calls.count("finalized") == 20
    assert calls.count("start") == calls.count("finish")


def test_a_job_whose_user_code_fails(server, diary, environment):
    done = run_python(server, "lifecycle.py", *environment, *diary.flags, "--fail_at=7")
    assert done.returncode != 0
    assert "element 7 is not wanted" in done.stderr
    diary.check()
    calls = diary.calls()
    assert calls.count("start") > calls.count("finish"), "the bundle that failed was finished"


@pytest.mark.parametrize("end", ["cancel", "drain"])
def test_a_job_that_is_stopped(server, diary, environment, tmp_path, end):
    with running(server, diary, environment, tmp_path) as (_, job):
        getattr(server.api, end)(job)
        assert server.api.wait_state(job) == {"cancel": "CANCELLED", "drain": "DRAINED"}[end]
        if environment == LOOPBACK:
            # The harness is a thread of the script: it has been told to end, and nobody learns when it has.
            diary.await_lives(lambda lives: all("teardown" in life for life in lives.values() if life != ["setup"]))
        diary.check()


@pytest.mark.parametrize("environment", ["PROCESS", "EXTERNAL"], indirect=True)
def test_a_server_that_stops_and_one_that_is_killed(start_server, diary, environment, tmp_path):
    own = start_server()
    with running(own, diary, environment, tmp_path) as (_, job):
        assert own.stop() == 0
        diary.check()
        before = set(diary.lives())
        own = start_server()
        later = diary.await_lives(
            lambda lives: any("finish" in lives[instance] for instance in set(lives) - before), 60
        )
        assert "setup" in [life[0] for instance, life in later.items() if instance not in before]
        own.kill()
        killed = set(diary.lives()) - before
        own = start_server()
        diary.await_lives(lambda lives: any("finish" in lives[i] for i in set(lives) - before - killed), 60)
        assert all("teardown" not in diary.lives()[instance] for instance in killed)
        own.api.cancel(job)
        assert own.api.wait_state(job) == "CANCELLED"
        after = diary.lives()
        assert all("teardown" in after[i] or after[i] == ["setup"] for i in set(after) - before - killed)
