"""Side inputs: windowed by other functions than the main input, refreshed for ever, all views in all kinds of DoFns."""

import apache_beam as beam
import pytest
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.pvalue import AsDict, AsIter, AsList, AsMultiMap, AsSingleton
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import trigger, window
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import FixedWindows, GlobalWindows, SlidingWindows, TimestampedValue
from conftest import portable_options

DISCARDING, ACCUMULATING = trigger.AccumulationMode.DISCARDING, trigger.AccumulationMode.ACCUMULATING


def stamped(pipeline, label, *numbers):
    """Numbers that are their own timestamps."""
    return pipeline | label >> beam.Create(numbers) | f"{label} stamps" >> beam.Map(lambda n: TimestampedValue(n, n))


def look(n, *sides):
    return (n, *(sorted(side) if isinstance(side, list) else side for side in sides))


def test_windows_of_main_and_side_input_differ(server):
    with beam.Pipeline(options=portable_options(server)) as pipeline:
        numbers = stamped(pipeline, "Numbers", 1, 12, 27)
        tens = numbers | "Tens" >> beam.WindowInto(FixedWindows(10))
        fives = numbers | "Fives" >> beam.WindowInto(FixedWindows(5))
        twenties = numbers | "Twenties" >> beam.WindowInto(FixedWindows(20))
        sliding = numbers | "Sliding" >> beam.WindowInto(SlidingWindows(20, 10))
        # A main window reads the side window of its last instant; of several the earliest one.
        read = tens | "Read" >> beam.Map(look, AsList(fives), AsList(twenties), AsList(sliding), AsList(numbers))
        assert_that(
            read,
            equal_to(
                [
                    (1, [], [1, 12], [1], [1, 12, 27]),
                    (12, [], [1, 12], [1, 12], [1, 12, 27]),
                    (27, [27], [27], [12, 27], [1, 12, 27]),
                ]
            ),
            "fixed",
        )
        slid = sliding | "Slid" >> beam.Map(look, AsList(tens))
        wanted = [(1, [1]), (1, [12]), (12, [12]), (12, [27]), (27, [27]), (27, [])]
        assert_that(slid, equal_to(wanted), "sliding")
        whole = numbers | "Whole" >> beam.Map(look, AsSingleton(tens, default_value="none"))
        assert_that(whole, equal_to([(1, "none"), (12, "none"), (27, "none")]), "global")
        empty = numbers | "Empty" >> beam.Filter(lambda n: n > 20) | "Empty tens" >> beam.WindowInto(FixedWindows(10))
        default = tens | "Default" >> beam.Map(look, AsSingleton(empty, default_value=0))
        assert_that(default, equal_to([(1, 0), (12, 0), (27, 27)]), "default")


class Repeat(beam.DoFn, RestrictionProvider):
    """Emits each element with its repetitions, whose number and label come from side inputs."""

    def initial_restriction(self, element):
        return OffsetRange(0, 3)

    def create_tracker(self, restriction):
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element, restriction):
        return restriction.size()

    def process(self, element, label, tracker=beam.DoFn.RestrictionParam()):  # noqa: B008
        at = tracker.current_restriction().start
        while tracker.try_claim(at):
            yield f"{element}{label}{at}"
            at += 1


class Running(beam.DoFn):
    """Numbers the elements of a key, under a name from a side input."""

    COUNT = ReadModifyWriteStateSpec("count", beam.coders.VarIntCoder())

    def process(self, element, names, count=beam.DoFn.StateParam(COUNT)):  # noqa: B008
        count.write((count.read() or 0) + 1)
        yield names[element[0]], count.read()


class Weighted(beam.CombineFn):
    def create_accumulator(self, weight):
        return 0

    def add_input(self, total, element, weight):
        return total + element * weight

    def merge_accumulators(self, totals, weight):
        return sum(totals)

    def extract_output(self, total, weight):
        return total


