"""What a run consists of: broker, server, harnesses, the submitted script; and what the job says about itself."""

import json
import subprocess
import sys
import time
from pathlib import Path

from broker import create_topics
from kafka_node import KafkaNode
from ports import free_ports
from server import BINARY, ROOT, TERMINAL_STATES, Server, ServerError
from victims import Broker, Containers, Embedded, WorkerPool, children, end, is_worker, memory_kib, wait_until

HERE = Path(__file__).resolve().parent
GROUP = "chaos"
UP_SECONDS = 400.0  # more than any start takes on a machine that is busy with other things


class JobLost(RuntimeError):
    """The job ended, or the script did, while it should go on."""


class System:
    """One broker (two, if the output has its own), one server on ports that it keeps, one job."""

    def __init__(self, args, directory: Path) -> None:
        self.args, self.directory = args, directory
        self.input, self.output = "payments", "results"
        self.broker = self._broker("broker")
        self.output_broker = self._broker("output-broker") if args.two_brokers else self.broker
        names = ("job-endpoint", "artifact-endpoint", "expansion-endpoint", "http")
        fixed = [f"--{name}=localhost:{port}" for name, port in zip(names, free_ports(len(names)), strict=True)]
        self.checkpoints = str(directory / "checkpoints")
        if args.checkpoints:
            fixed += ["--checkpoint-dir", self.checkpoints, "--checkpoint-interval", f"{args.checkpoints}s"]
        self.server = Server(directory / "server", extra=fixed)
        self.pool = WorkerPool(directory) if args.environment == "EXTERNAL" else None
        self.containers = Containers()
        self.script: subprocess.Popen | None = None
        self.script_log = directory / "script.log"
        self.script_follows = True  # until the job is stopped with a savepoint: then it has seen the job's end
        self.job_id = ""
        self.peak_kib = 0
        self.lost_workers: set[tuple[str, int]] = set()  # (id, generation) of those that were killed
        self.best = 0  # the largest sum of committed positions that the job has told

    def _broker(self, name: str) -> Broker:
        if self.args.broker == "embedded":
            topics = f"{self.input}:{self.args.partitions},{self.output}:{self.args.partitions}"
            return Embedded(self.directory / name, topics)
        return KafkaNode(self.directory / name, version=self.args.kafka)

    def brokers(self) -> list[Broker]:
        return [self.broker] if self.broker is self.output_broker else [self.broker, self.output_broker]

    def start(self) -> None:
        for broker in self.brokers():
            broker.start()
        if self.args.broker != "embedded":
            create_topics(self.broker.bootstrap, {self.input: self.args.partitions})
            create_topics(self.output_broker.bootstrap, {self.output: self.args.partitions})
        self.server.start()
        if self.pool is not None:
            self.pool.start()
            wait_until(self.pool.answers, UP_SECONDS, "the worker pool's start")

    def submit(self, pipeline_args: list[str]) -> None:
        """Submits the pipeline under `padstone run`, whose script lives as long as the job."""
        command = [
            str(BINARY),
            "run",
            "--server",
            f"http://{self.server.endpoints['http']}",
            "--python",
            sys.executable,
        ]
        script = ROOT / "demo" / "payments.py" if self.args.variant == "payments" else HERE / "pipeline.py"
        command += [str(script), "--bootstrap", self.broker.bootstrap, "--input", self.input, "--output", self.output]
        command += [*pipeline_args, *self._environment(), "--job_name", f"chaos-{self.args.variant}"]
        command += ["--experiments=disable_logging_submission_environment"]
        command += [f"--sdk_worker_parallelism={self.args.siblings}"]
        with self.script_log.open("wb") as log:
            self.script = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._submitted, UP_SECONDS, "the submission of the job")
        self.server.api.wait_state(self.job_id, "RUNNING", timeout=UP_SECONDS)

    def _submitted(self) -> bool:
        jobs = self.server.api.jobs()
        if not jobs and self.script.poll() is not None:
            raise JobLost(f"the script ended without a job:\n{self.script_tail()}")
        self.job_id = jobs[0]["id"] if jobs else ""
        return bool(jobs)

    def _environment(self) -> list[str]:
        if self.args.environment == "EXTERNAL":
            return ["--environment_type=EXTERNAL", f"--environment_config={self.pool.address}"]
        if self.args.environment == "PROCESS":
            command = json.dumps({"command": sys.executable})
            return ["--environment_type=PROCESS", f"--environment_config={command}"]
        if self.args.environment == "DOCKER":
            return ["--environment_type=DOCKER", f"--environment_config={self.args.image}", "--docker_pull=never"]
        return ["--environment_type=LOOPBACK"]

    def script_tail(self, lines: int = 15) -> str:
        return "\n".join(self.script_log.read_text(errors="replace").splitlines()[-lines:])

    # ---- what the job says ----

    def job(self) -> dict:
        """The job as the server describes it; JobLost if it has ended."""
        job = self.server.api.job(self.job_id)
        if job["state"] in TERMINAL_STATES:
            raise JobLost(f"the job is {job['state']}: {job.get('last_error') or '(no error)'}")
        if self.script_follows and self.script.poll() is not None:
            raise JobLost(f"the script has ended with code {self.script.returncode}:\n{self.script_tail()}")
        return job

    def committed(self) -> int:
        """How many input records the job has durably read; what it last said, while it says nothing."""
        sources = (self.job().get("description") or {}).get("sources") or ()
        known = [split["committed"] for source in sources for split in source["splits"] or ()]
        if len(known) == self.args.partitions and min(known) >= 0:
            self.best = max(self.best, sum(known))
        self.peak_kib = max(self.peak_kib, memory_kib(self.server.process.pid, "VmHWM"))
        return self.best

    def wait_progress(self, seconds: float = UP_SECONDS) -> float:
        """Waits until the job is running and has committed more than before; returns for how long."""
        wait_until(self._is_up, seconds, "the job's start")
        before = self.best
        return wait_until(lambda: self.committed() > before, seconds, "the next commit of the job")

    def _is_up(self) -> bool:
        """Whether the job runs on a harness that was not killed."""
        if not self.server.ready() or (job := self.job())["state"] != "RUNNING":
            return False
        self.committed()
        workers = {(w["id"], w["generation"]) for w in (job.get("description") or {}).get("workers") or ()}
        return bool(workers - self.lost_workers)

    # ---- kills ----

    def kill(self, victim: str, rng) -> str:
        """kill -9 and the start of a successor, without waiting for it. Returns what exactly was killed."""
        if victim == "server":
            self.kill_server()
            return "server"
        if victim == "broker":
            broker = rng.choice(self.brokers())
            broker.kill()
            broker.start(wait=False)
            return "broker"
        return self._kill_harness(rng)

    def kill_server(self) -> None:
        self.server.kill()
        self.server.start(wait=False)

    def _kill_harness(self, rng) -> str:
        if self.args.environment == "DOCKER":
            return self._kill_container(rng)
        own = [] if self.pool else children(self.server.process.pid)
        workers = self.pool.workers() if self.pool else [pid for pid in own if is_worker(pid)]
        if workers and (self.pool is None or rng.random() < 0.6):
            self._note_workers()
            for pid in some_of(workers, rng):
                end(pid)
            return "worker"
        if self.pool is None:
            return ""  # a server that has just begun has no workers yet
        self.pool.kill()
        self.pool.start()
        return "pool"

    def _kill_container(self, rng) -> str:
        running = self.containers.running(self.job_id)
        if not running:
            return ""
        self._note_workers()
        self.containers.kill(some_of(running, rng))
        return "container"

    def _note_workers(self) -> None:
        """Remembers the workers that are about to be killed, as far as the server can tell."""
        try:
            description = self.job().get("description") or {}
        except ServerError:
            return
        self.lost_workers = {(w["id"], w["generation"]) for w in description.get("workers") or ()}

    # ---- the end ----

    def wait_read(self, ends: dict[int, int]) -> None:
        wait_until(lambda: self.committed() >= sum(ends.values()), UP_SECONDS, "reading the input to its end", step=0.2)

    def state(self) -> str:
        return self.server.api.job(self.job_id)["state"]

    def ended(self) -> bool:
        return self.state() in TERMINAL_STATES

    def script_code(self) -> int:
        """The exit code of the script, which has waited for its job all the while."""
        try:
            return self.script.wait(UP_SECONDS)
        except subprocess.TimeoutExpired:
            return -1

    def stop(self) -> None:
        if self.script is not None and self.script.poll() is None:
            for pid in children(self.script.pid):
                end(pid)
            self.script.kill()
            self.script.wait()
        if self.server.alive():
            try:
                self.server.stop()
            except ServerError as error:
                print(f"chaos: {error}", file=sys.stderr)
        if self.pool is not None:
            self.pool.stop()
        for broker in self.brokers():
            broker.stop()


def some_of(processes: list, rng) -> list:
    """One of the job's processes, or all of them."""
    return [rng.choice(processes)] if rng.random() < 0.5 else processes


def now() -> str:
    return time.strftime("%H:%M:%S")
