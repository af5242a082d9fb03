"""kill -9 of server, harness and broker, again and again, under the main job; then every payment is accounted for.

    make chaos                                   # 60 kills, event-time panes, Apache Kafka 3.9.1
    make chaos ARGS="--variant processing-time --seed 7 --kills 100"
    make chaos ARGS="--variant sessions --siblings 2 --at-once 0.3"
    make chaos ARGS="--variant timers --environment DOCKER"
    make chaos ARGS="--variant late --checkpoints 1 --stops 6"
    make chaos ARGS="--outage 600"               # no kills: the brokers are away for ten minutes

Payments keep coming, numbered per merchant. Each kill comes 1 to 10 s after the last victim is ready again, which is
when the job has committed something new; a share of them comes on purpose before, while server, broker or harness are
still starting, and a share takes two victims at once. At the end the job is drained, during which the server is killed,
too, and what it has written is compared with what went in: lost 0, doubled 0, torn 0, in order. Exit code 0: all is
well. 1: anything else; then the sequences of the keys concerned are printed.

Variants, what the output depends on (chaos/pipeline.py has them):
  event-time       fixed windows, one pane each
  sessions         sessions that payments out of order keep merging, one pane each
  processing-time  fixed windows with early and late panes that accumulate
  discarding       the same, but each payment in one pane
  late             as processing-time; one payment in 20 is late, but within the allowed lateness
  stateful         user state and a timer of event time
  timers           user state, timers of processing time and of event time
  payments         the demo's own script, whose output has totals without numbers
"""

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "demo"), str(HERE.parent / "testdata" / "kafka")]

from broker import BrokerError  # noqa: E402
from kafka_node import DEFAULT_VERSION, KafkaError  # noqa: E402
from outage import run_outage  # noqa: E402
from produce import Producing, Shape  # noqa: E402
from report import Kill, Report  # noqa: E402
from sequences import KINDS, VARIANTS, Payment, Sent, verify  # noqa: E402
from server import ROOT, ServerError  # noqa: E402
from stops import stop_and_restore  # noqa: E402
from system import GROUP, UP_SECONDS, JobLost, System, now  # noqa: E402
from topics import group_offsets, open_transactions, read  # noqa: E402
from victims import wait_until  # noqa: E402

VICTIMS = ("server", "harness", "broker")
RATE_LEAST = 50
IMAGE = f"padstone/beam_python{sys.version_info.major}.{sys.version_info.minor}_sdk:{version('apache-beam')}"
TROUBLE = (JobLost, ServerError, BrokerError, KafkaError, RuntimeError, OSError)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--variant", choices=VARIANTS, default="event-time", help="what the output depends on")
    parser.add_argument("--environment", choices=("EXTERNAL", "PROCESS", "DOCKER", "LOOPBACK"), default="EXTERNAL")
    parser.add_argument("--image", default=IMAGE, help="of DOCKER's containers; `make images` has built it")
    parser.add_argument("--siblings", type=int, default=1, help="harness processes of the job")
    parser.add_argument("--victims", default=",".join(VICTIMS), help="which of server, harness and broker are killed")
    parser.add_argument("--during-recovery", type=float, default=0.3, help="share of kills during a recovery")
    parser.add_argument("--at-once", type=float, default=0.1, help="share of kills of two victims at once")
    parser.add_argument(
        "--drain-kills", type=int, default=1, help="how often the server is killed while the job drains"
    )
    parser.add_argument("--checkpoints", type=float, default=0, help="seconds between checkpoints (default: none)")
    parser.add_argument(
        "--stops", type=int, default=0, help="how often the job is stopped with a savepoint and restored from it"
    )
    parser.add_argument("--pause-seconds", type=float, nargs=2, default=(1.0, 10.0), metavar=("LEAST", "MOST"))
    parser.add_argument("--rate", type=int, default=1000, help="payments a second; less, while the job falls behind")
    parser.add_argument("--merchants", type=int, default=24)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--window-seconds", type=int, default=5)
    parser.add_argument("--window-payments", type=int, default=4000, help="payments to a window of event time")
    parser.add_argument("--broker", choices=("kafka", "embedded"), default="kafka")
    parser.add_argument("--kafka", default=DEFAULT_VERSION, help="version of Apache Kafka")
    parser.add_argument("--two-brokers", action="store_true", help="the output on a broker of its own")
    parser.add_argument(
        "--outage", type=float, default=0, help="no kills, but brokers that are away for so many seconds"
    )
    parser.add_argument("--outage-of", choices=("all", "output"), default="all")
    parser.add_argument(
        "--directory", type=Path, default=None, help="where to leave logs and report (default .padstone)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the directory of a run that was well")
    args = parser.parse_args(argv)
    args.victims = args.victims.split(",")
    if not set(args.victims) <= set(VICTIMS):
        parser.error(f"--victims are of {', '.join(VICTIMS)}")
    if args.environment == "LOOPBACK" and "harness" in args.victims:
        args.victims.remove("harness")  # they are threads of the script, whose end is meant to end its jobs
    args.two_brokers = args.two_brokers or args.outage_of == "output"
    if args.stops and not args.checkpoints:
        args.checkpoints = 3600  # a place for the savepoints
    args.seed = args.seed if args.seed is not None else random.SystemRandom().randrange(1 << 31)
    return args


