"""docs/faults.md: harness processes that are stopped, a disk that is full."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PIPELINES, run_python
from server import Server, ServerError


def wait(holds, seconds: float = 60.0, what=lambda: "timed out"):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)
    return found


class Bulk:
    """The pipeline bulk.py on a server."""

    def __init__(self, server, tmp_path: Path, elements: int, *flags: str) -> None:
        self.server, self.elements = server, elements
        self.pids, self.output, self.log = tmp_path / "pids", tmp_path / "numbers", tmp_path / "script.log"
        before = {job["id"] for job in server.api.jobs()}
        command = [sys.executable, str(PIPELINES / "bulk.py"), "--runner=PortableRunner"]
        command += [f"--job_endpoint={server.job_endpoint}", f"--elements={elements}"]
        # Without the experiment the SDK runs `pip freeze` for every job, and waits for it at the end.
        command += ["--experiments=disable_logging_submission_environment"]
        command += [f"--pids={self.pids}", f"--output={self.output}", *flags]
        with self.log.open("wb") as log:
            self.script = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.job = wait(lambda: next(iter({job["id"] for job in server.api.jobs()} - before), None), 60, self.tell)

    def tell(self) -> str:
        return self.log.read_text() + self.server.log_tail()

    def workers(self) -> list[int]:
        return [int(pid) for pid in self.pids.read_text().split()] if self.pids.exists() else []

    def messages(self) -> str:
        return "\n".join(message["text"] for message in self.server.api.messages(self.job))

    def check(self) -> None:
        """The job is done, and every number came once."""
        assert self.server.api.wait_state(self.job, timeout=120) == "DONE", self.messages()
        assert self.script.wait(30) == 0, self.tell()
        self.check_output()

    def check_output(self) -> None:
        lines = [line for shard in self.output.parent.glob("numbers-*") for line in shard.read_text().split()]
        assert sorted(map(int, lines)) == list(range(self.elements))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("environment", ["PROCESS", "EXTERNAL"])
def test_a_worker_that_is_stopped_is_replaced(start_server, environment, tmp_path, request):
    own = start_server(extra=["--harness-timeout=4s"])
    if environment == "PROCESS":
        config = json.dumps({"command": sys.executable})
    else:
        config = request.getfixturevalue("worker_pool")
    flags = [f"--environment_type={environment}", f"--environment_config={config}", "--seconds=0.1"]
    bulk = Bulk(own, tmp_path, 60, *flags)
    wait(lambda: len(bulk.workers()) > 5, 60, bulk.tell)
    stopped = bulk.workers()[-1]
    os.kill(stopped, signal.SIGSTOP)
    wait(lambda: bulk.workers()[-1] != stopped, 60, bulk.tell)
    if alive(stopped):
        os.kill(stopped, signal.SIGCONT)
    assert "does not answer" in bulk.messages() and "nothing was heard" in bulk.messages()
    bulk.check()
    wait(lambda: not alive(stopped), 30)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 64 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)], capture_output=True, text=True
    )
    if made.returncode != 0:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1 << 16))
        except OSError:
            pass


def test_a_job_waits_while_its_disk_is_full(small_disk, tmp_path, text):
    with Server(small_disk / "data") as own:
        bulk = Bulk(own, tmp_path, 60, "--environment_type=LOOPBACK", "--bytes=100000", "--seconds=0.03")
        wait(lambda: len(bulk.workers()) > 10, 60, bulk.tell)
        fill(small_disk / "filler")
        job = wait(lambda: (found := own.api.job(bulk.job))["description"].get("waiting") and found, 60, bulk.tell)
        assert job["state"] == "RUNNING" and "disk-full" in job["description"]["waiting"]
        refused = run_python(
            own, "wordcount.py", "--input", str(text), "--output=unused", "--environment_type=LOOPBACK"
        )
        assert refused.returncode != 0 and "disk-full" in refused.stderr
        (small_disk / "filler").unlink()
        bulk.check()
        assert "the disk works again" in bulk.messages()


def test_a_server_starts_on_a_full_disk(small_disk, tmp_path):
    with Server(small_disk / "data") as own:
        config = json.dumps({"command": sys.executable})
        flags = ["--environment_type=PROCESS", f"--environment_config={config}", "--bytes=100000", "--seconds=0.1"]
        bulk = Bulk(own, tmp_path, 60, *flags)
        wait(lambda: len(bulk.workers()) > 10, 60, bulk.tell)
        own.kill()
        fill(small_disk / "filler")
        with pytest.raises(ServerError, match="not ready"):
            own.start(5)  # it runs, but server.json cannot say so
        (small_disk / "filler").unlink()
        own.start()
        assert own.api.wait_state(bulk.job, timeout=120) == "DONE", bulk.messages()
        bulk.script.wait(30)
        bulk.check_output()
