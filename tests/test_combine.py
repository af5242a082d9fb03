"""Combines and the transforms around them, in batch and in streaming. Many checks share a pipeline, to save jobs."""

import time

import apache_beam as beam
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.combiners import (
    Count,
    Latest,
    Mean,
    ToDict,
    ToList,
    ToListCombineFn,
    Top,
    TopCombineFn,
    ToSet,
)
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterWatermark, Repeatedly
from apache_beam.transforms.window import FixedWindows, GlobalWindows, Sessions, TimestampedValue
from apache_beam.utils.windowed_value import PaneInfoTiming
from conftest import portable_options

NUMBERS = [("a", 1), ("b", 2), ("a", 3), ("a", 8), ("b", 4)]


class Spread(beam.CombineFn):
    """The distance between the smallest and the largest value. Value, accumulator and output are of three types."""

    def create_accumulator(self):
        return None

    def add_input(self, accumulator, value):
        return self.merge_accumulators([accumulator, (value, value)])

    def merge_accumulators(self, accumulators):
        some = [a for a in accumulators if a is not None]
        return (min(low for low, _ in some), max(high for _, high in some)) if some else None

    def extract_output(self, accumulator):
        return f"{accumulator[1] - accumulator[0]} apart"


class Above(beam.CombineFn):
    """Counts the values above a limit, which is a side input."""

    def create_accumulator(self, limit):
        return 0

    def add_input(self, accumulator, value, limit):
        return accumulator + (value > limit)

    def merge_accumulators(self, accumulators, limit):
        return sum(accumulators)

    def extract_output(self, accumulator, limit):
        return accumulator


class InOrder(ToListCombineFn):
    """An accumulator that keeps everything."""

    def extract_output(self, accumulator):
        return sorted(accumulator)


class Joined(beam.CombineFn):
    """Tells how long all values are together. Some accumulators make a pane that is too large to be put out inline."""

    def create_accumulator(self):
        return ""

    def add_input(self, accumulator, value):
        return f"{accumulator}{value:1000}"

    def merge_accumulators(self, accumulators):
        return "".join(accumulators)

    def extract_output(self, accumulator):
        return len(accumulator)


class Narrow(beam.CombineFn):
    """Counts, and tells whether no merge was of many accumulators."""

    def create_accumulator(self):
        return 0, 0

    def add_input(self, accumulator, _):
        count, widest = accumulator
        return count + 1, widest

    def merge_accumulators(self, accumulators):
        several = list(accumulators)
        return sum(count for count, _ in several), max(len(several), *(widest for _, widest in several))

    def extract_output(self, accumulator):
        count, widest = accumulator
        return count, widest <= 40


class Checks:
    """Results of a pipeline with what they should be; one assertion for all keeps the job small."""

    def __init__(self):
        self.results, self.expected = [], []

    def __call__(self, name, got, expected):
        self.expected += [(name, value) for value in expected]
        got = got | f"{name}Global" >> beam.WindowInto(GlobalWindows())
        self.results.append(got | f"{name}Name" >> beam.Map(lambda value, name: (name, value), name))

    def done(self):
        assert_that(self.results | beam.Flatten(), equal_to(self.expected))


