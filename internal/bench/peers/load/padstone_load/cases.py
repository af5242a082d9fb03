"""Pipelines whose result is known. They are made in the harness, so that no runner is measured by its sources.

Every pipeline ends in a verdict: a file that says whether the result was right, written in the harness, which runs on
this machine. A runner that loses everything leaves none.
"""

# ruff: noqa: B008 (the SDK takes a DoFn's parameters from calls in defaults)

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.transforms import trigger, window
from apache_beam.transforms.periodicsequence import PeriodicImpulse
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfoTiming

SHARDS = 16


@dataclass(frozen=True)
class Load:
    """What a case is given."""

    elements: int
    verdict: str  # file for the verdict
    latencies: str  # file for latencies
    seconds: float  # how long the latency case sends


# Making elements.


def shards(_: bytes, elements: int) -> Iterator[tuple[int, int]]:
    """Splits the work: (first, count) of each shard."""
    for shard in range(SHARDS):
        first, end = elements * shard // SHARDS, elements * (shard + 1) // SHARDS
        yield first, end - first


def numbers(shard: tuple[int, int]) -> Iterator[int]:
    first, count = shard
    return iter(range(first, first + count))


def texts(shard: tuple[int, int], size: int) -> Iterator[bytes]:
    padding = b"." * (size - 8)
    for number in numbers(shard):
        yield number.to_bytes(8, "big") + padding


def pairs(shard: tuple[int, int], keys: int, hot: bool) -> Iterator[tuple[int, int]]:
    """Pairs with keys spread as by a hash; when hot every other one has the key 0."""
    for number in numbers(shard):
        yield (0 if hot and number % 2 else number * 2654435761 % 4294967296 % keys), number


def rounds(shard: tuple[int, int], keys: int) -> Iterator[tuple[int, int]]:
    """Pairs that go round the keys: each key comes elements / keys times."""
    for number in numbers(shard):
        yield number % keys, number


class Make(beam.PTransform):
    """A collection made of numbers, in one step of the harness."""

    def __init__(self, elements: int, make: Callable, *arguments, kind: type) -> None:
        super().__init__()
        self.elements, self.make, self.arguments, self.kind = elements, make, arguments, kind

    def expand(self, pipeline):
        return (
            pipeline
            | beam.Impulse()
            | "Shards" >> beam.FlatMap(shards, self.elements).with_output_types(tuple[int, int])
            | "Make" >> beam.FlatMap(self.make, *self.arguments).with_output_types(self.kind)
        )


# Judging results.


class AddUp(beam.DoFn):
    """Adds up what a bundle gets, so that the verdict costs the runner one element a bundle."""

    def start_bundle(self) -> None:
        self.total = 0

    def process(self, number: int) -> None:
        self.total += number

    def finish_bundle(self) -> Iterable:
        yield window.GlobalWindows.windowed_value((0, self.total))


class Count(AddUp):
    def process(self, _) -> None:
        self.total += 1


def judge(total: tuple[int, int], wanted: int, verdict: str) -> None:
    right = total[1] == wanted
    text = "right" if right else f"wrong result: {total[1]} instead of {wanted}"
    Path(verdict).write_text(text)
    if not right:
        raise ValueError(text)


class Verdict(beam.PTransform):
    def __init__(self, load: Load, wanted: int, adder: type[AddUp]) -> None:
        super().__init__()
        self.load, self.wanted, self.adder = load, wanted, adder

    def expand(self, collection):
        return (
            collection
            | "Add up" >> beam.ParDo(self.adder()).with_output_types(tuple[int, int])
            | "Total" >> beam.CombinePerKey(sum)
            | "Judge" >> beam.Map(judge, self.wanted, self.load.verdict)
        )


# The cases.


def same(element):
    return element


def empty(pipeline: beam.Pipeline, load: Load) -> None:
    """A job of one element: what it costs to start and to end one."""
    pipeline | beam.Impulse() | beam.Map(lambda _: judge((0, 1), 1, load.verdict))


