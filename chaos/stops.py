"""A job that is stopped with a savepoint and taken up from it again, while its server is killed."""

import threading
import time

from server import ServerError
from system import UP_SECONDS, JobLost
from victims import wait_until

CUT_SHARE = 0.5  # how many stops, and restores, are cut off by kill -9
CUT_SECONDS = 1.5  # at most so long after their begin


def stop_and_restore(run) -> None:
    """Returns when the job runs again. What was cut off has either happened or not: the job's state says it."""
    system = run.system
    while True:
        system.wait_progress()
        system.committed()
        _asked(run, "stop with a savepoint", lambda: system.server.api.stop(system.job_id))
        if system.state() == "UPDATED":
            break
    if system.script_follows:
        system.script_follows = False
        run.report.script_code = system.script_code()
    run.say("the job is stopped with a savepoint")
    while system.state() == "UPDATED":
        _asked(run, "restore", lambda: system.server.api.restore(system.checkpoints, system.job_id))
    system.wait_progress()
    run.say("the job is restored")


def _asked(run, what: str, ask) -> None:
    """Asks, and perhaps kills the server before it has answered. Returns when the job has come to rest."""
    refused: list[ServerError] = []

    def request() -> None:
        try:
            ask()
        except ServerError as error:
            refused.append(error)

    asking = threading.Thread(target=request, daemon=True)
    asking.start()
    cut = run.rng.random() < CUT_SHARE
    if cut:
        time.sleep(run.rng.uniform(0.0, CUT_SECONDS))
        cut = asking.is_alive()  # else there is nothing to cut off any more
    if cut:
        run.note_kill(what)
        run.system.kill_server()
        wait_until(run.system.server.ready, UP_SECONDS, "the server's start")
    asking.join(UP_SECONDS)
    if refused and not cut:
        raise JobLost(f"{what}: {refused[0]}")
    wait_until(lambda: run.system.state() in ("RUNNING", "UPDATED"), UP_SECONDS, f"the end of a {what}")
