"""Splittable DoFns of the Python SDK: split while they run, checkpointed, drained; and what they tell meanwhile."""

# ruff: noqa: B008 (the SDK takes a DoFn's parameters from calls in defaults)

import threading
import time
from collections import Counter

import apache_beam as beam
import pytest
from apache_beam.coders import coders
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.io.watermark_estimators import (
    ManualWatermarkEstimator,
    MonotonicWatermarkEstimator,
    WalltimeWatermarkEstimator,
)
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import trigger, window
from apache_beam.transforms.core import RestrictionProvider, WatermarkEstimatorProvider
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.utils.timestamp import Duration, Timestamp
from apache_beam.utils.windowed_value import PaneInfoTiming
from conftest import PIPELINES, portable_options, run_python
from test_environments import process_environment
from waits import PATIENCE, wait

# LOOPBACK harnesses are threads of this process: DoFns report here, by test.
SEEN: dict[str, list] = {}


def test_a_hot_restriction_is_split_while_it_runs(server, tmp_path):
    known = {job["id"] for job in server.api.jobs()}
    output = tmp_path / "offsets"
    flags = [*process_environment(tmp_path, str(PIPELINES / "boot.py")), "--sdk_worker_parallelism=2"]
    # After some offsets it waits for the other process, which has something to do only once the restriction is split.
    done = run_python(server, "hot.py", *flags, "--output", str(output), "--offsets", "150")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for shard in output.parent.glob("offsets*") for line in shard.read_text().splitlines()]
    assert sorted(int(offset) for offset, _ in lines) == list(range(150))
    assert len(Counter(pid for _, pid in lines)) == 2, "one process did it all"
    job = next(job["id"] for job in server.api.jobs() if job["id"] not in known)
    stages = server.api.job(job)["description"]["stages"]
    assert sum(stage.get("splits", 0) for stage in stages if "Slow" in stage["transforms"]) >= 1
    texts = [message["text"] for message in server.api.messages(job)]
    assert any('split a bundle of "Slow" at half' in text for text in texts), texts


