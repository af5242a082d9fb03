"""The running demo job as its driver sees it: totals as they come, how far the job has read, its watermark."""

import time
from collections.abc import Callable
from datetime import datetime

from broker import Topic
from server import TERMINAL_STATES, Api
from verify import Pane, Panes

STALL_SECONDS = 90.0
GROUPING_STEP = "Total per merchant"


class JobStalled(RuntimeError):
    """The job failed, ended too early or makes no progress; the message says what it says about itself."""


def rupees(paise: int) -> str:
    return f"₹{paise / 100:,.2f}"


def clock(event_time_ms: int) -> str:
    return datetime.fromtimestamp(event_time_ms / 1000).strftime("%H:%M:%S")


class Totals:
    """Reads the totals topic and prints what is new, at most once a second."""

    def __init__(self, topic: Topic) -> None:
        self.topic = topic
        self.panes = Panes()
        self.fresh: list[Pane] = []
        self.printed_at = 0.0

    def poll(self, seconds: float) -> None:
        self.take(self.topic.poll(seconds))
        if self.fresh and time.monotonic() - self.printed_at > 1.0:
            self.print_fresh()

    def take(self, records) -> None:
        for _, _, value in records:
            pane = Pane.parse(value)
            if self.panes.add(pane):
                self.fresh.append(pane)

    def print_fresh(self) -> None:
        """One line for each window and timing that has new panes."""
        groups: dict[tuple[int, str], dict[str, int]] = {}
        for pane in self.fresh:
            label = "closing" if pane.closing and pane.timing == "LATE" else pane.timing.lower().replace("_", " ")
            groups.setdefault((pane.window_start_ms, label), {})[pane.merchant] = pane.total
        for (start, label), totals in sorted(groups.items()):
            print(f"      {clock(start)}  {label:8} {len(totals):2} merchants  {rupees(sum(totals.values())):>18}")
        self.fresh = []
        self.printed_at = time.monotonic()


class JobWatch:
    """Waits for the job while the totals are shown. Every wait ends: with success, or with JobStalled."""

    def __init__(self, api: Api, job_id: str, totals: Totals, input_topic: str, alive: Callable[[], bool]) -> None:
        self.api = api
        self.job_id = job_id
        self.totals = totals
        self.input_topic = input_topic
        self.alive = alive

    def description(self) -> dict:
        job = self.api.job(self.job_id)
        if job["state"] in TERMINAL_STATES:
            raise JobStalled(f"the job is {job['state']}: {self._last_messages()}")
        return job.get("description") or {}

    def committed(self) -> dict[int, int]:
        """The durably committed position of every partition of the input topic."""
        positions = {}
        for source in self.description().get("sources") or ():
            for split in source["splits"]:
                topic, _, partition = split["split"].rpartition("-")
                if topic == self.input_topic:
                    positions[int(partition)] = split["committed"]
        return positions

    def grouping_stage(self) -> dict:
        """The stage that groups by merchant and window; {} while the job has none yet."""
        for stage in self.description().get("stages") or ():
            if stage["kind"] == "group" and any(GROUPING_STEP in name for name in stage["transforms"]):
                return stage
        return {}

    def watermark_ms(self) -> int:
        return self.grouping_stage().get("input_watermark_millis", -(1 << 62))

    def wait_running(self) -> None:
        """Waits until the job is there with its source and its grouping step."""
        self._wait(lambda: bool(self.grouping_stage()), True, "is running")

    def wait_read(self, ends: dict[int, int]) -> None:
        """Waits until the job has durably read every partition up to its end."""

        def progress() -> int:
            committed = self.committed()
            return sum(max(0, min(committed.get(p, 0), end)) for p, end in ends.items())

        self._wait(progress, sum(ends.values()), "read and committed records of the input")

    def wait_watermark(self, event_time_ms: int) -> None:
        """Waits until the input watermark of the grouping step has reached an event time."""
        self._wait(self.watermark_ms, event_time_ms, f"the input watermark of {GROUPING_STEP!r}, in ms")

    def linger(self, seconds: float) -> None:
        """Shows totals for a while."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.totals.poll(0.1)

    def _wait(self, progress: Callable[[], int], goal: int, what: str) -> None:
        best, since = None, time.monotonic()
        while (now := progress()) < goal:
            if best is None or now > best:
                best, since = now, time.monotonic()
            if not self.alive():
                raise JobStalled("the server process has ended")
            if time.monotonic() - since > STALL_SECONDS:
                raise JobStalled(f"no progress for {STALL_SECONDS:.0f} s; {what}: {now} of {goal}\n{self._waiting()}")
            self.totals.poll(0.1)

    def _waiting(self) -> str:
        lines = [
            f"  {stage['name']}: backlog {stage['backlog_elements']}, input watermark {stage['input_watermark']}"
            f" {stage.get('waiting', '')}"
            for stage in self.description().get("stages") or ()
        ]
        return "\n".join(lines + [self._last_messages()])

    def _last_messages(self) -> str:
        return "\n".join(str(m.get("text", m)) for m in self.api.messages(self.job_id)[-5:])
