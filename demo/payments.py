"""Totals of large UPI payments per merchant and window, from one Kafka topic to another.

A plain Apache Beam pipeline: payments come as JSON records such as

    {"payment_id": "p-17", "merchant": "m-03", "method": "upi", "amount": 250000, "event_time_ms": 1790000000000}

with the amount in paise. Payments by UPI of 1,000 rupees or more are summed per merchant in fixed windows of event
time. A window shows early totals while it is open, one total when the watermark passes its end, and a corrected total
for every payment that comes late but within the allowed lateness. Every record written carries the window's start and
the pane's index and timing, so that a reader can tell a preliminary total from a later one.

About the watermark. The windows follow the event time in the payload, so the watermark must follow it, too.
`create_time_policy` takes it from the timestamps of the Kafka records, which the producer sets to the time of the
payment. Under the default policy, `processing_time_policy`, the watermark is about the time of reading: a backlog that
is read an hour after the payments were made is an hour late from its first record on, every window that ended longer
than the allowed lateness ago is closed already, and those payments are dropped without ever reaching a total.

Usage: python payments.py --bootstrap localhost:9092 --input payments --output totals [Beam's own options]
"""

import argparse
import json
import logging
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfoTiming


class ParsePayment(beam.DoFn):
    """Turns the value of a record into a payment and counts what is none.

    (key, value) -> dict; records that are not a complete payment, or have no value at all, are left out.
    """

    def __init__(self) -> None:
        self.malformed = Metrics.counter("payments", "malformed")

    def process(self, record: tuple[bytes | None, bytes | None]) -> Iterable[dict]:
        try:
            fields = json.loads(record[1])
            payment = {
                "merchant": str(fields["merchant"]),
                "method": str(fields["method"]),
                "amount": int(fields["amount"]),
                "event_time_ms": int(fields["event_time_ms"]),
            }
        except (ValueError, TypeError, KeyError):
            self.malformed.inc()
            return
        yield payment


class FormatTotal(beam.DoFn):
    """Writes a total as JSON, with the window and the pane that it belongs to."""

    def process(
        self, total: tuple[str, int], window=beam.DoFn.WindowParam, pane=beam.DoFn.PaneInfoParam
    ) -> Iterable[tuple[bytes, bytes]]:
        merchant, amount = total
        record = {
            "merchant": merchant,
            "window_start_ms": window.start.micros // 1000,
            "total": amount,
            "pane": pane.index,
            "timing": PaneInfoTiming.to_string(pane.timing),
            "last": pane.is_last,
        }
        yield merchant.encode(), json.dumps(record, separators=(",", ":")).encode()


def parse_args(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bootstrap", required=True, help="host:port of a Kafka broker")
    parser.add_argument("--input", default="payments", help="topic of payments")
    parser.add_argument("--output", default="totals", help="topic of totals")
    parser.add_argument("--window-seconds", type=int, default=300)
    parser.add_argument("--early-seconds", type=int, default=30, help="delay of early totals, in processing time")
    parser.add_argument(
        "--lateness-seconds", type=int, default=600, help="how long a closed window takes late payments"
    )
    parser.add_argument("--min-paise", type=int, default=100_000)
    parser.add_argument(
        "--no-late-totals",
        dest="late_totals",
        action="store_false",
        help="the total at the end of the window is final; Beam then asks for --allow_unsafe_triggers",
    )
    return parser.parse_known_args(argv)


def totals(
    records: beam.PCollection[tuple[bytes | None, bytes | None]], args: argparse.Namespace
) -> beam.PCollection[tuple[bytes, bytes]]:
    """The body of the pipeline: records of payments in, records of totals out."""
    return (
        records
        | "Parse" >> beam.ParDo(ParsePayment())
        | "Large UPI payments" >> beam.Filter(lambda p: p["method"] == "upi" and p["amount"] >= args.min_paise)
        | "Event time" >> beam.Map(lambda p: TimestampedValue(p, Timestamp(micros=p["event_time_ms"] * 1000)))
        | "By merchant" >> beam.Map(lambda p: (p["merchant"], p["amount"])).with_output_types(tuple[str, int])
        | "Windows"
        >> beam.WindowInto(
            FixedWindows(args.window_seconds),
            trigger=AfterWatermark(
                early=AfterProcessingTime(args.early_seconds),
                late=AfterCount(1) if args.late_totals else None,
            ),
            accumulation_mode=AccumulationMode.ACCUMULATING,
            allowed_lateness=args.lateness_seconds,
        )
        | "Total per merchant" >> beam.CombinePerKey(sum)
        | "Format" >> beam.ParDo(FormatTotal()).with_output_types(tuple[bytes, bytes])
    )


def main(argv: list[str] | None = None) -> None:
    args, beam_args = parse_args(argv)
    with beam.Pipeline(options=PipelineOptions(beam_args, streaming=True)) as pipeline:
        records = pipeline | "Read payments" >> ReadFromKafka(
            consumer_config={"bootstrap.servers": args.bootstrap, "auto.offset.reset": "earliest"},
            topics=[args.input],
            timestamp_policy=ReadFromKafka.create_time_policy,
        )
        totals(records, args) | "Write totals" >> WriteToKafka(
            producer_config={"bootstrap.servers": args.bootstrap}, topic=args.output
        )


if __name__ == "__main__":
    logging.getLogger().setLevel(logging.WARNING)
    main()
