"""docs/faults.md: harness processes that are stopped, a disk that is full."""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import LOOPBACK, PROCESS, next_job, run_python, start_python
from pools import external
from server import Server, ServerError
from waits import PATIENCE, wait


class Bulk:
    """The pipeline bulk.py on a server, in the midst of its elements: they wait for the gate."""

    def __init__(self, server, tmp_path: Path, elements: int, *flags: str) -> None:
        self.server, self.elements = server, elements
        self.pids, self.output, self.log = tmp_path / "pids", tmp_path / "numbers", tmp_path / "script.log"
        self.gate = tmp_path / "gate"
        arguments = [f"--elements={elements}", f"--pids={self.pids}", f"--gate={self.gate}", f"--output={self.output}"]
        before = server.api.jobs()
        self.script = start_python(server, "bulk.py", *arguments, *flags, log=self.log)
        self.job = next_job(server, before, self.script, self.log)
        wait(lambda: len(self.workers()) > 10, self.tell)

    def tell(self) -> str:
        return self.log.read_text() + self.server.log_tail()

    def workers(self) -> list[int]:
        return [int(pid) for pid in self.pids.read_text().split()] if self.pids.exists() else []

    def messages(self) -> str:
        return "\n".join(message["text"] for message in self.server.api.messages(self.job))

    def check(self) -> None:
        """The job is done, and every number came once."""
        assert self.server.api.wait_state(self.job) == "DONE", self.messages()
        assert self.script.wait(PATIENCE) == 0, self.tell()
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
    flags = PROCESS if environment == "PROCESS" else external(request.getfixturevalue("worker_pool"))
    bulk = Bulk(own, tmp_path, 60, *flags)
    stopped = bulk.workers()[-1]
    os.kill(stopped, signal.SIGSTOP)
    wait(lambda: bulk.workers()[-1] != stopped, bulk.tell)
    with contextlib.suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)
    bulk.gate.touch()
    assert "does not answer" in bulk.messages() and "nothing was heard" in bulk.messages()
    bulk.check()
    wait(lambda: not alive(stopped))


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
        bulk = Bulk(own, tmp_path, 60, *LOOPBACK, "--bytes=100000")
        fill(small_disk / "filler")
        bulk.gate.touch()
        job = wait(lambda: (found := own.api.job(bulk.job))["description"].get("waiting") and found, bulk.tell)
        assert job["state"] == "RUNNING" and "disk-full" in job["description"]["waiting"]
        refused = run_python(own, "wordcount.py", "--input", str(text), "--output=unused", *LOOPBACK)
        assert refused.returncode != 0 and "disk-full" in refused.stderr
        (small_disk / "filler").unlink()
        bulk.check()
        assert "the disk works again" in bulk.messages()


def test_a_server_starts_on_a_full_disk(small_disk, tmp_path):
    with Server(small_disk / "data") as own:
        bulk = Bulk(own, tmp_path, 60, *PROCESS, "--bytes=100000")
        own.kill()
        fill(small_disk / "filler")
        with pytest.raises(ServerError, match="not ready"):
            own.start(5)  # it runs, but server.json cannot say so
        (small_disk / "filler").unlink()
        bulk.gate.touch()
        own.start()
        assert own.api.wait_state(bulk.job) == "DONE", bulk.messages()
        bulk.script.wait(PATIENCE)
        bulk.check_output()
