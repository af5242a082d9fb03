"""A streaming pipeline that numbers the payments of each merchant, slowly while a file is there."""

import argparse
import time
from pathlib import Path

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import FixedWindows

LEAKED: list[bytes] = []


class Number(beam.DoFn):
    """Merchant and payment to merchant, payment's id, and which of the merchant's it is."""

    COUNT = beam.DoFn.StateParam(ReadModifyWriteStateSpec("count", VarIntCoder()))

    def __init__(self, slow: str, seconds: float, leak: int) -> None:
        self.slow = slow
        self.seconds = seconds
        self.leak = leak

    def process(self, payment, count=COUNT):
        if Path(self.slow).exists():
            time.sleep(self.seconds)
            LEAKED.append(b"x" * self.leak)
        merchant, number = payment
        n = (count.read() or 0) + 1
        count.write(n)
        yield merchant.encode(), f"{number.decode()} {n}".encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "input", "output", "totals", "slow_while"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seconds", type=float, default=0.02)
    parser.add_argument("--leak", type=int, default=0, help="bytes a payment, while it is slow")
    args, rest = parser.parse_known_args()
    number = Number(args.slow_while, args.seconds, args.leak)
    writing = {"producer_config": {"bootstrap.servers": args.bootstrap}}
    with beam.Pipeline(options=PipelineOptions(rest, streaming=True)) as pipeline:
        payments = (
            pipeline
            | "Read"
            >> ReadFromKafka(
                consumer_config={"bootstrap.servers": args.bootstrap, "auto.offset.reset": "earliest"},
                topics=[args.input],
                timestamp_policy=ReadFromKafka.create_time_policy,
            )
            | "Payments" >> beam.MapTuple(lambda key, value: (key.decode(), value)).with_output_types(tuple[str, bytes])
        )
        (
            payments
            | "Number" >> beam.ParDo(number).with_output_types(tuple[bytes, bytes])
            | "Write numbers" >> WriteToKafka(**writing, topic=args.output)
        )
        (
            payments
            | "Minutes" >> beam.WindowInto(FixedWindows(60))
            | "One" >> beam.MapTuple(lambda merchant, _: (merchant, 1)).with_output_types(tuple[str, int])
            | "Sum" >> beam.CombinePerKey(sum)
            | "Format"
            >> beam.MapTuple(lambda m, n: (m.encode(), str(n).encode())).with_output_types(tuple[bytes, bytes])
            | "Write totals" >> WriteToKafka(**writing, topic=args.totals)
        )


if __name__ == "__main__":
    main()
