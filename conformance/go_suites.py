"""Builds the test binaries of Beam's Go SDK, out of the module cache, and runs them on a job endpoint.

The binaries run with --runner=universal, for which the SDK has no list of tests to skip, in LOOPBACK. Each top-level
test is a process of its own (go_process.py).
"""

import json
import re
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from go_process import TestProcess
from suites import GO, HERE

ROOT = HERE.parent
BEAMGO = HERE / "beamgo"
MODULE = "github.com/apache/beam/sdks/v2"
BINARIES = ROOT / ".cache" / "beamgo"

# Left out by name, because they are not about a runner.
LEFT_OUT = {
    "go_primitives": {"TestOomParDo": "fills the memory, to find a heap dump in Dataflow's bucket"},
    "go_prism": {"TestUnimplemented": "asks that pipelines fail which Prism does not support"},
}


def run(name: str, args, endpoint: str, only: list[str] | None = None) -> dict[str, dict]:
    """Runs one suite, or the top-level tests `only` of it, and returns its verdicts by "suite::test"."""
    binary = built(name)
    folder = sdk_dir() / "go" / GO[name]
    tests: dict[str, dict] = {}
    with (
        tempfile.NamedTemporaryFile(prefix="padstone-worker") as worker,
        (args.out / f"{name}.log").open("w") as log,
        ThreadPoolExecutor(args.n) as pool,
    ):
        # The worker binary is for environments with containers; without one the SDK compiles it for every job.
        command = [str(binary), "-runner=universal", f"-endpoint={endpoint}", "-environment_type=LOOPBACK"]
        command.append(f"-worker_binary={worker.name}")
        processes = [
            TestProcess(command, folder, top, endpoint, args.timeout)
            for top in chosen(name, binary, folder, args.k, only)
        ]
        for process, found in zip(processes, pool.map(TestProcess.run, processes), strict=True):
            tests.update({f"{name}::{test}": result for test, result in found.items()})
            log.write("\n".join([f"==== {process.top}", *process.lines, ""]))
            log.flush()
            (args.out / f"{name}.json").write_text(json.dumps({"tests": tests}, indent=1, sort_keys=True))
    return tests


def chosen(name: str, binary: Path, folder: Path, expression: str, only: list[str] | None) -> list[str]:
    """The top-level tests that are to run."""
    listing = subprocess.run([binary, "-test.list", "."], cwd=folder, check=True, capture_output=True, text=True).stdout
    tests = [test for test in listing.split() if test.startswith("Test") and test not in LEFT_OUT.get(name, {})]
    if only is not None:
        missing = set(only) - set(tests)
        if missing:
            raise SystemExit(f"{name} has no test {', '.join(sorted(missing))}")
        tests = [test for test in tests if test in only]
    return [test for test in tests if re.search(expression, test)]


def built(name: str) -> Path:
    """Builds the suite's test binary, unless there is one of this SDK and this Go already."""
    binary = BINARIES / f"{sdk_version()}-{go('env', 'GOVERSION')}" / f"{name}.test"
    if not binary.exists():
        started = time.monotonic()
        binary.parent.mkdir(parents=True, exist_ok=True)
        go("test", "-c", "-o", str(binary), f"{MODULE}/go/{GO[name]}", cwd=BEAMGO)
        print(f"{name}: test binary built in {time.monotonic() - started:.0f} s", flush=True)
    return binary


@cache
def sdk_version() -> str:
    version, ours = (go("list", "-m", "-f", "{{.Version}}", MODULE, cwd=folder) for folder in (BEAMGO, ROOT))
    if version != ours:
        raise SystemExit(f"{MODULE} is {ours} in go.mod and {version} in {BEAMGO / 'go.mod'}")
    return version


@cache
def sdk_dir() -> Path:
    return Path(go("list", "-m", "-f", "{{.Dir}}", MODULE, cwd=BEAMGO))


def go(*arguments: str, cwd: Path = ROOT) -> str:
    done = subprocess.run(["go", *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"go {' '.join(arguments)}, in {cwd}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()
