"""What harness processes are doing: thread dumps on demand, and by themselves when an element takes too long."""

import json
import os
import signal
import subprocess
import urllib.request
from collections.abc import Callable

import pytest
from conftest import LOOPBACK, PROCESS, next_job, start_script
from server import BINARY, Server
from waits import PATIENCE, wait


def jobs(server: Server, *arguments: str) -> subprocess.CompletedProcess:
    command = [str(BINARY), "jobs", *arguments, "--server", server.endpoints["http"]]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@pytest.fixture
def stuck(server, tmp_path):
    """A job whose DoFn waits in setup, then in an element, until the file of this name is there."""

    def start(*flags: str):
        log = tmp_path / "script.log"
        before = server.api.jobs()
        script = start_script(server, "stuck.py", *flags, "--gates", str(tmp_path), log=log)
        started.append(script)
        pid = wait(lambda: (tmp_path / "setup.pid").exists() and (tmp_path / "setup.pid").read_text(), "setup")
        return script, next_job(server, before, script, log), int(pid)

    started: list[subprocess.Popen] = []
    yield start
    for gate in ("setup", "element"):
        (tmp_path / gate).touch()
    for script in started:
        script.wait(PATIENCE)


def ongoing(server: Server, job: str, word: str) -> Callable:
    def find() -> str | None:
        texts = [m["text"] for m in server.api.messages(job) if m["text"].startswith("Operation ongoing")]
        return next((text for text in texts if word in text), None)

    return find


def test_slow_code_is_shown_with_its_stack(server, stuck, tmp_path):
    script, job, pid = stuck(*PROCESS, "--slow_element_seconds=1", "--sdk_worker_parallelism=1")
    text = wait(ongoing(server, job, "set up"), "the message about setup")
    assert "Wait for it" in text and "in setup" in text and "wait_for" in text, text

    (tmp_path / "setup").touch()
    text = wait(ongoing(server, job, "in state process"), "the message about the element")
    assert 'step "Wait for it" for at least 00m' in text and "in process" in text and "wait_for" in text, text

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
        silent = jobs(server, "threads", job, "--worker", worker["worker"])
        assert silent.returncode == 0
        assert "harness-status-unavailable" in silent.stdout and "does not answer" in silent.stdout, silent
    finally:
        os.kill(pid, signal.SIGCONT)
    (tmp_path / "element").touch()
    assert script.wait(PATIENCE) == 0
    assert jobs(server, "threads", job).returncode == 1


def test_slow_code_in_the_submitting_program_is_named(server, stuck, tmp_path):
    _, job, _ = stuck(*LOOPBACK)
    (tmp_path / "setup").touch()
    assert jobs(server, "set", job, "slow_element_seconds=1").returncode == 0
    text = wait(ongoing(server, job, "in state process"), "the message about the element")
    assert 'step "Wait for it"' in text and "harness-status-unavailable" in text, text
    shown = jobs(server, "threads", job)
    assert shown.returncode == 0 and "LOOPBACK" in shown.stdout, shown