class Offsets(RestrictionProvider):
    """The offsets [0, end) of each element, in a restriction for each of so many pieces."""

    def __init__(self, end: int, pieces: int = 1, bounded: bool = True) -> None:
        self.end, self.pieces, self.bounded = end, pieces, bounded

    def initial_restriction(self, element):
        return OffsetRange(0, self.end)

    def create_tracker(self, restriction):
        return Tracker(restriction, self.bounded)

    def split(self, element, restriction):
        return restriction.split(-(-self.end // self.pieces))

    def restriction_size(self, element, restriction):
        return restriction.size()

    def truncate(self, element, restriction):
        return restriction if self.bounded else None


class Tracker(OffsetRestrictionTracker):
    def __init__(self, restriction, bounded: bool) -> None:
        super().__init__(restriction)
        self.bounded = bounded

    def is_bounded(self):
        return self.bounded

    def check_done(self):  # what is deferred is no longer in the restriction
        return True


class Days(window.NonMergingWindowFn):
    """Windows of 100 s that the runner knows nothing about: their coder is Python's own."""

    def assign(self, context):
        start = context.timestamp.micros // 100_000_000 * 100
        return [Day(start, start + 100)]

    def get_window_coder(self):
        return DayCoder()


class Day(window.IntervalWindow):
    pass


class DayCoder(coders.Coder):
    """A window is the text of its start, without a length: only Python finds its end."""

    def encode(self, day):
        return str(int(day.start)).encode()

    def decode(self, encoded):
        return Day(int(encoded), int(encoded) + 100)

    def is_deterministic(self):
        return True


class InWindow(beam.DoFn):
    """Gives the rest back after each second offset."""

    def process(self, element, day=beam.DoFn.WindowParam, tracker=beam.DoFn.RestrictionParam(Offsets(6, 2))):
        offset = tracker.current_restriction().start
        while tracker.try_claim(offset):
            yield f"{element}:{offset}@{int(day.start)}"
            offset += 1
            if offset % 2 == 0:
                tracker.defer_remainder()
                return


def test_restrictions_in_custom_windows(server):
    with beam.Pipeline(options=portable_options(server)) as pipeline:
        out = (
            pipeline
            | beam.Create([("a", 10), ("b", 150)])
            | beam.Map(lambda pair: window.TimestampedValue(pair[0], pair[1]))
            | beam.WindowInto(Days())
            | beam.ParDo(InWindow())
            | "Back" >> beam.WindowInto(window.GlobalWindows())
        )
        texts = [f"{element}:{offset}@{start}" for element, start in (("a", 0), ("b", 100)) for offset in range(6)]
        assert_that(out, equal_to(texts))


class Delayed(beam.DoFn):
    def process(self, element, tracker=beam.DoFn.RestrictionParam(Offsets(3))):
        offset = tracker.current_restriction().start
        if tracker.try_claim(offset):
            SEEN["delays"].append(time.monotonic())
            yield offset
            tracker.defer_remainder(Duration(0.5))


def test_a_residual_waits_for_its_time(server):
    SEEN["delays"] = []
    with beam.Pipeline(options=portable_options(server)) as pipeline:
        assert_that(pipeline | beam.Create(["x"]) | beam.ParDo(Delayed()), equal_to([0, 1, 2]))
    times = SEEN["delays"]
    assert len(times) == 3
    assert all(later - earlier >= 0.5 for earlier, later in zip(times, times[1:], strict=False)), times


class From1000(WatermarkEstimatorProvider):
    """Estimators that begin at second 1000."""

    def __init__(self, estimator) -> None:
        self.estimator = estimator

    def initial_estimator_state(self, element, restriction):
        return Timestamp(1000 + restriction.start)

    def create_watermark_estimator(self, state):
        return self.estimator(state)


def reading(estimator):
    """A DoFn that reads 12 offsets, one a second of event time, and gives the rest back after each third one."""

    manual = estimator is ManualWatermarkEstimator

    class Reading(beam.DoFn):
        @beam.DoFn.unbounded_per_element()
        def process(
            self,
            element,
            tracker=beam.DoFn.RestrictionParam(Offsets(12, bounded=False)),
            estimator=beam.DoFn.WatermarkEstimatorParam(From1000(estimator)),
        ):
            offset = tracker.current_restriction().start
            while tracker.try_claim(offset):
                yield window.TimestampedValue(("k", offset), Timestamp(element + offset))
                if manual:
                    estimator.set_watermark(Timestamp(element + offset))
                offset += 1
                if offset % 3 == 0:
                    tracker.defer_remainder()
                    return

    return Reading()


class Pane(beam.DoFn):
    def process(self, group, pane=beam.DoFn.PaneInfoParam, start=beam.DoFn.WindowParam):
        _, offsets = group
        yield int(start.start), sorted(offsets), PaneInfoTiming.to_string(pane.timing)


@pytest.mark.parametrize("estimator", [ManualWatermarkEstimator, MonotonicWatermarkEstimator])
@pytest.mark.parametrize("streaming", [True, False])
def test_watermark_estimators_hold_windows_open(server, estimator, streaming):
    """Each window has one pane, on time, with all of its elements: the watermark waited for what was yet to come."""
    flags = ["--streaming"] if streaming else []
    with beam.Pipeline(options=portable_options(server, *flags)) as pipeline:
        panes = (
            pipeline
            | beam.Impulse()
            | beam.Map(lambda _: 1_000)
            | beam.ParDo(reading(estimator)).with_output_types(tuple[str, int])
            | beam.WindowInto(window.FixedWindows(4), trigger=trigger.AfterWatermark(), accumulation_mode=1)
            | beam.GroupByKey()
            | beam.ParDo(Pane())
            | "Global" >> beam.WindowInto(window.GlobalWindows())
        )
        on_time = [(1_000 + 4 * n, [4 * n + i for i in range(4)], "ON_TIME") for n in range(3)]
        assert_that(panes, equal_to(on_time))


class Endless(beam.DoFn):
    """Generates for ever, one element a round, and tells when a round is finalized."""

    def __init__(self, name: str) -> None:
        self.name = name

    @beam.DoFn.unbounded_per_element()
    def process(
        self,
        element,
        finalizer=beam.DoFn.BundleFinalizerParam,
        tracker=beam.DoFn.RestrictionParam(Offsets(1 << 40, bounded=False)),
        estimator=beam.DoFn.WatermarkEstimatorParam(WalltimeWatermarkEstimator.default_provider()),
    ):
        offset = tracker.current_restriction().start
        if tracker.try_claim(offset):
            SEEN[self.name].append(offset)
            finalizer.register(lambda: SEEN[self.name + " finalized"].append(offset))
            yield window.TimestampedValue(("k", offset), Timestamp.now())
            tracker.defer_remainder(Duration(0.01))


class Keep(beam.DoFn):
    def __init__(self, name: str) -> None:
        self.name = name

    def process(self, element):
        SEEN[self.name].append(element)


def drained(server, result) -> None:
    """Drains the job and waits for its end, as the state DRAINED is no success to the SDK."""
    waiting = threading.Thread(target=result.wait_until_finish, daemon=True)
    server.api.drain(result._job_id)
    server.api.wait_state(result._job_id, "DRAINED")
    waiting.start()
    waiting.join(PATIENCE)


def test_an_unbounded_restriction_in_many_rounds_with_finalization_and_drain(server):
    names = ["endless", "endless finalized", "endless grouped"]
    SEEN.update({name: [] for name in names})
    pipeline = beam.Pipeline(options=portable_options(server, "--streaming"))
    _ = (
        pipeline
        | beam.Impulse()
        | beam.ParDo(Endless("endless")).with_output_types(tuple[str, int])
        | beam.WindowInto(window.FixedWindows(1))
        | beam.GroupByKey()
        | beam.ParDo(Keep("endless grouped"))
    )
    result = pipeline.run()
    # The walltime estimator lets windows close while the restriction goes on.
    wait(lambda: len(SEEN["endless"]) >= 20 and SEEN["endless grouped"])
    drained(server, result)
    offsets = SEEN["endless"]
    assert offsets == list(range(len(offsets))), "a round was repeated or left out"
    assert SEEN["endless finalized"] == offsets
    grouped = sorted(offset for _, group in SEEN["endless grouped"] for offset in group)
    assert grouped == offsets, "the drain did not close every window"


class Bounded(beam.DoFn):
    def __init__(self, name: str) -> None:
        self.name = name

    def process(self, element, tracker=beam.DoFn.RestrictionParam(Offsets(40))):
        offset = tracker.current_restriction().start
        while tracker.try_claim(offset):
            SEEN[self.name].append(offset)
            time.sleep(0.005)
            yield offset
            offset += 1


def nothing_truncated(_) -> bool:
    return not SEEN["truncated"]


def test_a_drain_finishes_bounded_restrictions(server):
    SEEN.update({"truncated": [], "truncated out": []})
    pipeline = beam.Pipeline(options=portable_options(server, "--streaming"))
    # The input that makes it a streaming job. Its own default for the start is the time of the SDK's import.
    endless = pipeline | PeriodicImpulse(Timestamp.now(), fire_interval=0.1)
    first = endless | beam.Filter(nothing_truncated) | beam.Map(lambda _: "x")
    _ = first | beam.ParDo(Bounded("truncated")) | beam.ParDo(Keep("truncated out"))
    result = pipeline.run()
    wait(lambda: len(SEEN["truncated"]) >= 5)
    drained(server, result)
    rounds = SEEN["truncated"].count(0)
    assert rounds >= 1
    assert Counter(SEEN["truncated out"]) == Counter(dict.fromkeys(range(40), rounds))


def test_a_periodic_impulse_ends_with_the_drain(server):
    SEEN["impulses"] = []
    pipeline = beam.Pipeline(options=portable_options(server, "--streaming"))
    _ = (
        pipeline
        | PeriodicImpulse(Timestamp.now(), fire_interval=0.2, apply_windowing=True)
        | beam.Map(lambda at: ("k", at))
        | beam.GroupByKey()
        | beam.ParDo(Keep("impulses"))
    )
    result = pipeline.run()
    wait(lambda: len(SEEN["impulses"]) >= 5)
    drained(server, result)
    times = [at for _, group in SEEN["impulses"] for at in group]
    assert len(set(times)) == len(times) >= 5


class Unbounded(beam.DoFn):
    def process(self, element, tracker=beam.DoFn.RestrictionParam(Offsets(5, bounded=False))):
        offset = tracker.current_restriction().start
        if tracker.try_claim(offset):
            yield f"{element}{offset}"
            tracker.defer_remainder()


def test_unbounded_restrictions_that_end_in_a_batch_job(server):
    with beam.Pipeline(options=portable_options(server)) as pipeline:
        out = pipeline | beam.Create(["a", "b"]) | beam.ParDo(Unbounded())
        assert_that(out, equal_to([f"{element}{offset}" for element in "ab" for offset in range(5)]))


class Counting(beam.DoFn):
    """Uses every kind of metric that the SDK reports to runners; it keeps histograms to itself."""

    def __init__(self) -> None:
        self.elements = Metrics.counter("test", "elements")
        self.sizes = Metrics.distribution("test", "sizes")
        self.latest = Metrics.gauge("test", "latest")
        self.words = Metrics.string_set("test", "words")
        self.paths = Metrics.bounded_trie("test", "paths")

    def process(self, element):
        self.elements.inc()
        self.sizes.update(element)
        self.latest.set(element)
        self.words.add(f"word{element}")
        self.paths.add(("root", f"leaf{element}"))
        yield element


def test_every_kind_of_metric_attempted_and_committed(server):
    pipeline = beam.Pipeline(options=portable_options(server))
    _ = pipeline | beam.Create([1, 2, 3]) | "Count" >> beam.ParDo(Counting())
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_step("Count"))
    values = {}
    for kind in found.values():
        for metric in kind:
            assert metric.key.step == "Count"
            values[metric.key.metric.name] = (metric.attempted, metric.committed)
    for name, value in (("elements", 3), ("words", {"word1", "word2", "word3"})):
        assert values[name] == (value, value), name
    for of in values["sizes"]:
        assert (of.count, of.sum, of.min, of.max) == (3, 6, 1, 3)
    for of in values["latest"]:
        assert of.value in (1, 2, 3)
    for of in values["paths"]:
        assert {path[:2] for path in of.flattened()} == {("root", f"leaf{n}") for n in (1, 2, 3)}


class Gate(beam.DoFn):
    def process(self, element):
        Metrics.counter("test", "passed").inc()
        SEEN["gate"].append(element)
        while element == 3 and not SEEN["open"]:
            time.sleep(0.02)
        yield element


def test_attempted_metrics_run_ahead_of_committed_ones(server):
    SEEN.update({"gate": [], "open": []})
    pipeline = beam.Pipeline(options=portable_options(server))
    _ = pipeline | beam.Create([1, 2, 3, 4], reshuffle=False) | "Gate" >> beam.ParDo(Gate())
    result = pipeline.run()

    def passed() -> tuple[int, int]:
        result._metrics = None  # it would not ask again
        found = result.metrics().query(MetricsFilter().with_name("passed"))["counters"]
        return (found[0].attempted or 0, found[0].committed or 0) if found else (0, 0)

    wait(lambda: passed() == (3, 0))
    SEEN["open"].append(True)
    result.wait_until_finish()
    assert passed() == (4, 4)
