"""Runs the ValidatesRunner tests of Beam's Java SDK on a Padstone server, and pipelines in Java and Python.

    python conformance/java/run.py [--test PATTERN] [--forks JVMS] [--timeout SECONDS]

The tests come out of the SDK's published jars, selected by their category and by nothing else. Their pipelines are
submitted by Beam's PortableRunner and run in the SDK's own harness, in LOOPBACK. The cross-language tests among them
get transforms in Python. Then Beam's cross-language pipelines in Python are run with transforms in Java. Both kinds
reach the expansion service of the other language through the server's own. Needs Java 11 or newer and Maven.

Exit code 0 when every test passed, was skipped by Beam itself or is listed in known.txt; 1 otherwise. A test in
known.txt that passes is an error as well.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "demo"), str(ROOT / "testdata" / "kafka"), str(HERE.parent)]

from known import listed, surprise  # noqa: E402
from ports import free_ports  # noqa: E402
from server import Server  # noqa: E402
from serving import serving  # noqa: E402

CACHE = ROOT / ".cache" / "java"
OUT = ROOT / ".padstone" / "conformance"
REPORTS = OUT / "java"

# Beam's Python service, with the transforms that Beam's own tests ask for, and a worker in the same process.
PYTHON_SERVICE = """
import sys
from apache_beam.runners.portability import expansion_service_main, expansion_service_test
expansion_service_main.main(sys.argv[1:])
"""
PYTHON_PIPELINES = "apache_beam.transforms.validate_runner_xlang_test"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--test", default="", help="only these, in surefire's syntax: 'ParDoTest$TimerTests', 'ViewTest#testEmpty*'"
    )
    parser.add_argument("--timeout", type=int, default=120, help="seconds a job may take")
    parser.add_argument("--forks", type=int, default=1, help="how many JVMs run tests side by side")
    return parser.parse_args()


def maven(*arguments: str, log: Path | None = None) -> None:
    """Runs Maven on our pom; its output is shown only if it fails."""
    command = ["mvn", "-B", "-ntp", "-f", str(HERE / "pom.xml"), *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if log is not None:
        log.write_text(done.stdout + done.stderr)
    if done.returncode != 0:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise SystemExit(f"mvn {arguments[0]} ended with exit code {done.returncode}:\n{tail}")


def class_path() -> str:
    """Compiles what is ours, and returns the class path of the tests."""
    path = CACHE / "classpath.txt"
    maven("test-compile", "dependency:build-classpath", f"-Dmdep.outputFile={path}")
    return os.pathsep.join([str(CACHE / "test-classes"), path.read_text().strip()])


def python_service():
    """One of its transforms parses HTML; Beam's container would install what that needs."""
    packages = CACHE / "python"
    if not packages.exists():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "--target", str(packages), "beautifulsoup4>=4.9,<5"], check=True)
    (port,) = free_ports(1)
    command = [sys.executable, "-c", PYTHON_SERVICE, f"--port={port}", "--serve_loopback_worker"]
    env = {**os.environ, "PYTHONPATH": str(packages)}
    return serving(
        "Python service", port, [*command, "--fully_qualified_name_glob=*"], OUT / "java-python-service.log", env
    )


def java_service(classes: str):
    (port,) = free_ports(1)
    main = "org.apache.beam.sdk.expansion.service.ExpansionService"
    command = ["java", "-cp", classes, main, str(port), "--alsoStartLoopbackWorker"]
    return serving("Java service", port, command, OUT / "java-service.log")