def chain(pipeline: beam.Pipeline, load: Load) -> None:
    """Functions one behind the other, which a runner should fuse."""
    collection = pipeline | Make(load.elements, texts, 10, kind=bytes)
    for step in range(5):
        collection = collection | f"Step {step}" >> beam.Map(same).with_output_types(bytes)
    collection | Verdict(load, load.elements, Count)


def reshuffle_of(size: int) -> Callable[[beam.Pipeline, Load], None]:
    def build(pipeline: beam.Pipeline, load: Load) -> None:
        (
            pipeline
            | Make(load.elements, texts, size, kind=bytes)
            | "Before" >> beam.Reshuffle()
            | "Map" >> beam.Map(same).with_output_types(bytes)
            | "Behind" >> beam.Reshuffle()
            | Verdict(load, load.elements, Count)
        )

    return build


def length(group: tuple[int, Iterable[int]]) -> int:
    count = 0
    for _ in group[1]:
        count += 1
    return count


def grouping(hot: bool) -> Callable[[beam.Pipeline, Load], None]:
    def build(pipeline: beam.Pipeline, load: Load) -> None:
        (
            pipeline
            | Make(load.elements, pairs, 100_000, hot, kind=tuple[int, int])
            | beam.GroupByKey()
            | "Length" >> beam.Map(length).with_output_types(int)
            | Verdict(load, load.elements, AddUp)
        )

    return build


def value_of(pair: tuple[int, int]) -> int:
    return pair[1]