def test_combines_of_a_bounded_input(server):
    """Those of one input are packed by the SDK."""
    check = Checks()
    with beam.Pipeline(options=portable_options(server)) as pipeline:
        keyed = pipeline | beam.Create(NUMBERS)
        values = keyed | beam.Values()
        grouped = keyed | beam.GroupByKey()
        limit = pipeline | "Limit" >> beam.Create([2])
        side = beam.pvalue.AsSingleton(limit)
        largest = values | "Largest" >> beam.CombineGlobally(lambda vs: max(vs, default=0)).as_singleton_view()

        check("Hot", keyed | "Hot" >> beam.CombinePerKey(Spread()).with_hot_key_fanout(3), SPREADS)
        check("Fanout", values | "Fanout" >> beam.CombineGlobally(sum).with_fanout(2), [18])
        check("Side", keyed | "Side" >> beam.CombinePerKey(Above(), 2), [("a", 2), ("b", 1)])
        check("DeferredSide", keyed | "DeferredSide" >> beam.CombinePerKey(Above(), side), [("a", 2), ("b", 1)])
        check("GroupedSide", grouped | "GroupedSide" >> beam.CombineValues(Above(), side), [("a", 2), ("b", 1)])
        check("GroupedArgument", grouped | "GroupedArgument" >> beam.CombineValues(Above(), 2), [("a", 2), ("b", 1)])
        check("GlobalSide", values | "GlobalSide" >> beam.CombineGlobally(Above(), side), [3])
        check("PackedMean", keyed | "PackedMean" >> Mean.PerKey(), [("a", 4), ("b", 3)])
        check("PackedSum", keyed | "PackedSum" >> beam.CombinePerKey(sum), [("a", 12), ("b", 6)])
        check("PackedSpread", keyed | "PackedSpread" >> beam.CombinePerKey(Spread()), SPREADS)
        none = values | "None" >> beam.Filter(lambda _: False)
        check("Defaults", none | "Defaults" >> beam.CombineGlobally(sum), [0])
        check("NoDefaults", none | "NoDefaults" >> beam.CombineGlobally(sum).without_defaults(), [])
        check("View", limit | "View" >> beam.Map(lambda x, y: x + y, largest), [10])
        check("Top", values | "Top" >> Top.Largest(2), [[8, 4]])
        check("TopPerKey", keyed | "TopPerKey" >> Top.SmallestPerKey(1), [("a", [1]), ("b", [2])])
        check("Mean", values | "Mean" >> Mean.Globally(), [3.6])
        check("Count", values | "Count" >> Count.Globally(), [5])
        check("CountPerKey", keyed | "CountPerKey" >> Count.PerKey(), [("a", 3), ("b", 2)])
        check("CountPerElement", values | "CountPerElement" >> Count.PerElement(), [(n, 1) for n in (1, 2, 3, 8, 4)])
        check("ToList", values | "ToList" >> ToList() | "Sorted" >> beam.Map(sorted), [[1, 2, 3, 4, 8]])
        check("ToSet", values | "ToSet" >> ToSet(), [{1, 2, 3, 4, 8}])
        check("ToDict", keyed | "Max" >> beam.CombinePerKey(max) | "ToDict" >> ToDict(), [{"a": 8, "b": 4}])
        stamped = keyed | "Stamp" >> beam.Map(lambda kv: TimestampedValue(kv, kv[1]))
        check("Latest", stamped | "Latest" >> Latest.PerKey(), [("a", 8), ("b", 4)])
        check("LatestOfAll", stamped | "LatestOfAll" >> Latest.Globally(), [("a", 8)])
        sessions = stamped | "Sessions" >> beam.WindowInto(Sessions(2))
        check(
            "Session",
            sessions | "Session" >> beam.CombinePerKey(Spread()) | "Plain" >> beam.Map(lambda kv: kv),
            [("a", "0 apart"), ("a", "0 apart"), ("a", "0 apart"), ("b", "0 apart"), ("b", "0 apart")],
        )
        wide = stamped | "Wide" >> beam.WindowInto(Sessions(3)) | "WideSpread" >> beam.CombinePerKey(Spread())
        check("Wide", wide, [("a", "2 apart"), ("a", "0 apart"), ("b", "2 apart")])
        check.done()


SPREADS = [("a", "7 apart"), ("b", "2 apart")]


class WithPane(beam.DoFn):
    """Tells the value with the place of its pane."""

    def process(self, element, pane=beam.DoFn.PaneInfoParam):
        yield element, pane.index, PaneInfoTiming.to_string(pane.timing)


def test_combines_whose_keys_hardly_repeat(server):
    """After some bundles the values are no longer merged before they are grouped; the results stay what they are."""
    n, keys = 60_000, 50_000
    with beam.Pipeline(options=portable_options(server, "--max_bundle_size=2000")) as pipeline:
        pairs = (
            pipeline
            | beam.Create(range(24))
            | beam.FlatMap(lambda part: ((i % keys, i) for i in range(part, n, 24))).with_output_types(tuple[int, int])
            | beam.Map(lambda kv: TimestampedValue(kv, kv[1] % 100))
            | beam.Reshuffle()
        )
        sums = pairs | "Sum" >> beam.CombinePerKey(sum) | "All" >> beam.Map(lambda kv: (kv[0] % 2, kv[1]))
        means = pairs | "Windows" >> beam.WindowInto(FixedWindows(50)) | "Mean" >> Mean.PerKey()
        windows = means | "Count" >> beam.Map(lambda kv: kv[1]) | beam.WindowInto(GlobalWindows())
        total = sum(range(n))
        even = sum(range(0, n, 2))
        assert_that(sums | "Halves" >> beam.CombinePerKey(sum), equal_to([(0, even), (1, total - even)]), "sums")
        assert_that(windows | "Whole" >> beam.CombineGlobally(sum), equal_to([expected_means(n, keys)]), "means")