def test_every_view_in_every_kind_of_dofn(server):
    with beam.Pipeline(options=portable_options(server)) as pipeline:
        pairs = pipeline | "Pairs" >> beam.Create([("a", 1), ("b", 2), ("a", 3)])
        names = pipeline | "Names" >> beam.Create([("a", "ada"), ("b", "bob")])
        ten = pipeline | "Ten" >> beam.Create([10])

        both = (pairs, names | "Again" >> beam.Filter(lambda pair: pair[0] == "b")) | "Both" >> beam.Flatten()
        assert_that(
            ten
            | "Views"
            >> beam.Map(look, AsSingleton(ten), AsList(pairs), AsDict(names), AsList(both | "Texts" >> beam.Map(str))),
            equal_to(
                [
                    (
                        10,
                        10,
                        [("a", 1), ("a", 3), ("b", 2)],
                        {"a": "ada", "b": "bob"},
                        ["('a', 1)", "('a', 3)", "('b', 'bob')", "('b', 2)"],
                    )
                ]
            ),
            "views",
        )
        multi = names | "Multi" >> beam.Map(
            lambda name, all_of: (name[1], sorted(all_of[name[0]]), list(all_of["?"])), AsMultiMap(pairs)
        )
        assert_that(multi, equal_to([("ada", [1, 3], []), ("bob", [2], [])]), "multimap")
        own = pairs | "Own" >> beam.Map(lambda pair, others: (pair, len(list(others))), AsIter(pairs))
        assert_that(own, equal_to([(("a", 1), 3), (("b", 2), 3), (("a", 3), 3)]), "of itself")
        running = pairs | beam.ParDo(Running(), AsDict(names))
        assert_that(running, equal_to([("ada", 1), ("ada", 2), ("bob", 1)]), "stateful")
        ada = names | "Ada" >> beam.Filter(lambda name: name[0] == "a") | "Her name" >> beam.Values()
        repeated = ten | beam.ParDo(Repeat(), AsSingleton(ada))
        assert_that(repeated, equal_to(["10ada0", "10ada1", "10ada2"]), "splittable")
        weighted = pairs | beam.CombinePerKey(Weighted(), AsSingleton(ten))
        assert_that(weighted, equal_to([("a", 40), ("b", 20)]), "combined")
        # What a stage puts out as main output is the side input of what reads its other output.
        chained = weighted | "Chained" >> beam.Map(look, AsList(weighted | "Weights" >> beam.Values()))
        assert_that(chained, equal_to([(("a", 40), [20, 40]), (("b", 20), [20, 40])]), "chained")


def test_a_long_key_of_a_multimap(server):
    """A bulk read is refused, and the values come in pages."""
    with beam.Pipeline(options=portable_options(server)) as pipeline:
        long = pipeline | beam.Create([("hot", 0), ("cold", 1)]) | beam.FlatMap(long_values)
        sizes = pipeline | "Keys" >> beam.Create(["hot", "cold", "none"]) | beam.Map(total_size, AsMultiMap(long))
        assert_that(sizes, equal_to([("hot", 12 << 20), ("cold", 7), ("none", 0)]))


def long_values(pair):
    for n in range(12) if pair[0] == "hot" else range(1):
        yield pair[0], b"x" * (1 << 20) if pair[0] == "hot" else b"%07d" % n


def total_size(key, values):
    return key, sum(len(value) for value in values[key])


class Decades(window.NonMergingWindowFn):
    """Windows of ten seconds, of a function that the runner does not know."""

    def assign(self, context):
        start = context.timestamp - context.timestamp % 10
        return [window.IntervalWindow(start, start + 10)]

    def get_window_coder(self):
        return beam.coders.coders.IntervalWindowCoder()


