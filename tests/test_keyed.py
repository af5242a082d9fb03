"""State of every kind, timers and time-sorted input, by DoFns of the Python SDK."""

# ruff: noqa: B008 (the parameters of DoFns are made so)

import random

import apache_beam as beam
from apache_beam.coders import BytesCoder, PickleCoder, StrUtf8Coder, VarIntCoder
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import userstate
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from conftest import portable_options

KEYS = "abc"
PAIRS = tuple[str, int]


class EveryKind(beam.DoFn):
    """Reads back what it writes, within a bundle and over bundles, and clears."""

    VALUE = userstate.ReadModifyWriteStateSpec("value", StrUtf8Coder())
    BAG = userstate.BagStateSpec("bag", PickleCoder())
    SET = userstate.SetStateSpec("set", VarIntCoder())
    SUM = userstate.CombiningValueStateSpec("sum", PickleCoder(), sum)
    LIST = userstate.OrderedListStateSpec("list", StrUtf8Coder())

    def process(
        self,
        element,
        value=beam.DoFn.StateParam(VALUE),
        bag=beam.DoFn.StateParam(BAG),
        distinct=beam.DoFn.StateParam(SET),
        total=beam.DoFn.StateParam(SUM),
        ordered=beam.DoFn.StateParam(LIST),
    ):
        key, n = element
        assert (value.read() or "") == "".join(str(i) for i in bag.read()), "value and bag differ"
        value.write((value.read() or "") + str(n))
        bag.add(n)
        distinct.add(n % 3)
        total.add(n)
        ordered.add((Timestamp(-n), f"{key}{n}"))
        seen = len(list(bag.read()))
        if seen == 5:
            ordered.clear_range(Timestamp(-2), Timestamp(0))
        if seen == 10:
            early = [text for _, text in ordered.read_range(Timestamp(-9), Timestamp(-6))]
            yield (key, value.read(), sorted(bag.read()), sorted(distinct.read()), total.read(), early)
            for cell in (value, bag, distinct, total, ordered):
                cell.clear()
            left = (value.read(), list(bag.read()), list(distinct.read()), total.read(), list(ordered.read()))
            assert left == (None, [], [], 0, []), left


