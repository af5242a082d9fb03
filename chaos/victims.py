"""The processes of a run: what can be killed, how it is started again, and when it is ready again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ports import free_ports
from server import Server, ServerError

KILL = signal.SIGKILL


class Broker(Protocol):
    """A Kafka broker in a process of its own: KafkaNode, or Embedded."""

    @property
    def bootstrap(self) -> str: ...

    def start(self, wait: bool = True): ...

    def ready(self) -> bool: ...

    def kill(self) -> None: ...

    def stop(self): ...


class Embedded:
    """Padstone's embedded broker, in a server of its own that runs no job. For machines without Java."""

    def __init__(self, directory: Path, topics: str) -> None:
        (port,) = free_ports(1)
        self.bootstrap = f"127.0.0.1:{port}"
        self.server = Server(directory, kafka_topics=topics, kafka_address=self.bootstrap)

    def start(self, wait: bool = True) -> "Embedded":
        self.server.start(wait=wait)
        return self

    def ready(self) -> bool:
        return self.server.ready()

    def kill(self) -> None:
        self.server.kill()

    def stop(self) -> None:
        self.server.stop()


def children(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have started. Linux."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            direct = [int(child) for child in task.read_text().split()]
        except OSError:  # the thread has ended
            continue
        for child in direct:
            found += [child, *children(child)]
    return found


def memory_kib(pid: int, name: str) -> int:
    """VmRSS or VmHWM of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), 0)


class WorkerPool:
    """Beam's own worker pool, which starts a process for each worker."""

    def __init__(self, directory: Path) -> None:
        self.log_path = directory / "pool.log"
        (self.port,) = free_ports(1)
        self.process: subprocess.Popen | None = None
        self.orphans: list[int] = []

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def start(self) -> None:
        # The pool starts its workers with the "python" of the PATH.
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={self.port}"]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)

    def answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("localhost", self.port)) == 0

    def workers(self) -> list[int]:
        """Those that live: the pool keeps those that ended by themselves as zombies."""
        if self.process is None or self.process.poll() is not None:
            return []
        return [pid for pid in children(self.process.pid) if is_worker(pid)]

    def kill(self) -> None:
        """The pool alone: its workers live on, as those of a container's boot program do."""
        self.orphans += self.workers()
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        left = self.workers()
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        for pid in {*left, *self.orphans}:
            if is_worker(pid):
                end(pid)


class Containers:
    """The containers of a job's harnesses, of which the server has as many running as it wants."""

    def running(self, job_id: str) -> list[str]:
        return self._docker("ps", "--quiet", "--filter", f"label=io.padstone.job-id={job_id}").split()

    def kill(self, names: list[str]) -> None:
        self._docker("kill", "--signal", "KILL", *names)

    @staticmethod
    def _docker(*arguments: str) -> str:
        # One that has ended meanwhile is an error of `docker kill`; what is wrong with the Engine the job will say.
        return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=False).stdout


def is_worker(pid: int) -> bool:
    """Whether the process is still one of Beam's workers: its number may have gone to another one meanwhile."""
    try:
        return b"apache_beam" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def end(pid: int) -> bool:
    try:
        os.kill(pid, KILL)
    except ProcessLookupError:
        return False
    return True


def wait_until(holds: Callable[[], bool], seconds: float, what: str, step: float = 0.05) -> float:
    """Waits and returns for how long."""
    began = time.monotonic()
    while True:
        try:
            if holds():
                return time.monotonic() - began
        except ServerError:
            pass  # a server that is on its way
        if time.monotonic() - began > seconds:
            raise RuntimeError(f"{what}: not within {seconds:.0f} s")
        time.sleep(step)
