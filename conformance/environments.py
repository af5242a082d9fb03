"""The environments in which the Python harnesses of a run are started."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ports import free_ports
from python_suites import python_path
from serving import serving

ROOT = Path(__file__).resolve().parent.parent
BOOT = ROOT / "tests" / "pipelines" / "boot.py"


@contextmanager
def started(environment: str, work: Path) -> Iterator[str]:
    """Completes "EXTERNAL" and "PROCESS" with a worker pool, while the context lasts, or a boot program of ours."""
    if environment == "EXTERNAL":
        with worker_pool(work) as address:
            yield f"EXTERNAL={address}"
    elif environment == "PROCESS":
        yield f"PROCESS={json.dumps({'command': str(boot_program(work))})}"
    else:
        yield environment


@contextmanager
def worker_pool(work: Path) -> Iterator[str]:
    """Beam's own worker pool, which starts a process for each worker."""
    (port,) = free_ports(1)
    # The pool starts its workers with the "python" of the PATH.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "PYTHONPATH": python_path(), "GRPC_VERBOSITY": "NONE"}
    command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={port}"]
    with serving("worker pool", port, command, work / "pool.log", env) as address:
        yield address


def boot_program(work: Path) -> Path:
    """The command of a PROCESS environment: it gets the endpoints by flags and starts the SDK's worker."""
    program = work / "boot"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{python_path()}" exec "{sys.executable}" "{BOOT}" "$@"\n')
    program.chmod(0o755)
    return program
