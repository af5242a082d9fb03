"""The main job with sequences in its output: payments per merchant and window, with the number of every payment.

A plain Beam pipeline, like demo/payments.py, whose input it reads. What it writes lists the payments behind each total,
so that a reader can tell which one is missing or was counted twice. Every result is written as two records, a head and
a seal with the head's checksum, under keys that put them into different partitions: they belong to one bundle, so one
without the other is a torn transaction. --variant says what the output depends on:

    event-time       one pane a window, when the watermark passes its end: input and event time alone
    processing-time  early and late panes that accumulate: processing time decides which panes there are
    discarding       the same, each payment in one pane
    late             the same as processing-time; the producer makes payments late that still count
    sessions         the same as event-time; windows are sessions, which payments out of order keep merging
    stateful         payments numbered per merchant in user state, and counted per window, told by an event-time timer
    timers           payments that wait in user state for a timer in processing time, and the rest for one in event time
"""

# ruff: noqa: B008 (the parameters of DoFns are made so)

import argparse
import json
import logging
import time
import zlib
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.coders import BooleanCoder, TupleCoder, VarIntCoder
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows, Sessions
from apache_beam.utils.windowed_value import PaneInfoTiming

SEAL = "~seal"  # behind the merchant in the key of a seal

Payment = tuple[int, int]  # (number, paise)
Total = tuple[int, list[int]]  # (paise, numbers)
Written = tuple[bytes, bytes]


def parse(record: tuple[bytes | None, bytes | None]) -> tuple[str, Payment]:
    payment = json.loads(record[1])
    return payment["merchant"], (payment["seq"], payment["amount"])


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in short, such as "1-4,7"; one that occurs twice stands there twice."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def sealed(fields: dict) -> Iterable[Written]:
    """The two records of one result."""
    head = json.dumps(fields, separators=(",", ":")).encode()
    seal = {**fields, "sum": zlib.crc32(head)}
    seal.pop("seqs", None)
    yield fields["merchant"].encode(), head
    yield (fields["merchant"] + SEAL).encode(), json.dumps(seal, separators=(",", ":")).encode()


def pane_fields(merchant: str, window, number: int, timing: str, paise: int, seqs: Iterable[int]) -> dict:
    start = window.start.micros // 1000
    fields = {"kind": "pane", "merchant": merchant, "window": start, "pane": number, "timing": timing}
    return {**fields, "total": paise, "seqs": ranges(seqs)}


class Sequences(beam.CombineFn):
    """Payments -> their total and their numbers."""

    def create_accumulator(self) -> Total:
        return 0, []

    def add_input(self, accumulator: Total, payment: Payment) -> Total:
        accumulator[1].append(payment[0])
        return accumulator[0] + payment[1], accumulator[1]

    def merge_accumulators(self, accumulators: Iterable[Total]) -> Total:
        paise, numbers = 0, []
        for some_paise, some in accumulators:
            paise += some_paise
            numbers += some
        return paise, numbers

    def extract_output(self, accumulator: Total) -> Total:
        return accumulator


class FormatPane(beam.DoFn):
    def process(
        self, total: tuple[str, Total], window=beam.DoFn.WindowParam, pane=beam.DoFn.PaneInfoParam
    ) -> Iterable[Written]:
        merchant, (paise, numbers) = total
        timing = PaneInfoTiming.to_string(pane.timing)
        yield from sealed(pane_fields(merchant, window, pane.index, timing, paise, numbers))


class Number(beam.DoFn):
    """Numbers a merchant's payments as they come; state in the global window, for as long as the job lives."""

    COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())

    def process(self, element: tuple[str, Payment], count=beam.DoFn.StateParam(COUNT)) -> Iterable[Written]:
        merchant, (seq, paise) = element
        number = (count.read() or 0) + 1
        count.write(number)
        yield from sealed({"kind": "number", "merchant": merchant, "n": number, "seq": seq, "total": paise})


class CountInWindow(beam.DoFn):
    """Counts a merchant's payments in a window and tells the count at its end."""

    COUNT = ReadModifyWriteStateSpec("count", VarIntCoder())
    PAISE = BagStateSpec("paise", VarIntCoder())
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, Payment],
        window=beam.DoFn.WindowParam,
        count=beam.DoFn.StateParam(COUNT),
        paise=beam.DoFn.StateParam(PAISE),
        end=beam.DoFn.TimerParam(END),
    ) -> Iterable[Written]:
        count.write((count.read() or 0) + 1)
        paise.add(element[1][1])
        end.set(window.end)
        return []

    @on_timer(END)
    def tell(
        self,
        merchant=beam.DoFn.KeyParam,
        window=beam.DoFn.WindowParam,
        count=beam.DoFn.StateParam(COUNT),
        paise=beam.DoFn.StateParam(PAISE),
    ) -> Iterable[Written]:
        counted, total = count.read(), sum(paise.read())
        count.clear()
        paise.clear()
        start = window.start.micros // 1000
        yield from sealed({"kind": "count", "merchant": merchant, "window": start, "count": counted, "total": total})


