"""The demo: payments through Kafka and Beam on Padstone, and proof that every total is right.

It starts a server (with a Kafka broker of its own, unless --bootstrap names one), submits payments.py, produces
payments in phases, shows the totals as they come, drains the job and compares the last pane of every merchant and
window with a total summed up from the input topic without Beam. Exit code 0: all equal. 1: anything else.

What makes the comparison exact:
  - A record's timestamp is its payment's event time, and under create_time_policy a partition's watermark is the
    largest timestamp read from it. So the watermark moves only when payments do.
  - Every partition gets records in every phase. A partition that has been read to its end and got nothing for two
    seconds is idle and left out of the minimum over partitions; when all are idle, the watermark goes to the largest
    timestamp that any of them reached and stays there (docs/kafka.md). Either way it is never beyond what was produced.
  - The next slice of event time is produced when the job has durably read the one before. No payment can therefore
    be overtaken by the watermark by more than one slice, which is shorter than the allowed lateness.
  - Late payments are produced before the grouping step's input watermark has passed the end of their window plus the
    allowed lateness, and too-late ones after it has; both are checked against the watermark the server tells.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from broker import BrokerError, Payments, Topic, create_topics, delete_topics
from generate import Generator, Shape
from server import BINARY, ROOT, Server, ServerError
from verify import differences, expected_totals
from watch import JobStalled, JobWatch, Totals, clock, rupees

SCRIPT = Path(__file__).resolve().parent / "payments.py"


class Mismatch(RuntimeError):
    """The totals, or a count, are not what the input asks for."""


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--payments", type=int, default=20_000, help="how many payments to produce (default 20000)")
    parser.add_argument("--bootstrap", default="", help="host:port of a broker to use instead of the built-in one")
    parser.add_argument("--partitions", type=int, default=4, help="partitions of the payments topic")
    parser.add_argument("--late", type=int, choices=(0, 1), default=1, help="0: no late trigger, windows end on time")
    parser.add_argument("--window-seconds", type=int, default=300)
    parser.add_argument("--lateness-seconds", type=int, default=600)
    parser.add_argument("--early-seconds", type=int, default=2, help="delay of early totals (payments.py: 30)")
    parser.add_argument("--pace-seconds", type=float, default=1.0, help="least time for a slice of event time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the server's data directory")
    parser.add_argument("--image", default="", help="run the harness in containers of this image (docs/docker.md)")
    parser.add_argument("--network", default="host", help="network of the containers: host, bridge or another's name")
    parser.add_argument("--processes", type=int, help="harness processes; default: as many as there are cores")
    args = parser.parse_args()
    if args.payments < 100 or args.partitions < 1 or args.window_seconds < 5 or args.early_seconds < 0:
        parser.error("at least 100 payments, 1 partition and windows of 5 s are needed")
    if args.lateness_seconds < args.window_seconds:
        parser.error("the allowed lateness must be at least one window, so that there is time to be late in")
    return args


def shape_of(args: argparse.Namespace) -> Shape:
    """Lays the payments into the recent past: brokers refuse timestamps of the future and expire those of long ago."""
    window_ms = args.window_seconds * 1000
    shape = Shape(args.payments, args.partitions, 0, window_ms, args.lateness_seconds * 1000)
    now_ms = int(time.time() * 1000)
    base_ms = now_ms - shape.tail_start_ms - 2 * window_ms
    return Shape(args.payments, args.partitions, base_ms - base_ms % window_ms, window_ms, shape.lateness_ms)


class Demo:
    """One run. Its steps are called in order; the first that fails ends it."""

    def __init__(self, args: argparse.Namespace, data_dir: Path) -> None:
        self.args = args
        self.shape = shape_of(args)
        self.generator = Generator(self.shape, args.seed, ordered_windows=not args.late)
        suffix = f"-{int(time.time())}" if args.bootstrap else ""
        self.input, self.output = f"payments{suffix}", f"totals{suffix}"
        topics = "" if args.bootstrap else f"{self.input}:{args.partitions},{self.output}:{args.partitions}"
        self.server = Server(data_dir, kafka_topics=topics, extra=["--docker-network", args.network])
        self.script: subprocess.Popen | None = None
        self.excluded: dict[int, list[tuple[int, int]]] = {p: [] for p in range(args.partitions)}

    def run(self) -> None:
        try:
            self.start()
            self.submit()
            self.produce_main()
            self.produce_late()
            self.drain()
            self.verify()
        finally:
            self.clean_up()

    def start(self) -> None:
        self.server.start()
        self.bootstrap = self.args.bootstrap or self.server.kafka
        print(f"[1/6] padstone serve is up: job endpoint {self.server.job_endpoint}, ", end="")
        print(f"http://{self.server.endpoints['http']}, Kafka {self.bootstrap}")
        partitions = self.args.partitions
        if self.args.bootstrap:
            create_topics(self.bootstrap, {self.input: partitions, self.output: partitions})
        self.producer = Payments(self.bootstrap, self.input, partitions)
        self.totals = Totals(Topic(self.bootstrap, self.output, partitions))

    def submit(self) -> None:
        args = self.args
        command = [
            str(BINARY),
            "run",
            "--server",
            f"http://{self.server.endpoints['http']}",
            "--python",
            sys.executable,
        ]
        command += [str(SCRIPT), "--bootstrap", self.bootstrap, "--input", self.input, "--output", self.output]
        command += ["--window-seconds", str(args.window_seconds), "--lateness-seconds", str(args.lateness_seconds)]
        command += ["--early-seconds", str(args.early_seconds), "--job_name", "payments-demo"]
        if not args.late:
            command += ["--no-late-totals", "--allow_unsafe_triggers"]
        if args.image:
            command += ["--environment_type", "DOCKER", "--environment_config", args.image]
        if args.processes is not None:
            command += ["--sdk_worker_parallelism", str(args.processes)]
        print(f"[2/6] submitting: {' '.join(os.path.relpath(c, ROOT) if c.startswith('/') else c for c in command)}")
        self.script_log = self.server.data_dir / "script.log"
        with self.script_log.open("wb") as log:
            self.script = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        job_id = self._await_job()
        self.watch = JobWatch(self.server.api, job_id, self.totals, self.input, self.server.alive)
        self.watch.wait_running()
        print(f"      job {job_id} is running; http://{self.server.endpoints['http']}/jobs/{job_id}")

    def produce_main(self) -> None:
        shape = self.shape
        print(f"[3/6] producing {shape.payments:,} payments over {shape.windows} windows of ", end="")
        print(f"{self.args.window_seconds} s from {clock(shape.base_ms)} on, out of order; totals as they come:")
        for _, records in self.generator.main_slices():
            started = time.monotonic()
            self._produce(records)
            self.watch.linger(started + self.args.pace_seconds - time.monotonic())

    def produce_late(self) -> None:
        shape = self.shape
        self._produce(self.generator.advance(shape.after_end_ms))
        self.watch.wait_watermark(shape.after_end_ms)
        late = self.generator.late()
        closes_ms = min(shape.late_windows) + shape.window_ms + shape.lateness_ms
        outcome = "corrected totals follow" if self.args.late else "no late trigger: they are to change nothing"
        print(f"[4/6] watermark at {clock(self.watch.watermark_ms())}: {len(late)} late payments; {outcome}")
        self._produce(late, exclude=not self.args.late)
        self._check(self.watch.watermark_ms() < closes_ms, "the watermark passed the allowed lateness too early")

        self._produce(self.generator.advance(shape.after_lateness_ms))
        self.watch.wait_watermark(shape.after_lateness_ms)
        too_late = self.generator.too_late()
        print(f"      watermark at {clock(self.watch.watermark_ms())}: {len(too_late)} payments past the lateness")
        self._produce(too_late, exclude=True)
        self._produce(self.generator.tail())
        self.totals.print_fresh()

    def drain(self) -> None:
        """A drain drops what is unread, so it waits for the committed positions to be the end offsets."""
        ends = self.producer.ends
        self.watch.wait_read(ends)
        job = self.watch.job_id
        print(f"[5/6] committed source positions {self.watch.committed()} are the end offsets: draining")
        self.server.api.drain(job)
        self.server.api.wait_state(job, "DRAINED", timeout=120)
        code = self.script.wait(60)
        self._check(code == 0, f"padstone run ended with exit code {code}, see {self.script_log}")
        stages = self.server.api.job(job)["description"]["stages"]
        self.dropped = sum(stage["dropped_late"] for stage in stages)
        self.totals.take(self.totals.topic.read_to(self.totals.topic.end_offsets()))
        self.totals.print_fresh()

    def verify(self) -> None:
        ends = self.producer.ends
        topic = Topic(self.bootstrap, self.input, self.args.partitions)
        self._check(topic.end_offsets() == ends, f"the input topic ends at {topic.end_offsets()}, not at {ends}")
        expected, excluded = expected_totals(topic.read_to(ends), self.shape.window_ms, 100_000, self.excluded)
        topic.close()
        panes = self.totals.panes
        timings = ", ".join(f"{count} {timing}" for timing, count in sorted(panes.timings.items()))
        print(f"[6/6] {sum(ends.values()):,} records in, {sum(panes.timings.values())} panes out ({timings})")
        wrong = differences(expected, panes)
        for line in wrong[:20]:
            print(f"      WRONG {line}")
        self._check(not wrong, f"{len(wrong)} totals differ from the input")
        self._check(
            self.dropped == excluded,
            f"{excluded} payments were produced too late to count, the server says that it dropped {self.dropped}",
        )
        print(f"      {excluded} payments were too late to count; dropped for lateness: {self.dropped}")
        print(f"      all {len(expected)} totals are exact: {rupees(sum(expected.values()))} in large UPI payments")

    def clean_up(self) -> None:
        if self.script is not None and self.script.poll() is None:
            self.script.terminate()
            try:
                self.script.wait(20)
            except subprocess.TimeoutExpired:
                self.script.kill()
                self.script.wait()
        if hasattr(self, "totals"):
            self.totals.topic.close()
        if self.args.bootstrap and hasattr(self, "producer"):
            delete_topics(self.bootstrap, [self.input, self.output])
        self.server.stop()

    def _produce(self, records, exclude: bool = False) -> None:
        before = dict(self.producer.ends)
        ends = self.producer.produce(records)
        if exclude:
            for partition, end in ends.items():
                self.excluded[partition].append((before[partition], end))
        self.watch.wait_read(ends)

    def _await_job(self, timeout: float = 90.0) -> str:
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            jobs = self.server.api.jobs()
            if jobs:
                return jobs[0]["id"]
            if self.script.poll() is not None:
                raise JobStalled(f"the script ended without a job:\n{self.script_log.read_text(errors='replace')}")
            time.sleep(0.2)
        raise JobStalled(f"no job was submitted within {timeout:.0f} s, see {self.script_log}")

    @staticmethod
    def _check(holds: bool, otherwise: str) -> None:
        if not holds:
            raise Mismatch(otherwise)


def main() -> int:
    args = parse_args()
    work = ROOT / ".padstone"
    work.mkdir(exist_ok=True)
    data_dir = Path(tempfile.mkdtemp(prefix="demo-", dir=work))
    started = time.monotonic()
    try:
        Demo(args, data_dir).run()
    except (Mismatch, JobStalled, ServerError, BrokerError) as error:
        print(f"\nFAILED: {error}\nLogs are in {data_dir}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 1
    print(f"OK in {time.monotonic() - started:.0f} s")
    if not args.keep:
        shutil.rmtree(data_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
