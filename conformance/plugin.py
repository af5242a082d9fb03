"""pytest plugin that points Beam's own tests at a job endpoint and tells what became of each.

Many of Beam's tests choose a runner themselves. A pipeline that is made without a runner, or for one of the SDK's local
runners, by name or as an object, is redirected to the endpoint; other runners stay. Jobs are counted per test: one that
passes without a job says nothing about the endpoint and is counted apart.
"""

import copy
import json
import os
import re
import shlex
import time
from pathlib import Path

import pytest
from endpoint import NO_PIP_FREEZE, RESULTS, environment, job_endpoint

LOCAL_RUNNERS = frozenset(
    {None, "DirectRunner", "FnApiRunner", "BundleBasedDirectRunner", "SwitchingDirectRunner", "PrismRunner"}
)
REFUSAL = re.compile(r"\b(unsupported-[a-z0-9-]+)")
REASON_CHARS = 600


def pytest_addoption(parser):
    # Beam's tests with the mark it_validatesrunner ask for this option.
    parser.addoption("--test-pipeline-options", default="")


class Jobs:
    """The jobs that the test now running has submitted."""

    def __init__(self) -> None:
        self.submitted: list[tuple[object, str]] = []  # (job service stub, job id)

    def watch_submissions(self) -> None:
        from apache_beam.runners.portability.portable_runner import JobServiceHandle

        run = JobServiceHandle.run
        submitted = self.submitted

        def watched(handle, preparation_id):
            streams = run(handle, preparation_id)
            submitted.append((handle.job_service, streams[0]))
            return streams

        JobServiceHandle.run = watched

    def cancel_leftovers(self) -> int:
        """Cancels jobs that the test has left running, so that they do not disturb the next; returns how many."""
        from apache_beam.portability.api import beam_job_api_pb2 as pb
        from apache_beam.runners.portability.portable_runner import TERMINAL_STATES
        from grpc import RpcError

        left = 0
        for stub, job_id in self.submitted:
            try:
                state = stub.GetState(pb.GetJobStateRequest(job_id=job_id), timeout=5).state
                if state not in TERMINAL_STATES:
                    left += 1
                    stub.Cancel(pb.CancelJobRequest(job_id=job_id), timeout=5)
            except RpcError:
                pass  # the test's own verdict says enough
        self.submitted.clear()
        return left


def redirect_pipelines() -> None:
    from apache_beam import pipeline
    from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, PortableOptions, StandardOptions
    from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner, SwitchingDirectRunner
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    local_classes = (BundleBasedDirectRunner, FnApiRunner, SwitchingDirectRunner)
    make = pipeline.Pipeline.__init__

    def redirected(self, runner=None, options=None, argv=None, display_data=None):
        if options is None:
            options = PipelineOptions(argv or [])
        named = runner if runner is not None else options.view_as(StandardOptions).runner
        # By its exact type: a runner derived from these is the test's own.
        by_name = (named is None or isinstance(named, str)) and named in LOCAL_RUNNERS
        if by_name or type(named) in local_classes:
            options, runner = copy.deepcopy(options), None
            options.view_as(StandardOptions).runner = "PortableRunner"
            portable = options.view_as(PortableOptions)
            portable.job_endpoint = job_endpoint()
            portable.environment_type, portable.environment_config = environment()
            options.view_as(DebugOptions).add_experiment(NO_PIP_FREEZE)
        make(self, runner, options, None, display_data)

    pipeline.Pipeline.__init__ = redirected


def configure_test_pipelines() -> None:
    """What Beam's own build does with --test-pipeline-options; without it integration tests skip themselves."""
    from apache_beam.testing.test_pipeline import TestPipeline

    kind, environment_config = environment()
    flags = ["--runner=PortableRunner", f"--job_endpoint={job_endpoint()}", f"--environment_type={kind}"]
    flags += [f"--environment_config={environment_config}"] if environment_config else []
    flags.append(f"--temp_location={Path(os.environ[RESULTS]).parent / 'temp'}")
    TestPipeline.pytest_test_pipeline_options = shlex.join([*flags, f"--experiments={NO_PIP_FREEZE}"])


def pytest_configure(config):
    """With -n, tests run in workers and results are collected in the controller; without, both happen here."""
    worker = hasattr(config, "workerinput")
    if not worker:
        config.pluginmanager.register(Results(Path(os.environ[RESULTS])), "conformance-results")
    if worker or not config.getoption("numprocesses", None):
        redirect_pipelines()
        configure_test_pipelines()
        jobs = Jobs()
        jobs.watch_submissions()
        config.pluginmanager.register(Counting(jobs), "conformance-counting")


class Counting:
    """Runs beside the tests: how many jobs a test submitted, and how many it left behind."""

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        outcome = yield
        if call.when == "teardown":
            report = outcome.get_result()
            report.user_properties.append(("jobs", len(self.jobs.submitted)))
            report.user_properties.append(("left running", self.jobs.cancel_leftovers()))


class Results:
    """Collects verdicts and writes them after every test, so that a run that is cut short leaves what it has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.time()
        self.tests: dict[str, dict] = {}

    def pytest_runtest_logreport(self, report) -> None:
        test = self.tests.setdefault(report.nodeid, {"verdict": "unfinished", "seconds": 0.0, "jobs": 0, "reason": ""})
        test["seconds"] = round(test["seconds"] + report.duration, 2)
        if report.failed:
            test["reason"] = reason_of(report)
            refusal = REFUSAL.search(report.longreprtext)
            test["verdict"] = "refused" if refusal else "timeout" if "Timeout" in test["reason"] else "failed"
            if refusal:
                test["code"] = refusal.group(1)
        elif report.skipped:
            test.update(verdict="skipped", reason=reason_of(report))
        elif report.when == "call":
            test["verdict"] = "passed"
        if report.when == "teardown":
            test.update(dict(report.user_properties))
            if test["verdict"] == "passed" and not test["jobs"]:
                test["verdict"] = "no job"
            self.write()

    def write(self) -> None:
        results = {"seconds": round(time.time() - self.started, 1), "tests": self.tests}
        self.path.write_text(json.dumps(results, indent=1, sort_keys=True))


def reason_of(report) -> str:
    """The last words of a failure or skip, on one line."""
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[2])[:REASON_CHARS]
    lines = [line.strip() for line in report.longreprtext.splitlines() if line.strip()]
    return " ".join(lines[-3:])[-REASON_CHARS:]
