"""One top-level test of a Go test binary, in processes of its own.

A test that gets nowhere is killed with its process and is a timeout; its siblings that have not run yet run in another
process.
"""

import json
import os
import queue
import re
import signal
import subprocess
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from job_client import JobClient

# These tests end only when their job is drained, for which they do not ask themselves.
DRAINED = frozenset({"TestDrain"})

SUBMITTED = re.compile(r"Submitted job: ([\w-]+)")
VERDICTS = {"pass": "passed", "fail": "failed", "skip": "skipped"}
TELLING = re.compile(r"(?i)error|fail|panic|expected|unsupported|want")
REFUSAL = re.compile(r"\b(unsupported-[a-z0-9-]+)")
TAIL_LINES = 400
REASON_CHARS = 600
STARTS_MAX = 10


@cache
def test2json() -> str:
    return subprocess.run(["go", "tool", "-n", "test2json"], check=True, capture_output=True, text=True).stdout.strip()


class TestProcess:
    """Runs the test and keeps what became of it and of its subtests."""

    def __init__(self, command: list[str], folder: Path, top: str, endpoint: str, timeout: float) -> None:
        self.command, self.folder, self.top, self.timeout = command, folder, top, timeout
        self.jobs = JobClient(endpoint)
        self.lines: list[str] = []  # everything that was printed
        self.tests: dict[str, dict] = {}  # verdicts
        self.running: list[str] = []  # tests that have begun
        # The first job of each process: once it runs, the SDK's log goes to the job and no longer to the output.
        self.submitted: list[str] = []
        # Names of the test's jobs: what we give, or what Beam's test packages make of the test's name.
        self.job_name = f"{top}-{os.getpid()}-{id(self)}".lower()
        self.job_names = re.compile(rf"{re.escape(self.job_name)}|(go-)?{re.escape(top.lower())}(/.*)?-\d+")

    def run(self) -> dict[str, dict]:
        for _ in range(STARTS_MAX):
            stuck = self._start()
            if stuck in (None, self.top):
                break
        return self._leaves()

    def _leaves(self) -> dict[str, dict]:
        """The tests without subtests; also a parent that failed although none of its subtests did."""
        leaves = {}
        for test, result in self.tests.items():
            below = [other["verdict"] for name, other in self.tests.items() if name.startswith(test + "/")]
            bad_below = any(verdict not in ("passed", "skipped") for verdict in below)
            if below and (bad_below or result["verdict"] in ("passed", "skipped")):
                continue
            if result["verdict"] == "passed" and not self.submitted:
                result["verdict"] = "no job"
            leaves[test] = result
        return leaves

    def _start(self) -> str | None:
        """Runs the subtests that have no verdict yet; returns the test in which the process hung or died."""
        command = [test2json(), "-t", self.command[0], f"-test.run=^{self.top}$"]
        command += ["-test.v=test2json", "-test.timeout=0"]
        done = [re.escape(test.removeprefix(self.top + "/")) for test in self.tests if test != self.top]
        if done:
            command.append(f"-test.skip=^{self.top}$/^({'|'.join(done)})$")
        self.running = []
        process = subprocess.Popen(
            [*command, *self.command[1:], f"-job_name={self.job_name}"],
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        try:
            hung = self._follow(process)
        finally:
            end(process)
            self.jobs.cancel_named(self.job_names)
        stuck = self.running[-1] if self.running else self.top
        if not hung and self.top in self.tests:
            return None
        verdict, why = ("timeout", f"nothing for {self.timeout} s") if hung else ("failed", "its process died")
        self._enter(stuck, verdict, 0.0, f"{why}; {reason_of(self.lines)}")
        return stuck

    def _follow(self, process: subprocess.Popen) -> bool:
        """Takes events until the process ends; true if it got nowhere before."""
        events: queue.Queue[dict | None] = queue.Queue()
        threading.Thread(target=read_events, args=(process.stdout, events), daemon=True).start()
        deadline = time.monotonic() + self.timeout
        while time.monotonic() < deadline:
            try:
                event = events.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                return True
            if event is None:
                return False
            if self._take(event):
                deadline = time.monotonic() + self.timeout
        return True

    def _take(self, event: dict) -> bool:
        """Enters an event of test2json; true if it is a step forward."""
        test, action = event.get("Test", ""), event["Action"]
        if action == "output":
            text = event["Output"].rstrip("\n")
            self.lines.append(text)
            submitted = SUBMITTED.search(text)
            if submitted:
                self.submitted.append(submitted.group(1))
                if self.top in DRAINED:
                    self.jobs.drain(submitted.group(1))
            return False
        if action == "run":
            self.running.append(test)
        elif action in VERDICTS and test:
            verdict = VERDICTS[action]
            self._enter(test, verdict, event.get("Elapsed", 0.0), "" if verdict == "passed" else reason_of(self.lines))
            self.running.remove(test)
        return True

    def _enter(self, test: str, verdict: str, seconds: float, reason: str) -> None:
        if test in DRAINED and verdict == "passed" and not all(map(self.jobs.drained, self.submitted)):
            verdict, reason = "failed", "the job ended, but not by its drain"
        self.tests[test] = {"verdict": verdict, "seconds": seconds, "reason": reason}
        refusal = REFUSAL.search(reason) if verdict == "failed" else None
        if refusal:
            self.tests[test].update(verdict="refused", code=refusal.group(1))


def read_events(stream, events: queue.Queue) -> None:
    for line in stream:
        try:
            events.put(json.loads(line))
        except ValueError:
            events.put({"Action": "output", "Output": line})
    events.put(None)


def end(process: subprocess.Popen) -> None:
    """Kills the test with everything that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def reason_of(lines: list[str]) -> str:
    """The last words that tell something, on one line."""
    tail = [
        line.strip() for line in lines[-TAIL_LINES:] if line.strip() and not line.strip().startswith(("---", "==="))
    ]
    telling = [line for line in tail if TELLING.search(line)]
    return " | ".join((telling or tail)[-3:])[-REASON_CHARS:]