class Run:
    def __init__(self, args: argparse.Namespace, directory: Path) -> None:
        self.args, self.directory = args, directory
        self.rng = random.Random(args.seed)
        late = {"late_every": 20, "late_ms": 8 * args.window_seconds * 1000} if args.variant == "late" else {}
        self.shape = Shape(
            args.rate, args.window_seconds * 1000, args.window_payments, args.window_seconds * 200, **late
        )
        self.system = System(args, directory)
        shown = ("variant", "environment", "siblings", "broker", "kafka", "checkpoints", "seed")
        self.report = Report({name: getattr(args, name) for name in shown})
        self.began = time.monotonic()
        self.producing: Producing | None = None
        self.turns: list[str] = []  # victims that are to come

    def run(self) -> bool:
        try:
            self.start()
            if self.args.outage:
                run_outage(self)
            else:
                self.kill_all()
            self.finish()
            return self.verify()
        finally:
            if self.producing is not None:
                self.producing.stopping.set()
            self.system.stop()
            self.report.seconds = time.monotonic() - self.began
            self.report.save(self.directory)

    def say(self, text: str) -> None:
        print(f"{now()} {text}", flush=True)

    def start(self) -> None:
        args, system = self.args, self.system
        system.start()
        self.say(f"broker {system.broker.bootstrap}, server http://{system.server.endpoints['http']}, seed {args.seed}")
        system.submit(self._pipeline_args())
        self.producing = Producing(
            system.broker.bootstrap, system.input, args.partitions, args.merchants, random.Random(args.seed), self.shape
        )
        self.producing.start()
        system.wait_progress()
        self.say(f"job {system.job_id} is running")

    def _pipeline_args(self) -> list[str]:
        args = self.args
        if args.variant == "payments":
            return ["--window-seconds", f"{args.window_seconds}", "--early-seconds", "1", "--lateness-seconds", "3600"]
        own = ["--output_bootstrap", self.system.output_broker.bootstrap, "--group", GROUP, "--variant", args.variant]
        own += ["--window_seconds", f"{args.window_seconds}", "--max_delay_ms", f"{self.shape.disorder_ms}"]
        lateness = 3600 if args.variant == "late" else 0
        own += ["--gap_ms", f"{self._gap_ms()}"]
        return [*own, "--early_seconds", "1", "--lateness_seconds", f"{lateness}"]

    def _gap_ms(self) -> int:
        """So that a session has some twenty payments: of times as good as random, as these are, one distance in twenty
        is three times the mean or more."""
        return max(1, 3 * self.shape.step_us * self.args.merchants // 1000)

    # ---- kills ----

    def kill_all(self) -> None:
        """Each kill is of a victim drawn at random, either well after the one before or in its recovery."""
        args = self.args
        counted, recovering = self.system.best, ""
        stops = {args.kills * n // (args.stops + 1) for n in range(1, args.stops + 1)}
        for number in range(1, args.kills + 1):
            if number in stops:
                stop_and_restore(self)
                counted, recovering = self.system.best, ""
            during = bool(recovering) and self.rng.random() < args.during_recovery
            if during:
                time.sleep(self.rng.uniform(0.05, 3.0))
            else:
                self._recover()
                time.sleep(self.rng.uniform(*args.pause_seconds))
            self._check_producer()
            committed = self._committed()
            victim = self._kill()
            phase = f"recovery of {recovering}" if during else "running"
            kill = Kill(len(self.report.kills) + 1, victim, phase, time.monotonic() - self.began, committed - counted)
            self.report.kills.append(kill)
            self.say(
                f"kill {number:3} of {args.kills}: {victim:7} {phase:20} {kill.committed:6} payments committed since"
            )
            counted, recovering = committed, victim
            self._adapt(kill)
        self._recover()

    def _kill(self) -> str:
        """Each of the victims once, in an order drawn at random, then again; sometimes two at once."""
        killed: list[str] = []
        wanted = 2 if len(self.args.victims) > 1 and self.rng.random() < self.args.at_once else 1
        while len(killed) < wanted:
            if not self.turns:
                self.turns = self.rng.sample(self.args.victims, len(self.args.victims))
            victim = self.system.kill(self.turns.pop(), self.rng)
            if victim and victim not in killed:
                killed.append(victim)
        return " and ".join(killed)

    def _committed(self) -> int:
        try:
            return self.system.committed()
        except ServerError:
            return self.system.best  # the server is on its way

    def _recover(self) -> None:
        """Waits until everything is ready again: brokers up, the job running, and something new committed."""
        last = self.report.kills[-1] if self.report.kills else None
        for broker in self.system.brokers():
            wait_until(broker.ready, UP_SECONDS, "the broker's start")
        self.system.wait_progress()
        if last is not None and last.recovery_seconds is None:
            last.recovery_seconds = time.monotonic() - self.began - last.at_seconds

    def _adapt(self, kill: Kill) -> None:
        """Holds the rate near what the job gets done on this machine, so that it is never far behind."""
        behind = self.producing.made - self.system.best
        rate = self.producing.rate
        self.producing.rate = max(RATE_LEAST, rate * 0.7) if behind > 20 * rate else min(self.args.rate, rate * 1.1)

    def _check_producer(self) -> None:
        if self.producing.failure:
            raise RuntimeError(self.producing.failure)

    # ---- the end ----

    def finish(self) -> None:
        self.ends = self.producing.finish()
        self.say(f"{self.producing.made:,} payments sent; waiting for the job to read them, then draining it")
        self.system.wait_read(self.ends)
        self.system.server.api.drain(self.system.job_id)
        self._kill_in_drain()
        wait_until(self.system.ended, UP_SECONDS, "the end of the job", step=0.1)
        state = self.system.state()
        if self.system.script_follows:
            self.report.script_code = self.system.script_code()
        self.report.server_peak_mib = self.system.peak_kib >> 10
        if state != "DRAINED":
            raise JobLost(f"the job is {state}, not DRAINED")

    def _kill_in_drain(self) -> None:
        """The answer to a drain means that it will happen, whatever is killed."""
        for _ in range(self.args.drain_kills if "server" in self.args.victims and not self.args.outage else 0):
            time.sleep(self.rng.uniform(0.0, 0.5))
            if self.system.ended():
                return
            self.note_kill("drain")
            self.system.kill_server()
            wait_until(self.system.server.ready, UP_SECONDS, "the server's start")

    def note_kill(self, phase: str) -> None:
        """Reports that the server is killed while something is going on."""
        number = len(self.report.kills) + 1
        self.report.kills.append(Kill(number, "server", phase, time.monotonic() - self.began, 0))
        self.say(f"kill {number:3}: server  {phase}")

    def verify(self) -> bool:
        args, system, report = self.args, self.system, self.report
        width = self._gap_ms() if args.variant == "sessions" else self.shape.window_ms
        found = verify(args.variant, self._input(), self._output("read_committed"), width)
        held = open_transactions(system.output_broker.bootstrap, system.output, args.partitions)
        if held:
            found.add("wrong", f"a transaction was left open in partitions {held} of the output")
        if report.script_code != 0:
            found.add("wrong", f"the script that waited for the job ended with code {report.script_code}")
        if args.variant != "payments":
            offsets = group_offsets(system.broker.bootstrap, GROUP, system.input, args.partitions)
            if offsets != self.ends:
                found.add("wrong", f"offsets of the consumer group are {offsets}, the input ends at {self.ends}")
        committed = sum(1 for _ in self._output("read_committed"))
        report.given_up = sum(1 for _ in self._output("read_uncommitted")) - committed
        report.payments, report.results = found.payments, found.results
        report.found = {kind: found.count(kind) for kind in KINDS}
        report.seconds = time.monotonic() - self.began
        print(report.markdown())
        for line in found.lines():
            print(line)
        return found.clean

    def _input(self) -> Sent:
        """What is in the input topic: all that was sent. The producer may have written a payment twice when its broker
        died; then it is twice in the input, and counts twice."""
        left = {f"{merchant}/{p.seq}": p for merchant, payments in self.producing.sent.items() for p in payments}
        known = dict(left)
        sent: Sent = defaultdict(list)
        for record in read(self.system.broker.bootstrap, self.system.input, self.args.partitions):
            fields = json.loads(record.value)
            payment = Payment(fields["seq"], fields["event_time_ms"], fields["amount"])
            if known.get(fields["payment_id"]) != payment:
                raise RuntimeError(f"the input has {fields}, which was never sent")
            left.pop(fields["payment_id"], None)
            sent[fields["merchant"]].append(payment)
        if left:
            raise RuntimeError(f"{len(left)} payments that the broker has acknowledged are not in the input")
        if twice := sum(map(len, sent.values())) - len(known):
            self.report.notes.append(f"The producer has written {twice} payments twice.")
        return sent

    def _output(self, isolation: str):
        return read(self.system.output_broker.bootstrap, self.system.output, self.args.partitions, isolation)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    work = args.directory or ROOT / ".padstone"
    work.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="chaos-", dir=work))
    well = False
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without ending what was started
    try:
        well = Run(args, directory).run()
    except TROUBLE as error:
        print(f"\nFAILED: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
    if well and not args.keep:
        shutil.rmtree(directory)
        print("OK")
    else:
        print(f"{'OK' if well else 'FAILED'}; seed {args.seed}; logs and report are in {directory}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
