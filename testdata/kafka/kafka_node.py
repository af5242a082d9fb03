"""Apache Kafka as one KRaft node on this machine, out of its published jars. Standard library only.

    python testdata/kafka/kafka_node.py start DIR [--port 9092] [--kafka 3.9.1]
    python testdata/kafka/kafka_node.py stop DIR
    python testdata/kafka/kafka_node.py fetch [--kafka 3.9.1]

`start` returns when the broker takes requests, prints its address and leaves it running; its process id is in DIR/pid,
its log in DIR/kafka.log. What it stores stays in DIR for the next start, after a kill -9 too. Needs Java 17 (or 11 for
Kafka 3) and Maven, which fetches the jars once for each version; their list is kept in .cache/kafka.
"""

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from ports import free_ports

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / ".cache" / "kafka"
DEFAULT_VERSION = "3.9.1"
CLUSTER_ID = "UGFkc3RvbmVLYWZrYU5vZA"
STARTED = "Kafka Server started"
START_SECONDS = 90.0
STOP_SECONDS = 60.0

# One node has one replica of everything. The short session has a broker that was killed taken up again at once.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
log.message.timestamp.before.max.ms=9223372036854775807
"""


class KafkaError(RuntimeError):
    """Java or Maven is missing, or the broker does not start."""


def missing() -> str:
    """What this machine lacks to run a broker; "" if nothing."""
    return " and ".join(name for name in ("java", "mvn") if shutil.which(name) is None)


def classpath(version: str) -> str:
    """The jars of a version of Kafka, fetched by Maven if they are not there yet."""
    if missing():
        raise KafkaError(f"a Kafka broker needs {missing()}, which is not in the PATH")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Maven does not share its repository with another Maven
        return _classpath(version)


def _classpath(version: str) -> str:
    listed = CACHE / f"{version}.classpath"
    if listed.exists() and all(Path(jar).exists() for jar in listed.read_text().strip().split(os.pathsep)):
        return listed.read_text().strip()
    fresh = listed.with_suffix(".fresh")
    command = ["mvn", "-q", "-B", "-ntp", "-f", str(HERE / "pom.xml"), "dependency:build-classpath"]
    # What fails on its way is asked for again: by Maven 3.8, and from 3.9 on.
    command += ["-Dmaven.wagon.http.retryHandler.count=5", "-Daether.connector.http.retryHandler.count=5"]
    command += [f"-Dkafka.version={version}", f"-Dmdep.outputFile={fresh}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0 or not fresh.exists():
        raise KafkaError(f"Maven does not find Kafka {version}:\n{(done.stdout + done.stderr)[-2000:]}")
    fresh.replace(listed)
    return listed.read_text().strip()


class KafkaNode:
    """One broker with its data in a directory. The controller listens on the port after the broker's."""

    def __init__(self, directory: Path, port: int = 0, version: str = DEFAULT_VERSION, heap: str = "384m") -> None:
        self.directory = directory.resolve()
        self.version = version
        self.heap = heap
        self.log_path = self.directory / "kafka.log"
        self.pid_path = self.directory / "pid"
        self.process: subprocess.Popen | None = None
        self.log_from = 0
        self.port, self.controller = self._ports(port)

    def _ports(self, port: int) -> tuple[int, int]:
        """Those that were asked for, else those of the last time, else free ones."""
        kept = self.directory / "ports"
        if port:
            return port, port + 1
        if kept.exists():
            first, second = kept.read_text().split()
            return int(first), int(second)
        self.directory.mkdir(parents=True, exist_ok=True)
        first, second = free_ports(2)
        kept.write_text(f"{first} {second}")
        return first, second

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, wait: bool = True) -> "KafkaNode":
        """Starts the broker; without wait it is to be asked whether it is ready."""
        jars = classpath(self.version)
        self.directory.mkdir(parents=True, exist_ok=True)
        data = self.directory / "data"
        properties = self.directory / "server.properties"
        properties.write_text(PROPERTIES.format(port=self.port, controller=self.controller, data=data))
        java = [
            "java",
            f"-Xmx{self.heap}",
            "-XX:+UseSerialGC",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-cp",
            jars,
        ]
        with self.log_path.open("ab") as log:
            if not (data / "meta.properties").exists():
                self._format([*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)], log)
            self.log_from = log.seek(0, os.SEEK_END)
            self.process = subprocess.Popen(
                [*java, "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )
        self.pid_path.write_text(f"{self.process.pid}\n")
        if wait:
            self.wait_ready()
        return self

    def _format(self, command: list[str], log) -> None:
        if subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log).returncode != 0:
            raise KafkaError(f"Kafka does not format its directory:\n{self.log_tail()}")

    def ready(self) -> bool:
        """Whether the broker that was started last has come up."""
        with self.log_path.open("rb") as log:
            log.seek(self.log_from)
            return STARTED.encode() in log.read()

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not self.ready():
            if self.process is not None and self.process.poll() is not None:
                raise KafkaError(f"Kafka ended with exit code {self.process.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise KafkaError(f"Kafka is not up after {seconds:.0f} s:\n{self.log_tail()}")
            time.sleep(0.05)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """kill -9, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.pid_path.unlink(missing_ok=True)

    def stop(self) -> None:
        """An orderly end; what does not end in time is killed."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self.pid_path.unlink(missing_ok=True)

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self) -> "KafkaNode":
        return self.start()

    def __exit__(self, *_) -> None:
        self.stop()


def stop_by_pid(directory: Path) -> None:
    """Ends the broker that an earlier `start` has left running."""
    path = directory / "pid"
    if not path.exists():
        raise KafkaError(f"no broker runs on {directory}")
    pid = int(path.read_text())
    try:
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        path.unlink(missing_ok=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    start = commands.add_parser("start", help="start a broker and leave it running")
    start.add_argument("directory", type=Path)
    start.add_argument("--port", type=int, default=0, help="default: a free one, the same at every start")
    start.add_argument("--kafka", default=DEFAULT_VERSION, help=f"version of Kafka (default {DEFAULT_VERSION})")
    stop = commands.add_parser("stop", help="stop the broker of a directory")
    stop.add_argument("directory", type=Path)
    fetch = commands.add_parser("fetch", help="fetch the jars, if this machine could run a broker")
    fetch.add_argument("--kafka", default=DEFAULT_VERSION, help=f"version of Kafka (default {DEFAULT_VERSION})")
    args = parser.parse_args()
    try:
        if args.command == "stop":
            stop_by_pid(args.directory)
        elif args.command == "fetch":
            jars = 0 if missing() else len(classpath(args.kafka).split(os.pathsep))
            print(f"Kafka {args.kafka}: {jars} jars" + f", for want of {missing()}" * bool(missing()))
        else:
            print(KafkaNode(args.directory, args.port, args.kafka).start().bootstrap)
    except KafkaError as error:
        print(f"kafka_node: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
