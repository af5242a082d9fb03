#!/usr/bin/env python3
"""Measures what passes between a job's submission and its first element, by environment: containers/start.py --help

A server of its own runs the same small job again and again. The times are those of the job's states, of its messages,
which the harness dates itself, and of the user code's own clock:

    accepted     the client has the job's id; nothing of the submitting program before that counts
    boot         Beam's boot program has called the server: a container was created and started, or a process
    python       boot has looked at the installed packages, fetched and installed what is staged, and starts Python
    imported     Python has imported Beam and set up its logging
    element      the first element is in user code
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "demo"))

from server import Server  # noqa: E402

SCRIPT = ROOT / "tests" / "pipelines" / "containers.py"
# What each step's first message begins with. There are none without boot.
STEPS = {
    "boot": ("Initializing python harness",),
    "python": ("Executing Python",),
    "imported": ("Logging handler created",),
}


def at(text: str) -> float:
    whole, _, fraction = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole + "+00:00").timestamp() + float(f"0.{fraction or 0}")


def run(server: Server, environment: list[str]) -> dict[str, float]:
    """One job: seconds from its acceptance to each step."""
    command = [sys.executable, str(SCRIPT), "--runner=PortableRunner", f"--job_endpoint={server.job_endpoint}"]
    command += ["--experiments=disable_logging_submission_environment", *environment]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    job = server.api.jobs()[0]
    begun = next(at(state["at"]) for state in job["history"] if state["state"] == "STARTING")
    messages = server.api.messages(job["id"])
    steps = {}
    for step, beginnings in STEPS.items():
        times = [at(m["time"]) for m in messages if m["text"].startswith(beginnings)]
        if times:
            steps[step] = min(times) - begun
    steps["element"] = int(done.stdout.split("first element at ")[1].split()[0]) / 1000 - begun
    return steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environment", action="append", required=True, help="TYPE or TYPE=CONFIG; repeatable")
    parser.add_argument(
        "--option", action="append", default=[], help="another pipeline option, such as --docker_pull=never"
    )
    parser.add_argument(
        "--server-flag", action="append", default=[], help="a flag of padstone serve, such as --docker-network=bridge"
    )
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as data, Server(Path(data), extra=args.server_flag) as server:
        results: dict[str, list[dict[str, float]]] = {environment: [] for environment in args.environment}
        for _ in range(args.runs):  # interleaved: what else the machine does hits all alike
            for environment, runs in results.items():
                kind, _, config = environment.partition("=")
                flags = [f"--environment_type={kind}", *([f"--environment_config={config}"] if config else [])]
                runs.append(run(server, [*flags, *args.option]))
    print(
        f"{'seconds after acceptance, median [least-most]':60}" + "".join(f"{step:>18}" for step in (*STEPS, "element"))
    )
    for environment, runs in results.items():
        line = f"{environment[:59]:60}"
        for step in (*STEPS, "element"):
            times = [steps[step] for steps in runs if step in steps]
            line += f"{statistics.median(times):8.2f} [{min(times):.2f}-{max(times):.2f}]" if times else f"{'-':>18}"
        print(line)
    print(json.dumps(results), file=sys.stderr)


if __name__ == "__main__":
    main()
