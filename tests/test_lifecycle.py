"""docs/dofn-lifecycle.md, held by a DoFn that notes its calls, in every environment and for every end of a job."""

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import LOOPBACK, PROCESS, run_python, start_python
from pools import external
from waits import wait

# A whole life: bundles that are complete, at most one that is not, and a teardown. Finalization comes between bundles.
LIFE = re.compile(r"setup( start( process)*( finish( finalized)*)?)*( teardown)?")
ENVIRONMENTS = ("LOOPBACK", "PROCESS", "EXTERNAL")


@pytest.fixture(params=ENVIRONMENTS)
def environment(request) -> list[str]:
    """The options of an environment."""
    if request.param == "PROCESS":
        return PROCESS
    if request.param == "EXTERNAL":
        return external(request.getfixturevalue("worker_pool"))
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

    def of_processes(self, pids: set[str]) -> set[str]:
        """The instances that lived in these processes."""
        lines = self.path.read_text().splitlines() if self.path.exists() else ()
        return {instance for instance, pid, _ in (line.split(" ") for line in lines) if pid in pids}

    def processes(self) -> set[str]:
        return {line.split(" ")[1] for line in self.path.read_text().splitlines()} if self.path.exists() else set()

    def await_lives(self, holds) -> dict[str, list[str]]:
        wait(lambda: holds(self.lives()), lambda: f"the diary says\n{self.path.read_text()}")
        return self.lives()

    def check(self, stopped: bool = False) -> None:
        """Every life is in order and has ended. Where the job is stopped, the SDK may forget one that it catches in its
        setup, or in a bundle that breaks off by itself in the same moment.
        """
        lives = self.lives()
        assert any("teardown" in life for life in lives.values()), lives
        for life in lives.values():
            assert LIFE.fullmatch(" ".join(life)), life
            assert "teardown" in life or (stopped and life[-1] in ("setup", "start", "process")) or life == ["setup"], (
                life
            )


@pytest.fixture
def diary(tmp_path) -> Diary:
    return Diary(tmp_path / "diary")


@contextlib.contextmanager
def running(server, diary: Diary, environment: list[str], tmp_path: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A job that goes on until it is stopped, with the script that submitted it; it has processed something."""
    name = f"lifecycle-{time.monotonic_ns()}"
    flags = [f"--job_name={name}", *environment, *diary.flags, "--forever"]
    script = start_python(server, "lifecycle.py", *flags, log=tmp_path / "script.log")
    try:
        diary.await_lives(lambda lives: any(life.count("finish") >= 2 for life in lives.values()))
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
        diary.check(stopped=end == "cancel")


@pytest.mark.parametrize("environment", ["PROCESS", "EXTERNAL"], indirect=True)
def test_a_server_that_stops_and_one_that_is_killed(start_server, diary, environment, tmp_path):
    own = start_server()
    with running(own, diary, environment, tmp_path) as (_, job):
        assert own.stop() == 0
        diary.check(stopped=True)
        before = diary.processes()
        own = start_server()

        def fresh(lives: dict[str, list[str]]) -> list[list[str]]:
            """The lives in processes that were not there before."""
            old = diary.of_processes(before)
            return [life for instance, life in lives.items() if instance not in old]

        diary.await_lives(lambda lives: any("finish" in life for life in fresh(lives)))
        own.kill()
        killed = diary.processes() - before
        before |= killed
        own = start_server()
        diary.await_lives(lambda lives: any("finish" in life for life in fresh(lives)))
        lives = diary.lives()
        assert all("teardown" not in lives[instance] for instance in diary.of_processes(killed))
        own.api.cancel(job)
        assert own.api.wait_state(job) == "CANCELLED"
        after = fresh(diary.lives())
        assert any("teardown" in life for life in after)
        assert all("teardown" in life or life[-1] in ("setup", "start", "process") for life in after), after