def test_every_kind_of_state(server):
    """Twice ten elements a key and window: the second ten find everything cleared; another window has its own."""
    with beam.Pipeline(options=portable_options(server, "--max_bundle_size=7")) as pipeline:
        elements = [TimestampedValue((key, n % 10), n // 20 * 100) for n in range(40) for key in KEYS]
        found = (
            pipeline
            | beam.Create(elements, reshuffle=False).with_output_types(PAIRS)  # reshuffled they would lose their order
            | beam.WindowInto(FixedWindows(100))
            | "First" >> beam.ParDo(EveryKind())
        )
        digits = "0123456789"
        expected = [
            (key, digits, list(range(10)), [0, 1, 2], 45, [f"{key}{n}" for n in (9, 8, 7)])
            for key in KEYS
            for _ in range(4)
        ]
        assert_that(found, equal_to(expected))


class Hoard(beam.DoFn):
    """Keeps large values in cells whose elements the runner can frame, and in such as it cannot."""

    FRAMED = userstate.BagStateSpec("framed", BytesCoder())
    UNFRAMED = userstate.BagStateSpec("unframed", PickleCoder())

    def process(self, element, framed=beam.DoFn.StateParam(FRAMED), unframed=beam.DoFn.StateParam(UNFRAMED)):
        key, n = element
        framed.add(bytes([n]) * 400_000)
        unframed.add(bytes([n]) * 400_000)
        sizes = [(len(list(bag.read())), sum(len(value) for value in bag.read())) for bag in (framed, unframed)]
        if n == 29:
            yield key, sizes


def test_state_of_many_pages(server):
    with beam.Pipeline(options=portable_options(server, "--max_bundle_size=4")) as pipeline:
        hoard = beam.Create([("k", n) for n in range(30)], reshuffle=False).with_output_types(PAIRS) | beam.ParDo(
            Hoard()
        )
        found = pipeline | hoard | beam.MapTuple(lambda key, sizes: (key, tuple(sizes)))
        assert_that(
            found | beam.MapTuple(lambda key, sizes: (key, tuple(sizes))), equal_to([("k", ((30, 12_000_000),) * 2)])
        )


class Loop(beam.DoFn):
    """A timer that ticks every second up to a last one, which tells what has ticked."""

    TICK = userstate.TimerSpec("tick", TimeDomain.WATERMARK)
    LAST = userstate.TimerSpec("last", TimeDomain.WATERMARK)
    TAGGED = userstate.TimerSpec("tagged", TimeDomain.WATERMARK)
    LOG = userstate.BagStateSpec("log", StrUtf8Coder())

    def process(
        self,
        element,
        tick=beam.DoFn.TimerParam(TICK),
        last=beam.DoFn.TimerParam(LAST),
        tagged=beam.DoFn.TimerParam(TAGGED),
    ):
        tick.set(Timestamp(1))
        last.set(Timestamp(10))
        tagged.set(Timestamp(2.5), dynamic_timer_tag="cleared")
        tagged.set(Timestamp(3.5), dynamic_timer_tag="kept")
        tagged.set(Timestamp(7.5), dynamic_timer_tag="moved")

    @userstate.on_timer(TICK)
    def on_tick(
        self,
        at=beam.DoFn.TimestampParam,
        tick=beam.DoFn.TimerParam(TICK),
        tagged=beam.DoFn.TimerParam(TAGGED),
        log=beam.DoFn.StateParam(LOG),
    ):
        log.add(str(at.micros // 1_000_000))
        tick.set(at + 1)
        if at == Timestamp(2):
            tagged.clear(dynamic_timer_tag="cleared")
            tagged.set(Timestamp(4.5), dynamic_timer_tag="moved")

    @userstate.on_timer(TAGGED)
    def on_tagged(self, tag=beam.DoFn.DynamicTimerTagParam, log=beam.DoFn.StateParam(LOG)):
        log.add(tag)

    @userstate.on_timer(LAST)
    def on_last(self, key=beam.DoFn.KeyParam, tick=beam.DoFn.TimerParam(TICK), log=beam.DoFn.StateParam(LOG)):
        tick.clear()
        yield key, " ".join(log.read())


def test_timers_fire_in_the_order_of_event_time(server):
    with beam.Pipeline(options=portable_options(server)) as pipeline:
        elements = beam.Create([TimestampedValue((key, 1), 0) for key in KEYS]).with_output_types(PAIRS)
        found = pipeline | elements | beam.ParDo(Loop())
        # 10 and the last timer are due at the same time: either may be first.
        logs = found | beam.MapTuple(lambda key, log: (key, log.removesuffix(" 10")))
        assert_that(logs, equal_to([(key, "1 2 3 kept 4 moved 5 6 7 8 9") for key in KEYS]))


class TimeSorted(beam.ParDo):
    """The SDK has no way to say it, but the model has."""

    def to_runner_api_parameter(self, context, **kwargs):
        urn, payload = super().to_runner_api_parameter(context, **kwargs)
        assert isinstance(payload, beam_runner_api_pb2.ParDoPayload)
        payload.requires_time_sorted_input = True
        context.add_requirement(common_urns.requirements.REQUIRES_TIME_SORTED_INPUT.urn)
        return urn, payload


class Gaps(beam.DoFn):
    """Emits what is between an element's time and the one before, and what has come before a timer a little later."""

    BEFORE = userstate.ReadModifyWriteStateSpec("before", VarIntCoder())
    SOON = userstate.TimerSpec("soon", TimeDomain.WATERMARK)

    def process(
        self,
        element,
        at=beam.DoFn.TimestampParam,
        before=beam.DoFn.StateParam(BEFORE),
        soon=beam.DoFn.TimerParam(SOON),
    ):
        now = at.micros // 1_000_000
        if before.read() is not None:
            yield "gap", now - before.read()
        before.write(now)
        if now == 500:
            soon.set(at + 0.5)

    @userstate.on_timer(SOON)
    def on_soon(self, before=beam.DoFn.StateParam(BEFORE)):
        yield "timer", before.read()


def test_time_sorted_input(server):
    times = list(range(1000))
    random.Random(1).shuffle(times)
    with beam.Pipeline(options=portable_options(server, "--max_bundle_size=300")) as pipeline:
        found = (
            pipeline
            | beam.Create([TimestampedValue((key, time), time) for time in times for key in KEYS]).with_output_types(
                PAIRS
            )
            | "Gaps" >> TimeSorted(Gaps())
        )
        assert_that(found | beam.combiners.Count.PerElement(), equal_to([(("gap", 1), 999 * 3), (("timer", 500), 3)]))
