"""Runs Beam's own test suites, out of the installed SDKs, on a Padstone server.

    python conformance/run.py [quick | all | SUITE...] [-k EXPRESSION] [-n WORKERS] [--environment TYPE] ...

Exit code 0 when every test passed or is listed in known.txt, with the reason why it does not; 1 otherwise. That a test
was skipped has to be listed as well, and a listed test that passes is an error, unless it may by chance: the list says
what does not work.
"""

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "demo"), str(HERE.parent / "testdata" / "kafka")]

import environments  # noqa: E402
import go_suites  # noqa: E402
import python_suites  # noqa: E402
from known import listed, surprise  # noqa: E402
from server import Server  # noqa: E402
from suites import ENVIRONMENTS, GO, KNOWN, PYTHON, QUICK  # noqa: E402

LOOPBACK = "LOOPBACK"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", default=["quick"], help=f"quick, all, or: {', '.join([*PYTHON, *GO])}")
    parser.add_argument("-k", default="", help="only tests that match: pytest's syntax; for Go a regular expression")
    parser.add_argument("-n", type=int, default=2, help="how many tests run at once")
    parser.add_argument("--timeout", type=int, default=240, help="seconds a test may take")
    parser.add_argument(
        "--environment",
        default="",
        help="environment of the Python suites: LOOPBACK, EXTERNAL and PROCESS, or TYPE=config for one of your own",
    )
    parser.add_argument("--endpoint", default="", help="a job endpoint that is running; default: a server of our own")
    parser.add_argument("--build", action="store_true", help="only build the test binaries of the Go suites")
    parser.add_argument("--out", type=Path, default=HERE.parent / ".padstone" / "conformance")
    args = parser.parse_args()
    unknown = [name for name in args.suites if name not in PYTHON and name not in GO and name not in ("quick", "all")]
    if unknown:
        parser.error(f"no such suite: {', '.join(unknown)}")
    return args


def planned(args: argparse.Namespace) -> list[tuple[str, str]]:
    """The runs that were asked for: (suite, environment)."""
    if "all" not in args.suites:
        return [(suite, args.environment or LOOPBACK) for suite in args.suites]
    runs = []
    for suite in [*PYTHON, *GO]:
        runs.append((suite, args.environment or LOOPBACK))
        if not args.environment:
            runs += [(suite, environment) for environment in ENVIRONMENTS.get(suite, ())]
    return runs


def run_suite(suite: str, environment: str, args: argparse.Namespace, endpoint: str, work: Path) -> dict[str, dict]:
    """Verdicts by test; the name of a test in another environment than LOOPBACK begins with that environment."""
    if suite in GO:
        return go_suites.run(suite, args, endpoint)
    kind = environment.partition("=")[0]
    name = suite if kind == LOOPBACK else f"{suite}-{kind.lower()}"
    quick = list(listed(QUICK)) if suite == "quick" else []
    arguments = [test for test in quick if test.partition("::")[0] not in GO] or PYTHON[suite]
    with environments.started(environment, work) as completed:
        tests = python_suites.run(name, arguments, args, endpoint, completed)
    if kind != LOOPBACK:
        tests = {f"{kind} {test}": result for test, result in tests.items()}
    for go_suite in GO:
        only = [test.partition("::")[2] for test in quick if test.partition("::")[0] == go_suite]
        if only:
            tests.update(go_suites.run(go_suite, args, endpoint, only))
    return tests


def build(suites: list[str]) -> None:
    """Builds the test binaries of the Go suites among these."""
    for suite in suites:
        of_quick = {test.partition("::")[0] for test in listed(QUICK)} if suite == "quick" else {suite}
        for name in sorted(of_quick & set(GO)):
            go_suites.built(name)


def report(name: str, tests: dict[str, dict], known: dict[str, str]) -> int:
    """Prints the counts of a suite and the tests that ask for attention; returns how many do."""
    counts = Counter(test["verdict"] for test in tests.values())
    seconds = sum(test["seconds"] for test in tests.values())
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    print(f"{name}: {summary}; {seconds:.0f} s of tests", flush=True)
    refusals = Counter(test["code"] for test in tests.values() if test["verdict"] == "refused")
    for code, count in sorted(refusals.items()):
        print(f"  refused by name: {count} with {code}; {known.get(code, 'NEW')}")
    surprises = 0
    for nodeid, test in sorted(tests.items()):
        # An entry without an environment is for all of them.
        why = known.get(nodeid) or known.get(nodeid.partition(" ")[2])
        if test["verdict"] != "no job" and test.get("code") not in known:
            surprises += surprise(nodeid, test, why)
    return surprises


def main() -> int:
    args = parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.build:
        build([suite for suite, _ in planned(args)])
        return 0
    known = listed(KNOWN)
    verdicts, surprises = Counter(), 0
    with tempfile.TemporaryDirectory(prefix="padstone-conformance-") as directory:
        work = Path(directory)
        os.environ["TMPDIR"] = directory  # SDKs leave files there
        tempfile.tempdir = None
        server = None if args.endpoint else Server(work / "data").start()
        try:
            for suite, environment in planned(args):
                tests = run_suite(suite, environment, args, args.endpoint or server.job_endpoint, work)
                named = suite if environment == LOOPBACK or suite in GO else f"{suite} in {environment}"
                surprises += report(named, tests, known)
                verdicts.update(test["verdict"] for test in tests.values())
                if server is not None and not server.alive():
                    print(f"the server has ended:\n{server.log_tail()}")
                    surprises += 1
                    break
        finally:
            if server is not None:
                server.stop()
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    print(f"conformance: {summary}; {surprises} not as in known.txt")
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
