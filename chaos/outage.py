"""Brokers that are away for a while: the job waits, says so, holds its memory, and goes on."""

import time

from system import UP_SECONDS
from victims import memory_kib, wait_until

CALM_SECONDS = 10.0
LOOK_SECONDS = 5.0
GROWTH_MIB_MOST = 256


def run_outage(run) -> None:
    """Kills the brokers that are to be away, looks at the job meanwhile, and starts them again."""
    args, system = run.args, run.system
    away = system.brokers() if args.outage_of == "all" else [system.output_broker]
    time.sleep(CALM_SECONDS)
    system.committed()
    before_mib = memory_kib(system.server.process.pid, "VmRSS") >> 10
    for broker in away:
        broker.kill()
    began = time.monotonic()
    run.say(f"{len(away)} brokers are away for {args.outage:.0f} s; the server has {before_mib} MiB")
    reasons: set[str] = set()
    while time.monotonic() - began < args.outage:
        time.sleep(min(LOOK_SECONDS, args.outage / 5))
        run._check_producer()
        reasons |= set(_reasons(system))
    during_mib = memory_kib(system.server.process.pid, "VmRSS") >> 10
    run.say(f"the server has {during_mib} MiB; the job says: {'; '.join(sorted(reasons)) or 'nothing'}")
    if not reasons:
        raise RuntimeError("the job did not say that brokers are away")
    if during_mib - before_mib > GROWTH_MIB_MOST:
        raise RuntimeError(f"the server grew from {before_mib} to {during_mib} MiB in the outage")
    system.committed()
    for broker in away:
        broker.start(wait=False)
    for broker in away:
        wait_until(broker.ready, UP_SECONDS, "the broker's start")
    up = time.monotonic()
    system.wait_progress()
    back = time.monotonic() - up
    run.say(f"the job goes on {back:.1f} s after the brokers are back")
    time.sleep(CALM_SECONDS)
    memory = f"the server had {before_mib} MiB before it and {during_mib} MiB at its end"
    said = "; ".join(sorted(reasons))
    run.report.notes.append(
        f"Outage of {args.outage:.0f} s ({args.outage_of}): {memory}; next commit {back:.1f} s later. It said: {said}"
    )


def _reasons(system) -> list[str]:
    """What the job's description says about brokers: the problems of its splits, and what stages wait for."""
    description = system.job().get("description") or {}
    said = [split.get("problem", "") for source in description.get("sources") or () for split in source["splits"] or ()]
    said += [
        stage.get("waiting", "") for stage in description.get("stages") or () if "broker" in stage.get("waiting", "")
    ]
    return [text for text in said if text]
