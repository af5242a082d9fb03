"""A streaming pipeline that counts records of a topic until it is cancelled or drained."""

import argparse

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.window import FixedWindows


class CountRecords(beam.DoFn):
    def __init__(self) -> None:
        self.records = Metrics.counter("forever", "records")

    def process(self, record):
        self.records.inc()
        yield record[0].decode(), 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--window_seconds", type=int, default=10)
    args, rest = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(rest, streaming=True)) as pipeline:
        (
            pipeline
            | "Read"
            >> ReadFromKafka(
                consumer_config={"bootstrap.servers": args.bootstrap, "auto.offset.reset": "earliest"},
                topics=[args.input],
                timestamp_policy=ReadFromKafka.create_time_policy,
            )
            | "Records" >> beam.ParDo(CountRecords()).with_output_types(tuple[str, int])
            | "Windows" >> beam.WindowInto(FixedWindows(args.window_seconds))
            | "Count" >> beam.CombinePerKey(sum)
            | "Format"
            >> beam.MapTuple(lambda key, count: (key.encode(), str(count).encode())).with_output_types(
                tuple[bytes, bytes]
            )
            | "Write" >> WriteToKafka(producer_config={"bootstrap.servers": args.bootstrap}, topic=args.output)
        )


if __name__ == "__main__":
    main()