def run_java(server: Server, args: argparse.Namespace) -> dict[str, dict]:
    """Runs the Java tests and returns their verdicts by name."""
    shutil.rmtree(REPORTS, ignore_errors=True)
    # In LOOPBACK the classes are there; without a list the runner would stage the whole class path for every job.
    options = [
        "--runner=padstone.EndpointRunner",
        f"--jobEndpoint={server.job_endpoint}",
        "--defaultEnvironmentType=LOOPBACK",
        f"--filesToStage={HERE / 'pom.xml'}",
    ]
    arguments = [f"-DpipelineOptions={json.dumps(options)}", f"-Dreports={REPORTS}", f"-DforkCount={args.forks}"]
    arguments += [f"-DexpansionPort={server.endpoints['expansion'].rpartition(':')[2]}"]
    arguments += [f"-DjobTimeoutMs={args.timeout * 1000}"]
    if args.test:
        arguments += [f"-Dtest={args.test}", "-Dsurefire.failIfNoSpecifiedTests=false"]
    maven("surefire:test", *arguments, log=OUT / "java.log")
    tests = {}
    for report in sorted(REPORTS.glob("TEST-*.xml")):
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname').rpartition('.')[2]}.{case.get('name')}"
            tests[name] = verdict(case)
    return tests


def verdict(case: ElementTree.Element) -> dict:
    failure = case.find("error") if case.find("error") is not None else case.find("failure")
    if failure is not None:
        lines = [line.strip() for line in (failure.text or "").splitlines() if line.strip()]
        said = [line for line in lines if not line.startswith("at ") and "experienced the following error" not in line]
        return {"verdict": "failed", "reason": " ".join(said)[:400]}
    return {"verdict": "passed" if case.find("skipped") is None else "skipped", "reason": ""}


def run_python(server: Server) -> dict[str, dict]:
    """Runs Beam's cross-language pipelines in Python and returns their verdicts by name."""
    from importlib import import_module

    from apache_beam import Pipeline
    from apache_beam.options.pipeline_options import PipelineOptions

    pipelines = import_module(PYTHON_PIPELINES).CrossLanguageTestPipelines(server.endpoints["expansion"])
    flags = ["--runner=PortableRunner", f"--job_endpoint={server.job_endpoint}", "--environment_type=LOOPBACK"]
    flags += ["--experiments=disable_logging_submission_environment"]
    tests = {}
    for name in sorted(dir(pipelines)):
        if not name.startswith("run_"):
            continue
        try:
            getattr(pipelines, name)(Pipeline(options=PipelineOptions(flags)))
            tests[f"python.{name}"] = {"verdict": "passed", "reason": ""}
        except Exception as error:  # whatever it is, it is the test's verdict
            tests[f"python.{name}"] = {"verdict": "failed", "reason": str(error)[:400]}
    return tests


def report(tests: dict[str, dict], known: dict[str, str]) -> int:
    """Prints the counts by class and the tests that ask for attention; returns how many do."""
    classes: dict[str, Counter] = {}
    for name, test in tests.items():
        classes.setdefault(name.rpartition(".")[0], Counter())[test["verdict"]] += 1
    for name, counts in sorted(classes.items()):
        print(f"  {name}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items())))
    total = sum(classes.values(), Counter())
    print("java: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(total.items())))
    judged = (test for test in sorted(tests.items()) if test[1]["verdict"] != "skipped")
    return sum(surprise(name, test, known.get(name)) for name, test in judged)


def main() -> int:
    args = parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    classes = class_path()
    tests: dict[str, dict] = {}
    surprises = 0
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="padstone-conformance-")))
        os.environ["TMPDIR"] = str(work)  # SDKs leave files there

        def server(service: str) -> Server:
            """A server for each direction: both services have the same transforms, and the first would be asked."""
            data = work / service.replace(":", "-")
            return stack.enter_context(Server(data, extra=["--expansion-service", service]))

        servers = [server(stack.enter_context(python_service()))]
        tests |= run_java(servers[0], args)
        if not args.test:
            servers.append(server(stack.enter_context(java_service(classes))))
            tests |= run_python(servers[1])
        surprises += report(tests, listed(HERE / "known.txt"))
        for dead in (one for one in servers if not one.alive()):
            print(f"the server has ended:\n{dead.log_tail()}")
            surprises += 1
    (OUT / "java.json").write_text(json.dumps(tests, indent=1, sort_keys=True))
    return 1 if surprises else 0


if __name__ == "__main__":
    sys.exit(main())
