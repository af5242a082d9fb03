"""Runs test files of the installed Python SDK, with pytest and plugin.py."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from endpoint import ENDPOINT, ENVIRONMENT, RESULTS

HERE = Path(__file__).resolve().parent
PORTS = HERE.parent / "testdata" / "kafka"


def run(name: str, arguments: list[str], args, endpoint: str, environment: str) -> dict[str, dict]:
    """Runs one suite and returns its verdicts by test. `environment` is TYPE or TYPE=config."""
    results, log_path = args.out / f"{name}.json", args.out / f"{name}.log"
    results.unlink(missing_ok=True)
    # The root is above our files and the SDK's: a test outside it has no file in its id.
    root = os.path.commonpath([HERE, sdk_dir()])
    command = [sys.executable, "-m", "pytest", "-c", str(HERE / "pytest.ini"), f"--rootdir={root}", "-p", "plugin"]
    command += ["-p", "no:cacheprovider", "-q", "--tb=native", "-n", str(args.n), "--maxschedchunk=1"]
    command += [f"--timeout={args.timeout}", "--timeout-method=signal"]
    command += [located(a) for a in arguments]
    if args.k:
        command += ["-k", combined(arguments, args.k)]
    env = {
        **os.environ,
        ENDPOINT: endpoint,
        ENVIRONMENT: environment,
        RESULTS: str(results),
        "PYTHONPATH": python_path(),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GRPC_VERBOSITY": "NONE",
    }
    with log_path.open("wb") as log:
        code = subprocess.run(command, cwd=HERE, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode
    if not results.exists():
        if code == 5 and args.k:
            return {}  # pytest: no test matches
        raise SystemExit(f"{name}: pytest ended with exit code {code} and ran no test; see {log_path}")
    return {short(nodeid): test for nodeid, test in json.loads(results.read_text())["tests"].items()}


def python_path() -> str:
    """Where a harness finds the modules of the tests that its functions come from."""
    return os.pathsep.join([str(HERE), str(PORTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)


def combined(arguments: list[str], expression: str) -> str:
    """pytest takes its last -k alone: what a suite leaves out stays out."""
    if "-k" not in arguments:
        return expression
    return f"({arguments[arguments.index('-k') + 1]}) and ({expression})"


def sdk_dir() -> Path:
    return Path(find_spec("apache_beam").origin).parent


def located(argument: str) -> str:
    """A file or folder of the SDK, or of ours, by its full path; everything else as it is."""
    name, separator, rest = argument.partition("::")
    ours = name.removeprefix("./")
    if (HERE / ours).is_file():
        return str(HERE / ours) + separator + rest
    if (sdk_dir() / name).exists():
        return str(sdk_dir() / name) + separator + rest
    return argument


def short(nodeid: str) -> str:
    """A test's name without where the SDK happens to be installed."""
    return nodeid.split("apache_beam/")[-1].split("conformance/")[-1]
