"""Runs one case on a job endpoint, and prints one line of JSON: how long it took, or why it failed.

Usage: python -m padstone_load --case gbk --elements 1000000 --job_endpoint HOST:PORT --pool HOST:PORT --directory DIR
"""

import argparse
import json
import logging
import os
import platform
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from padstone_load.cases import CASES, LATENCY_INTERVAL, Load


def parse_args() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--elements", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=10, help="how long the latency case sends")
    parser.add_argument("--job_endpoint", required=True)
    parser.add_argument("--pool", required=True, help="host:port of a worker pool on this machine")
    parser.add_argument("--directory", type=Path, required=True, help="for the verdict and the latencies")
    parser.add_argument("--timeout", type=float, default=120)
    return parser.parse_known_args()


def run(args: argparse.Namespace, more: list[str]) -> dict:
    load = Load(args.elements, str(args.directory / "verdict"), str(args.directory / "latencies"), args.seconds)
    options = PipelineOptions(
        [
            "--runner=PortableRunner",
            f"--job_endpoint={args.job_endpoint}",
            "--environment_type=EXTERNAL",
            f"--environment_config={args.pool}",
            "--experiments=disable_logging_submission_environment",
            *(["--streaming"] if args.case == "latency" else []),
            *more,
        ]
    )
    pipeline = beam.Pipeline(options=options)
    CASES[args.case](pipeline, load)
    began = time.monotonic()
    result = pipeline.run()
    submitted = time.monotonic()
    wait(result, args.timeout - (submitted - began))
    ended = time.monotonic()
    judge(args)
    return {"submit_s": submitted - began, "run_s": ended - began}


def wait(result, timeout: float) -> None:
    """Waits for the job; cancels one that takes too long."""
    ended: list = []

    def watch() -> None:
        try:
            ended.append(result.wait_until_finish())
        except Exception as failure:  # noqa: BLE001 (whatever it is, the caller raises it)
            ended.append(failure)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        watcher.join(timeout)
        if not ended:
            raise TimeoutError(f"not done after {timeout:.0f} s")
    except (TimeoutError, KeyboardInterrupt):
        canceller = threading.Thread(target=result.cancel, daemon=True)
        canceller.start()
        canceller.join(10)
        raise
    if isinstance(ended[0], BaseException):
        raise ended[0]
    if ended[0] != "DONE":
        raise RuntimeError(f"the job ended as {ended[0]}")


def judge(args: argparse.Namespace) -> None:
    """Raises unless the result was right: the job has said so itself."""
    if args.case == "latency":
        path = args.directory / "latencies"
        arrived = len(path.read_text().splitlines()) if path.exists() else 0
        sent = int(args.seconds / LATENCY_INTERVAL)
        if not sent <= arrived <= sent + 1:  # the end belongs to it or not
            raise ValueError(f"wrong result: {arrived} of {sent} elements have arrived")
        return
    verdict = args.directory / "verdict"
    text = verdict.read_text() if verdict.exists() else "wrong result: nothing has arrived at the end of the pipeline"
    if text != "right":
        raise ValueError(text)


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the job is cancelled before this ends
    args, more = parse_args()
    try:
        outcome = {"ok": True, **run(args, more)}
    except Exception as failure:  # noqa: BLE001 (a peer may fail in any way)
        traceback.print_exc()
        outcome = {"ok": False, "error": str(failure) or repr(failure)}
    versions = {"python": platform.python_version(), "apache_beam": beam.__version__}
    print(json.dumps({**outcome, **versions}), flush=True)
    # Not by the end of the interpreter, which hangs where a thread of gRPC is stopped with a lock that is taken later.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
