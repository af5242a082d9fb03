"""A `padstone serve` process, and its HTTP API as a program sees it. Standard library only."""

import http.client
import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BINARY = ROOT / "bin" / "padstone"

TERMINAL_STATES = frozenset({"DONE", "FAILED", "CANCELLED", "DRAINED", "UPDATED"})


class ServerError(RuntimeError):
    """The server did not start, or refused or did not answer a request."""


class Api:
    """The HTTP API, documented in docs/http-api.md. `address` is host:port."""

    def __init__(self, address: str, timeout: float = 60.0) -> None:
        self.base = f"http://{address}"
        self.timeout = timeout

    def jobs(self) -> list[dict]:
        answer = self._json("GET", "/api/v1/jobs")
        return answer["jobs"] if isinstance(answer, dict) else answer

    def job(self, job_id: str) -> dict:
        """What is known of the job. Its description is empty until a server that was restarted has taken it up."""
        return {"description": {}, **self._json("GET", f"/api/v1/jobs/{job_id}")}

    def messages(self, job_id: str) -> list[dict]:
        answer = self._json("GET", f"/api/v1/jobs/{job_id}/messages")
        return answer["messages"] if isinstance(answer, dict) else answer

    def cancel(self, job_id: str) -> None:
        self._json("POST", f"/api/v1/jobs/{job_id}/cancel")

    def drain(self, job_id: str) -> None:
        self._json("POST", f"/api/v1/jobs/{job_id}/drain")

    def stop(self, job_id: str, timeout: float = 120.0) -> dict:
        """Stops a job with a savepoint in the server's place of checkpoints and returns that."""
        return self._json("POST", f"/api/v1/jobs/{job_id}/stop", timeout=timeout)["savepoint"]

    def restore(self, place: str, job_id: str, timeout: float = 120.0) -> dict:
        """Has the server go on with a job from its latest checkpoint or savepoint."""
        return self._json("POST", "/api/v1/restore", {"from": place, "job": job_id}, timeout)

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics by "name{labels}"."""
        samples = {}
        for line in self._request("GET", "/metrics").decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                samples[name] = float(value)
        return samples

    def wait_state(self, job_id: str, *states: str, timeout: float = 150.0) -> str:
        """Waits until the job is in one of the states (default: any terminal one) and returns it."""
        wanted = frozenset(states) or TERMINAL_STATES
        deadline = time.monotonic() + timeout
        while True:
            state = self.job(job_id)["state"]
            if state in wanted:
                return state
            if state in TERMINAL_STATES:
                raise ServerError(f"job {job_id} is {state}, not {' or '.join(sorted(wanted))}")
            if time.monotonic() > deadline:
                raise ServerError(f"job {job_id} is still {state} after {timeout:.0f} s")
            time.sleep(0.1)

    def _json(self, method: str, path: str, body: dict | None = None, timeout: float = 0.0):
        answer = self._request(method, path, body, timeout)
        return json.loads(answer) if answer else None

    def _request(self, method: str, path: str, body: dict | None = None, timeout: float = 0.0) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"X-Padstone": "1", "Content-Type": "application/json"}
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout or self.timeout) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace").strip()
            raise ServerError(f"{method} {path}: {error.code} {text}") from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            raise ServerError(f"{method} {self.base}{path}: {error}") from error


class Server:
    """`padstone serve` on free ports of this machine, with its log in a file of the data directory."""

    def __init__(
        self,
        data_dir: Path,
        kafka_topics: str = "",
        kafka_address: str = "127.0.0.1:0",
        extra: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir / "server.log"
        self.command = [str(BINARY), "serve", "--data-dir", str(data_dir)]
        for flag in ("job-endpoint", "artifact-endpoint", "expansion-endpoint", "http"):
            self.command += [f"--{flag}", "localhost:0"]
        if kafka_topics:
            self.command += ["--embedded-kafka", kafka_address, "--embedded-kafka-topics", kafka_topics]
        self.command += extra
        self.env = {**os.environ, **(env or {})}
        self.process: subprocess.Popen | None = None
        self.endpoints: dict[str, str] = {}

    def start(self, timeout: float = 120.0, wait: bool = True) -> "Server":
        """Starts the server; without wait it is to be asked whether it is ready."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True
            )
        if not wait:
            return self
        deadline = time.monotonic() + timeout
        while not self.ready():
            if self.process.poll() is not None:
                raise ServerError(f"padstone serve ended with exit code {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"padstone serve is not ready after {timeout:.0f} s:\n{self.log_tail()}")
            time.sleep(0.05)
        return self

    def ready(self) -> bool:
        """Takes the endpoints from server.json, unless it is the file of a server before this one."""
        path = self.data_dir / "server.json"
        if not path.exists():
            return False
        info = json.loads(path.read_text())
        self.endpoints = info["endpoints"]
        return info["pid"] == self.process.pid

    @property
    def api(self) -> Api:
        return Api(self.endpoints["http"])

    @property
    def job_endpoint(self) -> str:
        return self.endpoints["job"]

    @property
    def kafka(self) -> str:
        return self.endpoints["embedded_kafka"]

    def script_env(self) -> dict[str, str]:
        """The environment in which a script's cross-language transforms find this server instead of starting Java."""
        overrides = {"sdks:java:io:expansion-service:shadowJar": self.endpoints["expansion"]}
        return {**os.environ, "BEAM_SERVICE_OVERRIDES": json.dumps(overrides)}

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout: float = 60.0) -> int:
        """Asks the server to end and returns its exit code; one that does not end in time is killed."""
        if self.process is None:
            return 0
        if self.alive():
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"padstone serve did not end within {timeout:.0f} s of SIGTERM") from None

    def kill(self) -> None:
        """kill -9, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def log_tail(self, lines: int = 30) -> str:
        if not self.log_path.exists():
            return "(no log)"
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> "Server":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()
