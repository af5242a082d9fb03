"""One pipeline with something of everything, run in ways that must not make a difference to what comes out."""

from collections import Counter

import apache_beam as beam
import pytest
from apache_beam.coders import StrUtf8Coder
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.core import DoFn, RestrictionProvider
from apache_beam.transforms.userstate import BagStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, Sessions, SlidingWindows, TimestampedValue
from conftest import portable_options

ORDERS = [(f"customer {n % 4}", n) for n in range(40)]
WINDOW = 10
DISCOUNTS = {"customer 0": 5, "customer 2": 1}


class Parts(RestrictionProvider):
    def initial_restriction(self, element):
        return OffsetRange(0, 3)

    def create_tracker(self, restriction):
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element, restriction):
        return restriction.size()


class Split(DoFn):
    """Splittable: an order becomes three parts, of an amount each."""

    PARTS = DoFn.RestrictionParam(Parts())

    def process(self, order, tracker=PARTS):
        customer, amount = order
        part = tracker.current_restriction().start
        while tracker.try_claim(part):
            yield customer, amount + part
            part += 1


class Statement(DoFn):
    """By state and timer: at the end of a window, how many parts a customer had."""

    END = TimerSpec("end", beam.TimeDomain.WATERMARK)
    SEEN_PARAM = DoFn.StateParam(BagStateSpec("seen", StrUtf8Coder()))
    END_PARAM = DoFn.TimerParam(END)

    def process(self, part, window=DoFn.WindowParam, seen=SEEN_PARAM, end=END_PARAM):
        Metrics.counter("metamorphic", "parts").inc()
        seen.add(str(part[1]))
        end.set(window.end)

    @on_timer(END)
    def tell(self, key=DoFn.KeyParam, seen=SEEN_PARAM):
        yield key, len(list(seen.read()))
        seen.clear()


class WithWindow(DoFn):
    def process(self, total, window=DoFn.WindowParam):
        yield *total, float(window.start)


def discounted(part, discounts):
    return part[0], part[1] - discounts.get(part[0], 0)


def build(pipeline):
    orders = pipeline | "Orders" >> beam.Create(ORDERS)
    discounts = pipeline | "Discounts" >> beam.Create(list(DISCOUNTS.items()))
    priced = (
        orders
        | "Stamp" >> beam.Map(lambda order: TimestampedValue(order, order[1]))
        | "Split" >> beam.ParDo(Split())
        | "Discount" >> beam.Map(discounted, beam.pvalue.AsDict(discounts))
    )
    parts = priced | "Windows" >> beam.WindowInto(FixedWindows(WINDOW), allowed_lateness=1)
    sliding = priced | "Sliding" >> beam.WindowInto(SlidingWindows(2 * WINDOW, WINDOW))
    sessions = priced | "Sessions" >> beam.WindowInto(Sessions(4.5))
    both = (parts, parts | "Shuffled" >> beam.Reshuffle()) | "Both" >> beam.Flatten()
    return {
        "sums": both | "Sum" >> beam.CombinePerKey(sum) | "Sums" >> beam.Map(lambda kv: kv),
        "totals": sliding | "Total" >> beam.CombinePerKey(sum) | "Totals" >> beam.ParDo(WithWindow()),
        "visits": sessions | "Visit" >> beam.GroupByKey() | "Visits" >> beam.MapTuple(lambda k, vs: (k, len(list(vs)))),
        "groups": parts | "Group" >> beam.GroupByKey() | "Sorted" >> beam.MapTuple(lambda k, vs: (k, sorted(vs))),
        "statements": parts | "Statement" >> beam.ParDo(Statement()),
        "counts": parts | "Values" >> beam.Values() | "Count" >> beam.combiners.Count.PerElement(),
    }


def expected():
    windows, sliding, visits = {}, Counter(), Counter()
    for customer, n in ORDERS:
        amounts = [n + part - DISCOUNTS.get(customer, 0) for part in range(3)]
        windows.setdefault((customer, n // WINDOW), []).extend(amounts)
        for start in (n // WINDOW, n // WINDOW - 1):
            sliding[customer, start * WINDOW] += sum(amounts)
        visits[customer] += 3  # one comes every 4 seconds
    counts = Counter((amount, window) for (_, window), amounts in windows.items() for amount in amounts)
    return {
        "sums": [(customer, 2 * sum(amounts)) for (customer, _), amounts in windows.items()],
        "totals": [(customer, total, float(start)) for (customer, start), total in sliding.items()],
        "visits": list(visits.items()),
        "groups": [(customer, sorted(amounts)) for (customer, _), amounts in windows.items()],
        "statements": [(customer, len(amounts)) for (customer, _), amounts in windows.items()],
        "counts": [(amount, n) for (amount, _), n in counts.items()],
    }


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--max_bundle_size=1", "--experiments=padstone_no_lifting"],
        ["--experiments=padstone_no_fusion", "--sdk_worker_parallelism=2", "--max_bundle_size=7"],
        ["--streaming"],
        ["--experiments=padstone_no_window_assignment"],
    ],
    ids=" ".join,
)
def test_it_makes_no_difference(server, flags):
    pipeline = beam.Pipeline(options=portable_options(server, *flags))
    for name, collection in build(pipeline).items():
        assert_that(collection, equal_to(expected()[name]), name)
    result = pipeline.run()
    result.wait_until_finish()
    parts = result.metrics().query(MetricsFilter().with_name("parts"))["counters"]
    assert [counter.committed for counter in parts] == [3 * len(ORDERS)]
    description = server.api.job(server.api.jobs()[0]["id"])["description"]
    in_harness = any(no in flag for no in ("no_fusion", "no_window_assignment") for flag in flags)
    for step in ("Sliding", "Sessions"):
        # A lifted combine needs its windows in the harness, or the runner assigns them.
        line = next(line for line in description["plan"].splitlines() if f'"{step}" window_into' in line)
        lifted = step == "Sliding" and not any("no_lifting" in flag for flag in flags)
        assert line.endswith("in the runner") != (in_harness or lifted), description["plan"]
    unlifted = "unless combines are lifted" in description["plan"]
    assert unlifted == (not any("experiments" in flag for flag in flags)), description["plan"]
    stages = description["stages"]
    steps = {len(stage["transforms"]) for stage in stages}
    assert (steps == {1}) == any("no_fusion" in flag for flag in flags), stages
    if "--streaming" not in flags:
        lifted = any(step.endswith("/Precombine") for stage in stages for step in stage["transforms"])
        assert lifted != any("no_lifting" in flag for flag in flags), stages
