"""Processes that serve a port for a while: worker pools and expansion services."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 120


@contextmanager
def serving(name: str, port: int, command: list[str], log: Path, env: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Runs a process that serves a port for as long as the context lasts; yields its address."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not reachable(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the {name} does not serve its port; see {log}")
            time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait()


def reachable(port: int) -> bool:
    try:
        with socket.create_connection(("localhost", port), timeout=1):
            return True
    except OSError:
        return False