def expected_means(n, keys):
    """The sum of the means of each key and window of 50 seconds, where i is at i % 100."""
    groups = {}
    for i in range(n):
        groups.setdefault((i % keys, i % 100 // 50), []).append(i)
    return sum(sum(g) / len(g) for g in groups.values())


def test_accumulating_panes_of_a_combine(server):
    """Each pane tells what all elements of the window so far make, over many firings."""
    rounds, each = 24, 4
    stream = TestStream().advance_watermark_to(0)
    for n in range(rounds):
        stream.add_elements([TimestampedValue(("a", n * each + i), 5) for i in range(each)])
    stream.advance_watermark_to(15).add_elements([TimestampedValue(("a", 1000), 5)]).advance_watermark_to(200)
    stream.add_elements([TimestampedValue(("a", 0), 5)] * 3).advance_watermark_to_infinity()
    expected = []
    seen: list[int] = []
    for n in range(rounds * each):
        seen.append(n)
        if n % 3 == 2:
            expected.append((list(seen), len(expected), "EARLY"))
    expected.append((list(seen), len(expected), "ON_TIME"))
    expected.append(([*seen, 1000], len(expected), "LATE"))

    check = Checks()
    with beam.Pipeline(options=portable_options(server, "--streaming")) as pipeline:
        elements = pipeline | stream
        for name, windows in (("Fixed", FixedWindows(10)), ("Sessions", Sessions(5))):
            windowed = elements | f"{name}Window" >> beam.WindowInto(
                windows,
                trigger=AfterWatermark(early=AfterCount(3), late=AfterCount(1)),
                accumulation_mode=AccumulationMode.ACCUMULATING,
                allowed_lateness=100,
            )
            for label, combine, of in (
                ("Mean", Mean.PerKey(), lambda values: sum(values) / len(values)),
                ("Spread", beam.CombinePerKey(Spread()), lambda values: f"{max(values) - min(values)} apart"),
                ("List", beam.CombinePerKey(InOrder()), sorted),
                ("Joined", beam.CombinePerKey(Joined()), lambda values: 1000 * len(values)),
                ("Narrow", beam.CombinePerKey(Narrow()), lambda values: (len(values), True)),
            ):
                panes = windowed | f"{name}{label}" >> combine | f"{name}{label}Pane" >> beam.ParDo(WithPane())
                wanted = [(("a", of(values)), index, timing) for values, index, timing in expected]
                check(name + label, panes, wanted)
        check.done()


def test_combines_of_an_unbounded_input(server):
    stream = (
        TestStream()
        .advance_watermark_to(0)
        .add_elements([TimestampedValue(pair, n) for n, pair in enumerate(NUMBERS)])
        .advance_watermark_to(20)
        .add_elements([TimestampedValue(("a", 5), 21), TimestampedValue(("a", 6), 22)])
        .advance_watermark_to_infinity()
    )
    check = Checks()
    with beam.Pipeline(options=portable_options(server, "--streaming")) as pipeline:
        elements = pipeline | stream
        keyed = elements | beam.WindowInto(FixedWindows(10))

        limit = beam.pvalue.AsSingleton(pipeline | "Limit" >> beam.Create([2]))
        spreads = [*SPREADS, ("a", "1 apart")]
        check("Hot", keyed | "Hot" >> beam.CombinePerKey(Spread()).with_hot_key_fanout(3), spreads)
        values = keyed | beam.Values()
        check("Fanout", values | "Fanout" >> beam.CombineGlobally(sum).with_fanout(2).without_defaults(), [18, 11])
        check(
            "NoDefaults",
            values | "NoDefaults" >> beam.CombineGlobally(Spread()).without_defaults(),
            ["7 apart", "1 apart"],
        )
        check("Side", keyed | "Side" >> beam.CombinePerKey(Above(), limit), [("a", 2), ("b", 1), ("a", 2)])
        sessions = elements | "Sessions" >> beam.WindowInto(Sessions(4))
        check("Session", sessions | "Session" >> beam.CombinePerKey(sum), [("a", 12), ("b", 6), ("a", 11)])
        check("Top", values | "Top" >> beam.CombineGlobally(TopCombineFn(1)).without_defaults(), [[8], [6]])
        check("Count", keyed | "Count" >> Count.PerKey(), [("a", 3), ("b", 2), ("a", 2)])
        check("Latest", keyed | "Latest" >> Latest.PerKey(), [("a", 8), ("b", 4), ("a", 6)])
        check.done()


def test_batches_of_a_stream(server):
    """GroupIntoBatches puts out what is full, what has waited long enough, and the rest when the window ends."""
    stream = (
        TestStream()
        .advance_watermark_to(0)
        .add_elements([("a", 1), ("a", 2)])
        .advance_processing_time(30)
        .add_elements([("a", 3), ("a", 4), ("a", 5), ("a", 6)])
        .advance_watermark_to_infinity()
    )
    with beam.Pipeline(options=portable_options(server, "--streaming")) as pipeline:
        elements = pipeline | stream.with_output_types(tuple[str, int])
        batches = elements | "Batch" >> beam.GroupIntoBatches(3, max_buffering_duration_secs=20)
        wanted = [("a", [1, 2]), ("a", [3, 4, 5]), ("a", [6])]
        assert_that(batches | beam.MapTuple(lambda k, v: (k, list(v))), equal_to(wanted), "CheckBatches")
        sharded = elements | "Shard" >> beam.GroupIntoBatches.WithShardedKey(3, max_buffering_duration_secs=20)
        flat = sharded | "Flat" >> beam.FlatMapTuple(lambda k, v: [(k.key, len(v) <= 3, n) for n in v])
        assert_that(flat, equal_to([("a", True, n) for n in range(1, 7)]), "CheckSharded")


class Place(beam.DoFn):
    """Tells all that an element carries besides its value."""

    def process(self, element, at=beam.DoFn.TimestampParam, win=beam.DoFn.WindowParam, pane=beam.DoFn.PaneInfoParam):
        yield element, float(at), float(win.end), pane.index, PaneInfoTiming.to_string(pane.timing), pane.is_first


def test_a_reshuffle_keeps_times_windows_and_panes(server):
    stream = TestStream().advance_watermark_to(0)
    stream.add_elements([TimestampedValue(("a", 1), 3)]).add_elements([TimestampedValue(("a", 2), 4)])
    stream.advance_watermark_to_infinity()
    with beam.Pipeline(options=portable_options(server, "--streaming")) as pipeline:
        panes = (
            pipeline
            | stream
            | beam.WindowInto(
                FixedWindows(10), trigger=Repeatedly(AfterCount(1)), accumulation_mode=AccumulationMode.DISCARDING
            )
            | beam.GroupByKey()
            | beam.MapTuple(lambda k, v: (k, list(v)))
        )
        wanted = [
            (("a", [1]), 9.999, 10.0, 0, "EARLY", True),
            (("a", [2]), 9.999, 10.0, 1, "EARLY", False),
        ]
        for name, shuffle in (("Reshuffle", beam.Reshuffle()), ("ByKey", beam.transforms.util.ReshufflePerKey())):
            moved = panes | name >> shuffle | f"{name}Place" >> beam.ParDo(Place())
            moved = moved | f"{name}Global" >> beam.WindowInto(GlobalWindows())
            assert_that(moved, equal_to(wanted), f"Check{name}")


def test_exceptions_and_resource_hints(server):
    """Dead letters of every kind; and transforms whose environments differ in resource hints alone."""

    def inverse(number):
        if number == 9:
            time.sleep(30)
        return 1 / number

    with beam.Pipeline(options=portable_options(server)) as pipeline:
        numbers = pipeline | beam.Create([0, 1, 2])
        for name, handling in (("Plain", {}), ("Subprocess", {"use_subprocess": True})):
            good, bad = numbers | name >> beam.Map(inverse).with_exception_handling(**handling)
            assert_that(good, equal_to([1, 0.5]), f"{name}Good")
            letters = bad | f"{name}Letters" >> beam.MapTuple(lambda value, why: (value, why[0].__name__))
            assert_that(letters, equal_to([(0, "ZeroDivisionError")]), f"{name}Bad")
        slow = pipeline | "Slow" >> beam.Create([9, 4])
        good, bad = slow | "Timeout" >> beam.Map(inverse).with_exception_handling(timeout=4)
        assert_that(good, equal_to([0.25]), "TimeoutGood")
        assert_that(bad | "TimeoutLetters" >> beam.MapTuple(lambda value, _: value), equal_to([9]), "TimeoutBad")
        total = (
            numbers
            | "Big" >> beam.Map(lambda n: ("k", n + 1)).with_resource_hints(min_ram="1GB")
            | "Sum" >> beam.CombinePerKey(sum).with_resource_hints(min_ram="2GB")
            | "Small" >> beam.Map(lambda kv: kv[1]).with_resource_hints(cpu_count="2")
        )
        assert_that(total, equal_to([6]), "Hints")