@pytest.mark.parametrize("cache", [0, 50])
def test_side_inputs_of_many_pages(server, cache):
    """With a cache in the harness side inputs are kept from bundle to bundle; without, read a page at a time."""
    words, keys, hot = 200_000, 3000, 100_000
    options = portable_options(server, f"--max_cache_memory_usage_mb={cache}")
    with beam.Pipeline(options=options) as pipeline:
        many = (
            pipeline
            | "Words seed" >> beam.Create([words])
            | "Words" >> beam.FlatMap(lambda n: (f"word {i:07}" for i in range(n)))
        )
        pairs = (
            pipeline
            | "Pairs seed" >> beam.Create([keys])
            | "Pairs"
            >> beam.FlatMap(lambda n: ((i, f"{i} is {j:07}") for i in range(n) for j in range(hot if i == 7 else 2)))
        )
        looked = (
            pipeline
            | beam.Create(range(40))
            | beam.Reshuffle()
            | "Look"
            >> beam.Map(
                lambda n, every, by_key: (
                    sum(1 for _ in every) if n % 20 == 0 else words,
                    [len(list(by_key[k])) for k in (n * 70, n * 70 + 1, keys + n)],
                    len(list(by_key[7])) if n % 20 == 1 else hot,
                ),
                AsIter(many),
                AsMultiMap(pairs),
            )
        )
        assert_that(looked, equal_to([(words, [2, 2, 0], hot)] * 40))


def test_side_inputs_that_are_refreshed(server):
    stream = TestStream()
    stream.add_elements(["waits"], tag="main")
    for n in (1, 2, 3):
        stream.add_elements([n], tag="side").add_elements([f"m{n}"], tag="main").advance_processing_time(10)
    stream.advance_watermark_to_infinity(tag="main").advance_watermark_to_infinity(tag="side")

    with beam.Pipeline(options=portable_options(server, "--streaming")) as pipeline:
        events = pipeline | stream
        often = trigger.Repeatedly(trigger.AfterCount(1))
        newest = events["side"] | "Newest" >> beam.WindowInto(
            GlobalWindows(), trigger=often, accumulation_mode=DISCARDING
        )
        latest = newest | beam.Map(lambda n: (None, n)) | beam.CombinePerKey(max) | beam.Values()
        total = (
            events["side"]
            | "Growing" >> beam.WindowInto(GlobalWindows(), trigger=often, accumulation_mode=ACCUMULATING)
            | beam.CombineGlobally(sum).without_defaults()
        )
        read = events["main"] | "Read" >> beam.Map(look, AsSingleton(newest), AsSingleton(latest), AsSingleton(total))
        assert_that(
            read,
            equal_to([("waits", 1, 1, 1), ("m1", 1, 1, 1), ("m2", 2, 2, 3), ("m3", 3, 3, 6)]),
        )


def test_windows_of_streams(server):
    stream = (
        TestStream()
        .add_elements([TimestampedValue("m1", 1), TimestampedValue("m11", 11)], tag="main")
        .add_elements([TimestampedValue(2, 2), TimestampedValue(12, 12)], tag="side")
        .advance_watermark_to(10, tag="side")
        .add_elements([TimestampedValue(3, 3)], tag="side")  # late, and read by who comes later still
        .add_elements([TimestampedValue("m4", 4)], tag="main")
        .advance_watermark_to_infinity(tag="main")
        .advance_watermark_to_infinity(tag="side")
    )
    with beam.Pipeline(options=portable_options(server, "--streaming")) as pipeline:
        events = pipeline | stream
        main = events["main"] | "Main tens" >> beam.WindowInto(FixedWindows(10))
        tens = events["side"] | "Tens" >> beam.WindowInto(FixedWindows(10), allowed_lateness=100)
        decades = events["side"] | "Decades" >> beam.WindowInto(Decades())
        read = main | beam.Map(look, AsList(tens), AsList(decades))
        assert_that(read, equal_to([("m1", [2], [2]), ("m11", [12], [12]), ("m4", [2, 3], [2, 3])]))


def test_a_singleton_of_two_fails(server):
    with (
        pytest.raises(Exception, match="more than one element"),
        beam.Pipeline(options=portable_options(server)) as pipeline,
    ):
        two = pipeline | "Two" >> beam.Create([1, 2])
        pipeline | beam.Create([0]) | beam.Map(look, AsSingleton(two))