def combine(pipeline: beam.Pipeline, load: Load) -> None:
    (
        pipeline
        | Make(load.elements, pairs, 100_000, False, kind=tuple[int, int])
        | beam.CombinePerKey(sum)
        | "Sum" >> beam.Map(value_of).with_output_types(int)
        | Verdict(load, load.elements * (load.elements - 1) // 2, AddUp)
    )


class CountVisits(beam.DoFn):
    SEEN = ReadModifyWriteStateSpec("seen", VarIntCoder())

    def process(self, _: tuple[int, int], seen=beam.DoFn.StateParam(SEEN)) -> Iterator[int]:
        visits = (seen.read() or 0) + 1
        seen.write(visits)
        yield visits


def state(pipeline: beam.Pipeline, load: Load) -> None:
    """A value of state that is read and written at each element; every key comes twice."""
    visits = 2
    keys = load.elements // visits
    (
        pipeline
        | Make(keys * visits, rounds, keys, kind=tuple[int, int])
        | beam.ParDo(CountVisits()).with_output_types(int)
        | Verdict(load, keys * visits * (visits + 1) // 2, AddUp)
    )


class LookUp(beam.DoFn):
    def __init__(self, keys: int) -> None:
        self.keys = keys

    def process(self, number: int, side: dict[int, Iterable[int]]) -> Iterator[int]:
        yield sum(1 for _ in side[number % self.keys])


def side_multimap(pipeline: beam.Pipeline, load: Load) -> None:
    """Look-ups in a side input of a thousand keys, each of which has ten values."""
    keys, values = 1000, 10
    side = pipeline | "Side" >> Make(keys * values, rounds, keys, kind=tuple[int, int])
    (
        pipeline
        | "Main" >> Make(load.elements, numbers, kind=int)
        | beam.Reshuffle()
        | beam.ParDo(LookUp(keys), beam.pvalue.AsMultiMap(side)).with_output_types(int)
        | Verdict(load, load.elements * values, AddUp)
    )


# The payments of the demo.

WINDOW_SECONDS, LATENESS_SECONDS, EARLY_SECONDS = 300, 600, 30
LARGE_PAISE = 100_000
BEGIN_MS, LENGTH_MS = 1_790_000_000_000, 3_600_000
MERCHANTS = 1000


def payment(number: int, count: int) -> dict:
    return {
        "payment_id": f"p-{number}",
        "merchant": f"m-{number * 7919 % MERCHANTS:03}",
        "method": "card" if number % 5 == 0 else "upi",
        "amount": 50_000 + number * 104_729 % 400_000,
        "event_time_ms": BEGIN_MS + number * LENGTH_MS // count,
    }


def payments(shard: tuple[int, int], count: int) -> Iterator[bytes]:
    for number in numbers(shard):
        yield json.dumps(payment(number, count)).encode()


class Parse(beam.DoFn):
    def __init__(self) -> None:
        self.malformed = Metrics.counter("payments", "malformed")

    def process(self, record: bytes) -> Iterator[dict]:
        try:
            fields = json.loads(record)
            parsed = {
                "merchant": str(fields["merchant"]),
                "method": str(fields["method"]),
                "amount": int(fields["amount"]),
                "event_time_ms": int(fields["event_time_ms"]),
            }
        except (ValueError, TypeError, KeyError):
            self.malformed.inc()
            return
        yield parsed


def is_large(fields: dict) -> bool:
    return fields["method"] == "upi" and fields["amount"] >= LARGE_PAISE


class OnTime(beam.DoFn):
    """The total of the pane at the end of the window: each window of a merchant has one, whatever came before."""

    def process(self, total: tuple[str, int], pane=beam.DoFn.PaneInfoParam) -> Iterator[int]:
        if pane.timing == PaneInfoTiming.ON_TIME:
            yield total[1]


def mission(pipeline: beam.Pipeline, load: Load) -> None:
    """Totals of large payments per merchant and window, as in the demo, with early and late panes that accumulate."""
    wanted = sum(p["amount"] for p in (payment(n, load.elements) for n in range(load.elements)) if is_large(p))
    (
        pipeline
        | Make(load.elements, payments, load.elements, kind=bytes)
        | "Parse" >> beam.ParDo(Parse())
        | "Large UPI payments" >> beam.Filter(is_large)
        | "Event time" >> beam.Map(lambda p: window.TimestampedValue(p, Timestamp(micros=p["event_time_ms"] * 1000)))
        | "By merchant" >> beam.Map(lambda p: (p["merchant"], p["amount"])).with_output_types(tuple[str, int])
        | "Windows"
        >> beam.WindowInto(
            window.FixedWindows(WINDOW_SECONDS),
            trigger=trigger.AfterWatermark(
                early=trigger.AfterProcessingTime(EARLY_SECONDS), late=trigger.AfterCount(1)
            ),
            accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
            allowed_lateness=LATENESS_SECONDS,
        )
        | "Total per merchant" >> beam.CombinePerKey(sum)
        | "On time" >> beam.ParDo(OnTime()).with_output_types(int)
        | "All windows" >> beam.WindowInto(window.GlobalWindows())
        | Verdict(load, wanted, AddUp)
    )


# Latency.


class Arrive(beam.DoFn):
    """Notes how long each stamp has been on its way."""

    def __init__(self, path: str) -> None:
        self.path = path

    def setup(self) -> None:
        self.file = Path(self.path).open("a")  # noqa: SIM115 (until teardown)

    def process(self, group: tuple[int, Iterable[float]]) -> None:
        now = time.time()
        for sent in group[1]:
            self.file.write(f"{now - sent:.6f}\n")
        self.file.flush()

    def teardown(self) -> None:
        self.file.close()


LATENCY_INTERVAL, LATENCY_LEAD = 0.1, 6.0


def latency(pipeline: beam.Pipeline, load: Load) -> None:
    """Ten elements a second from one function through a GroupByKey to another, and how long each takes."""
    start = time.time() + LATENCY_LEAD  # by then the harness runs
    (
        pipeline
        | PeriodicImpulse(start, start + load.seconds, LATENCY_INTERVAL)
        | "Stamp" >> beam.Map(lambda _: (0, time.time())).with_output_types(tuple[int, float])
        | beam.WindowInto(
            window.GlobalWindows(),
            trigger=trigger.Repeatedly(trigger.AfterCount(1)),
            accumulation_mode=trigger.AccumulationMode.DISCARDING,
        )
        | beam.GroupByKey()
        | beam.ParDo(Arrive(load.latencies))
    )


CASES: dict[str, Callable[[beam.Pipeline, Load], None]] = {
    "empty": empty,
    "chain": chain,
    "reshuffle": reshuffle_of(10),
    "reshuffle_10k": reshuffle_of(10_240),
    "gbk": grouping(hot=False),
    "gbk_hot": grouping(hot=True),
    "combine": combine,
    "mission": mission,
    "state": state,
    "side_multimap": side_multimap,
    "latency": latency,
}
