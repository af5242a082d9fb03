"""Runs the tests of Beam's TypeScript SDK on a Padstone server.

    python conformance/typescript/run.py [-g PATTERN] [--endpoint HOST:PORT]

The SDK comes out of the Go module that go.mod names, with the packages of its own lock file; its cross-language
tests get an expansion service and a worker pool of the Python SDK of the same version. All of it is set up once, in
.cache/typescript. Needs Node.js and npm.

Exit code 0 when every test passed, was skipped by Beam itself or is listed in known.txt; 1 otherwise. A test in
known.txt that passes is an error as well, unless it may by chance.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "demo"), str(ROOT / "testdata" / "kafka"), str(HERE.parent)]

from known import listed, surprise  # noqa: E402
from ports import free_ports  # noqa: E402
from server import Server  # noqa: E402
from serving import serving  # noqa: E402

MODULE = "github.com/apache/beam/sdks/v2"
CACHE = ROOT / ".cache" / "typescript"
OUT = ROOT / ".padstone" / "conformance"

# The tests that run pipelines; the others test the SDK by itself.
TESTS = ["primitives_test", "combine_test", "wordcount", "io_test", "docs/programming_guide"]

# The services that the SDK asks for, and would otherwise start with a Python of its own.
JOB_SERVICE = "python:apache_beam.runners.portability.local_job_service_main"
EXPANSION_SERVICE = "python:apache_beam.runners.portability.expansion_service_main"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-g", default="", help="only tests whose names match, a regular expression")
    parser.add_argument("--timeout", type=int, default=60, help="seconds a test may take, unless it says so itself")
    parser.add_argument("--endpoint", default="", help="a job endpoint that is running; default: a server of our own")
    return parser.parse_args()


def output(command: list[str]) -> str:
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def set_up() -> tuple[Path, Path]:
    """Builds the SDK and a Python environment for its cross-language tests, unless they are there; (SDK, Python)."""
    version = output(["go", "list", "-m", "-f", "{{.Version}}", MODULE]).removeprefix("v")
    sdk, python = CACHE / f"sdk-{version}", CACHE / f"python-{version}"
    if not (sdk / "built").exists():
        output(["go", "mod", "download", MODULE])
        shutil.rmtree(sdk, ignore_errors=True)
        shutil.copytree(Path(output(["go", "list", "-m", "-f", "{{.Dir}}", MODULE])) / "typescript", sdk)
        for path in sdk.rglob("*"):
            path.chmod(path.stat().st_mode | 0o200)  # a module's files are read-only
        sdk.chmod(0o755)
        print(f"building the TypeScript SDK {version}", flush=True)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], cwd=sdk, check=True)
        subprocess.run(["npx", "--no-install", "ttsc", "-p", "."], cwd=sdk, check=True)
        (sdk / "built").touch()
    if not (python / "built").exists():
        print(f"installing the Python SDK {version} with pandas", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(python)], check=True)
        pip = [str(python / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, f"apache-beam[dataframe]=={version}"], check=True)
        (python / "built").touch()
    return sdk, python


@contextmanager
def python_services(python: Path):
    """An expansion service whose transforms run in a worker pool beside it; yields its address."""
    pool, expansion = free_ports(2)
    interpreter = [str(python / "bin" / "python"), "-m"]
    pool_command = [*interpreter, "apache_beam.runners.worker.worker_pool_main", f"--service_port={pool}"]
    expansion_command = [
        *interpreter,
        "apache_beam.runners.portability.expansion_service_main",
        f"--port={expansion}",
        "--fully_qualified_name_glob=*",
        "--environment_type=EXTERNAL",
        f"--environment_config=localhost:{pool}",
    ]
    # The pool starts its workers with whatever "python" is on the path.
    env = {**os.environ, "PATH": os.pathsep.join([str(python / "bin"), os.environ["PATH"]])}
    with (
        serving("worker pool", pool, pool_command, OUT / "pool.log", env),
        serving("expansion service", expansion, expansion_command, OUT / "expansion.log", env) as address,
    ):
        yield address


def run_tests(sdk: Path, endpoint: str, expansion: str, args: argparse.Namespace) -> dict[str, dict]:
    """Runs the tests and returns their verdicts by name."""
    results = OUT / "typescript.json"
    results.unlink(missing_ok=True)
    hook = str(HERE / "redirect.js")
    command = ["npx", "--no-install", "mocha", "--no-config", "--exit", "--require", hook, "--reporter", hook]
    command += [f"--timeout={args.timeout * 1000}"]
    command += ["--grep", args.g] if args.g else []
    command += [f"dist/test/{name}.js" for name in TESTS]
    env = {
        **os.environ,
        "BEAM_SERVICE_OVERRIDES": json.dumps({JOB_SERVICE: endpoint, EXPANSION_SERVICE: expansion}),
        "PADSTONE_CONFORMANCE_RESULTS": str(results),
    }
    with (OUT / "typescript.log").open("wb") as log:
        code = subprocess.run(command, cwd=sdk, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode
    if not results.exists():
        raise SystemExit(f"mocha ended with exit code {code} and ran no test; see {OUT / 'typescript.log'}")
    return json.loads(results.read_text())


def report(tests: dict[str, dict], known: dict[str, str]) -> int:
    """Prints the counts and the tests that ask for attention; returns how many do."""
    counts = Counter(test["verdict"] for test in tests.values())
    print("typescript: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    judged = (test for test in sorted(tests.items()) if test[1]["verdict"] not in ("skipped", "no job"))
    return sum(surprise(name, test, known.get(name)) for name, test in judged)


def main() -> int:
    args = parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    sdk, python = set_up()
    with ExitStack() as stack:
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="padstone-conformance-"))
        os.environ["TMPDIR"] = work  # SDKs leave files there
        server = None
        if not args.endpoint:
            server = stack.enter_context(Server(Path(work) / "data"))
        expansion = stack.enter_context(python_services(python))
        tests = run_tests(sdk, args.endpoint or server.job_endpoint, expansion, args)
        surprises = report(tests, listed(HERE / "known.txt"))
        if server and not server.alive():
            print(f"the server has ended:\n{server.log_tail()}")
            surprises += 1
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
