"""Beam's own worker pool, as a process that tests start, kill and start again."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from ports import free_ports
from waits import wait

BOOT = Path(__file__).resolve().parent / "pipelines" / "boot.py"


class Pool:
    """A worker pool on a port that it keeps. kill ends it with its workers, as the end of a pod does."""

    def __init__(
        self, folder: Path, prefix: tuple[str, ...] = (), host: str = "localhost", boot_program: bool = False
    ) -> None:
        (self.port,) = free_ports(1)
        self.address, self.prefix = f"{host}:{self.port}", prefix
        self.log = folder / f"pool-{self.port}.log"
        self.flags = [f"--service_port={self.port}"]
        if boot_program:
            boot = folder / f"boot-{self.port}"
            boot.write_text(f'#!/bin/sh\nexec {sys.executable} {BOOT} "$@"\n')
            boot.chmod(0o755)
            self.flags.append(f"--container_executable={boot}")
        self.process: subprocess.Popen | None = None

    def start(self, ready: bool = True) -> "Pool":
        """Starts the pool; without ready it is to be asked whether it listens."""
        # Without a boot program the pool starts its workers with the "python" of the PATH.
        env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        command = [*self.prefix, sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", *self.flags]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )
        if ready:
            wait(self.listens, "the worker pool")
        return self

    def listens(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        return listens(self.address)

    def workers(self) -> int:
        """How many workers it has, as the children of its process."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return len(found.stdout.split())

    def kill(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def listens(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False
    return True


def external(*pools: Pool | str) -> list[str]:
    """The options of an environment that is one of these pools."""
    addresses = [pool.address if isinstance(pool, Pool) else pool for pool in pools]
    return ["--environment_type=EXTERNAL", "--environment_config=" + ",".join(addresses)]
