"""Runs Beam's own test suites, out of the installed SDK, on a Padstone server.

    python conformance/run.py [quick | all | SUITE...] [-k EXPRESSION] [-n WORKERS] [--timeout SECONDS]

Exit code 0 when every test passed, was skipped by Beam itself or is listed in known.txt, by name or by the
code of its refusal; 1 otherwise. A test in known.txt that passes is an error as well: the list says what does not work.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "demo"))

from endpoint import ENDPOINT, ENVIRONMENT, RESULTS  # noqa: E402
from server import Server  # noqa: E402

# Suites are files of the installed SDK, relative to the package apache_beam, with pytest's own arguments.
SUITES: dict[str, list[str]] = {
    "portable": [str(HERE / "portable_test.py")],
    "validatesrunner": [
        "metrics/metric_test.py",
        "pipeline_test.py",
        "runners/portability/fn_api_runner/translations_test.py",
        "transforms/combinefn_lifecycle_test.py",
        "transforms/combiners_test.py",
        "transforms/deduplicate_test.py",
        "transforms/dofn_lifecycle_test.py",
        "transforms/ptransform_test.py",
        "transforms/sideinputs_test.py",
        "transforms/util_test.py",
        "-m",
        "it_validatesrunner",
    ],
    "trigger": ["transforms/trigger_test.py", "-k", "TestStreamTranscript or BatchTranscript or TriggerPipelineTest"],
    "teststream": [
        "testing/test_stream_test.py",
        "testing/test_stream_it_test.py",
        "transforms/periodicsequence_test.py",
        "examples/cookbook/ordered_window_elements/streaming_test.py",
    ],
    "state": ["transforms/userstate_test.py", "examples/cookbook/ordered_window_elements/batch_test.py"],
}

# One or two tests for every feature, about three minutes in all.
QUICK = HERE / "quick.txt"
KNOWN = HERE / "known.txt"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=["quick"], help=f"quick, all, or any of: {', '.join(SUITES)}")
    parser.add_argument("-k", default="", help="only tests that match, in pytest's own syntax")
    parser.add_argument("-n", type=int, default=2, help="how many tests run at once")
    parser.add_argument("--timeout", type=int, default=240, help="seconds a test may take")
    parser.add_argument("--environment", default="LOOPBACK", help="environment_type, or TYPE=config")
    parser.add_argument("--endpoint", default="", help="a job endpoint that is running; default: a server of our own")
    parser.add_argument("--out", type=Path, default=HERE.parent / ".padstone" / "conformance")
    args = parser.parse_args()
    unknown = [name for name in args.suites if name not in SUITES and name not in ("quick", "all")]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    return args


def listed(path: Path) -> dict[str, str]:
    """Reads lines of "test or code  # why"; {test or code: why}."""
    entries = {}
    for line in path.read_text().splitlines():
        test, _, why = line.partition("#")
        if test.strip():
            entries[test.strip()] = why.strip()
    return entries


def sdk_dir() -> Path:
    return Path(find_spec("apache_beam").origin).parent


def located(argument: str) -> str:
    """A test file of the SDK by its full path; everything else as it is."""
    name, separator, rest = argument.partition("::")
    if not name.endswith(".py"):
        return argument
    if name == "portable_test.py":
        return str(HERE / name) + separator + rest
    return str(sdk_dir() / name) + separator + rest


def short(nodeid: str) -> str:
    """A test's name without where the SDK happens to be installed."""
    return nodeid.split("apache_beam/")[-1].split("conformance/")[-1]


def run_suite(name: str, arguments: list[str], args: argparse.Namespace, endpoint: str) -> dict[str, dict]:
    """Runs one suite and returns its verdicts by test."""
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / f"{name}.json"
    results.unlink(missing_ok=True)
    # The root is above our files and the SDK's: a test outside it has no file in its id.
    root = os.path.commonpath([HERE, sdk_dir()])
    command = [sys.executable, "-m", "pytest", "-c", str(HERE / "pytest.ini"), f"--rootdir={root}", "-p", "plugin"]
    command += ["-p", "no:cacheprovider", "-q", "--tb=native", "-n", str(args.n), "--maxschedchunk=1"]
    command += [f"--timeout={args.timeout}", "--timeout-method=signal"]
    command += [located(a) for a in arguments]
    if args.k:
        command += ["-k", args.k]
    env = {
        **os.environ,
        ENDPOINT: endpoint,
        ENVIRONMENT: args.environment,
        RESULTS: str(results),
        "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GRPC_VERBOSITY": "NONE",
    }
    with (args.out / f"{name}.log").open("wb") as log:
        code = subprocess.run(command, cwd=HERE, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode
    if not results.exists():
        raise SystemExit(f"{name}: pytest ended with exit code {code} and ran no test; see {args.out / name}.log")
    return {short(nodeid): test for nodeid, test in json.loads(results.read_text())["tests"].items()}


def report(name: str, tests: dict[str, dict], known: dict[str, str]) -> int:
    """Prints the counts of a suite and the tests that ask for attention; returns how many do."""
    counts = Counter(test["verdict"] for test in tests.values())
    seconds = sum(test["seconds"] for test in tests.values())
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"{name}: {summary}; {seconds:.0f} s of tests")
    refusals = Counter(test["code"] for test in tests.values() if test["verdict"] == "refused")
    for code, count in sorted(refusals.items()):
        print(f"  refused by name: {count} with {code}; {known.get(code, 'NEW')}")
    surprises = 0
    for nodeid, test in sorted(tests.items()):
        if test["verdict"] == "passed" and nodeid in known:
            print(f"  NEW: {nodeid}: passes, but is in known.txt")
            surprises += 1
        elif test["verdict"] in ("passed", "skipped", "no job") or test.get("code") in known:
            continue
        elif nodeid in known:
            print(f"  known: {nodeid}: {test['verdict']}; {known[nodeid]}")
        else:
            print(f"  NEW: {nodeid}: {test['verdict']}; {test['reason']}")
            surprises += 1
    return surprises


def main() -> int:
    args = parse_args()
    suites = list(SUITES) if "all" in args.suites else args.suites
    known = listed(KNOWN)
    verdicts, surprises = Counter(), 0
    with tempfile.TemporaryDirectory(prefix="padstone-conformance-") as work:
        server = None if args.endpoint else Server(Path(work)).start()
        try:
            for name in suites:
                arguments = list(listed(QUICK)) if name == "quick" else SUITES[name]
                tests = run_suite(name, arguments, args, args.endpoint or server.job_endpoint)
                surprises += report(name, tests, known)
                verdicts.update(test["verdict"] for test in tests.values())
            if server is not None and not server.alive():
                print(f"the server has ended:\n{server.log_tail()}")
                surprises += 1
        finally:
            if server is not None:
                server.stop()
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    print(f"conformance: {summary}; {surprises} not as in known.txt")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