class Batches(beam.DoFn):
    """Writes a merchant's payments in a window in batches: what has come half a second after the first of them, and the
    rest at the window's end. They are numbered as panes, each payment is in one.
    """

    WAIT_SECONDS = 0.5

    WAITING = BagStateSpec("waiting", TupleCoder((VarIntCoder(), VarIntCoder())))
    ARMED = ReadModifyWriteStateSpec("armed", BooleanCoder())
    WRITTEN = ReadModifyWriteStateSpec("written", VarIntCoder())
    SOON = TimerSpec("soon", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)

    def process(
        self,
        element: tuple[str, Payment],
        window=beam.DoFn.WindowParam,
        waiting=beam.DoFn.StateParam(WAITING),
        armed=beam.DoFn.StateParam(ARMED),
        soon=beam.DoFn.TimerParam(SOON),
        end=beam.DoFn.TimerParam(END),
    ) -> Iterable[Written]:
        waiting.add(element[1])
        if not armed.read():
            armed.write(True)
            soon.set(time.time() + self.WAIT_SECONDS)
        end.set(window.end)
        return []

    @on_timer(SOON)
    def write_batch(
        self,
        merchant=beam.DoFn.KeyParam,
        window=beam.DoFn.WindowParam,
        waiting=beam.DoFn.StateParam(WAITING),
        armed=beam.DoFn.StateParam(ARMED),
        written=beam.DoFn.StateParam(WRITTEN),
    ) -> Iterable[Written]:
        armed.clear()
        return self._batch(merchant, window, waiting, written, "EARLY")

    @on_timer(END)
    def write_rest(
        self,
        merchant=beam.DoFn.KeyParam,
        window=beam.DoFn.WindowParam,
        waiting=beam.DoFn.StateParam(WAITING),
        armed=beam.DoFn.StateParam(ARMED),
        written=beam.DoFn.StateParam(WRITTEN),
        soon=beam.DoFn.TimerParam(SOON),
    ) -> Iterable[Written]:
        soon.clear()
        armed.clear()
        return self._batch(merchant, window, waiting, written, "ON_TIME")

    def _batch(self, merchant, window, waiting, written, timing: str) -> list[Written]:
        payments, number = list(waiting.read()), written.read() or 0
        waiting.clear()
        written.write(number + 1)
        total, seqs = sum(paise for _, paise in payments), [seq for seq, _ in payments]
        return list(sealed(pane_fields(merchant, window, number, timing, total, seqs)))


def windows(args: argparse.Namespace) -> beam.WindowInto:
    if args.variant in ("event-time", "stateful", "timers"):
        return beam.WindowInto(FixedWindows(args.window_seconds))
    if args.variant == "sessions":
        return beam.WindowInto(Sessions(args.gap_ms / 1000))
    discarding = args.variant == "discarding"
    return beam.WindowInto(
        FixedWindows(args.window_seconds),
        trigger=AfterWatermark(early=AfterProcessingTime(args.early_seconds), late=AfterCount(1)),
        accumulation_mode=AccumulationMode.DISCARDING if discarding else AccumulationMode.ACCUMULATING,
        allowed_lateness=args.lateness_seconds,
    )


def results(payments: beam.PCollection, args: argparse.Namespace) -> beam.PCollection[Written]:
    if args.variant == "timers":
        windowed = payments | "Windows" >> windows(args)
        return windowed | "Batches" >> beam.ParDo(Batches()).with_output_types(Written)
    if args.variant != "stateful":
        totals = payments | "Windows" >> windows(args) | "Sequences per merchant" >> beam.CombinePerKey(Sequences())
        return totals | "Format" >> beam.ParDo(FormatPane()).with_output_types(Written)
    numbered = payments | "Number" >> beam.ParDo(Number()).with_output_types(Written)
    counted = (
        payments
        | "Windows" >> windows(args)
        | "Count in window" >> beam.ParDo(CountInWindow()).with_output_types(Written)
    )
    return (numbered, counted | "All time" >> beam.WindowInto(beam.window.GlobalWindows())) | beam.Flatten()


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="broker of the input")
    parser.add_argument("--output_bootstrap", default="", help="broker of the output (default: that of the input)")
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--group", required=True, help="consumer group that shows how far the input is read")
    parser.add_argument("--variant", required=True)
    parser.add_argument("--window_seconds", type=int, required=True)
    parser.add_argument("--early_seconds", type=int, default=1)
    parser.add_argument("--lateness_seconds", type=int, default=0)
    parser.add_argument("--gap_ms", type=int, default=0, help="between sessions")
    parser.add_argument("--max_delay_ms", type=int, default=0, help="how far out of order a partition is")
    return parser.parse_known_args(argv)


def main(argv: list[str] | None = None) -> None:
    args, beam_args = parse_args(argv)
    with beam.Pipeline(options=PipelineOptions(beam_args, streaming=True)) as pipeline:
        records = pipeline | "Read payments" >> ReadFromKafka(
            consumer_config={
                "bootstrap.servers": args.bootstrap,
                "auto.offset.reset": "earliest",
                "group.id": args.group,
                "padstone.max.delay.ms": str(args.max_delay_ms),
                # No partition is ever idle: the watermark waits for all of them, however long an outage takes.
                "padstone.idle.after.ms": "3600000",
            },
            topics=[args.input],
            commit_offset_in_finalize=True,
            timestamp_policy=ReadFromKafka.create_time_policy,
        )
        payments = records | "Parse" >> beam.Map(parse).with_output_types(tuple[str, Payment])
        results(payments, args) | "Write results" >> WriteToKafka(
            producer_config={"bootstrap.servers": args.output_bootstrap or args.bootstrap}, topic=args.output
        )


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)
    main()
