"""What harness processes are doing: thread dumps on demand, and by themselves when an element takes too long."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import pytest
from conftest import start_script
from server import BINARY, Server

PROCESS = ["--environment_type=PROCESS", f"--environment_config={json.dumps({'command': sys.executable})}"]


def until(condition: Callable, what: str, timeout: float = 90):
    deadline = time.monotonic() + timeout
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"{what} does not come"
        time.sleep(0.1)
    return answer


def jobs(server: Server, *arguments: str) -> subprocess.CompletedProcess:
    command = [str(BINARY), "jobs", *arguments, "--server", server.endpoints["http"]]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def stuck(server, tmp_path):
    """A job whose DoFn waits in setup, then in an element, until the file of this name is there."""

    def start(*flags: str):
        log = tmp_path / "script.log"
        before = {job["id"] for job in server.api.jobs()}
        script = start_script(server, "stuck.py", *flags, "--gates", str(tmp_path), log=log)
        started.append(script)
        pid = until(lambda: (tmp_path / "setup.pid").exists() and (tmp_path / "setup.pid").read_text(), "setup")
        (job,) = [job["id"] for job in server.api.jobs() if job["id"] not in before]
        return script, job, int(pid)

    started: list[subprocess.Popen] = []
    yield start
    for gate in ("setup", "element"):
        (tmp_path / gate).touch()
    for script in started:
        script.wait(90)


def ongoing(server: Server, job: str, word: str) -> Callable:
    def find() -> str | None:
        texts = [m["text"] for m in server.api.messages(job) if m["text"].startswith("Operation ongoing")]
        return next((text for text in texts if word in text), None)

    return find


def test_slow_code_is_shown_with_its_stack(server, stuck, tmp_path):
    script, job, pid = stuck(*PROCESS, "--slow_element_seconds=1", "--sdk_worker_parallelism=1")
    text = until(ongoing(server, job, "set up"), "the message about setup")
    assert "Wait for it" in text and "in setup" in text and "wait_for" in text, text

    (tmp_path / "setup").touch()
    text = until(ongoing(server, job, "in state process"), "the message about the element")
    assert 'step "Wait for it" for at least 00m0' in text and "in process" in text and "wait_for" in text, text

    shown = jobs(server, "threads", job)
    assert shown.returncode == 0 and "Wait for it" in shown.stdout and "wait_for" in shown.stdout, shown
    assert "THREAD DUMP" in jobs(server, "threads", job, "--all").stdout
    (worker,) = json.loads(jobs(server, "threads", job, "--json").stdout)["workers"]
    page = urllib.request.urlopen(f"{server.api.base}/jobs/{job}/threads?worker={worker['worker']}").read().decode()
    assert "wait_for" in page and "Wait for it" in page
    unknown = jobs(server, "threads", job, "--worker", "nobody")
    assert unknown.returncode == 1 and "worker-not-found" in unknown.stderr, unknown

    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        silent = jobs(server, "threads", job, "--worker", worker["worker"])
        assert silent.returncode == 0 and time.monotonic() - began < 30
        assert "harness-status-unavailable" in silent.stdout and "does not answer" in silent.stdout, silent
    finally:
        os.kill(pid, signal.SIGCONT)
    (tmp_path / "element").touch()
    assert script.wait(90) == 0
    assert jobs(server, "threads", job).returncode == 1


def test_slow_code_in_the_submitting_program_is_named(server, stuck, tmp_path):
    _, job, _ = stuck("--environment_type=LOOPBACK")
    (tmp_path / "setup").touch()
    assert jobs(server, "set", job, "slow_element_seconds=1").returncode == 0
    text = until(ongoing(server, job, "in state process"), "the message about the element")
    assert 'step "Wait for it"' in text and "harness-status-unavailable" in text, text
    shown = jobs(server, "threads", job)
    assert shown.returncode == 0 and "LOOPBACK" in shown.stdout, shown
