"""Editions of a streaming pipeline with open windows, state and timers: each can go on where another has stopped."""

import argparse

import apache_beam as beam
from apache_beam.coders import StrUtf8Coder
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, CombiningValueStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import FixedWindows

END = TimerSpec("end", TimeDomain.WATERMARK)
END_PARAM = beam.DoFn.TimerParam(END)
COUNT = beam.DoFn.StateParam(CombiningValueStateSpec("count", sum))
EDITIONS = beam.DoFn.StateParam(BagStateSpec("editions", StrUtf8Coder()))


class Total(beam.DoFn):
    """Adds up in state and says at the window's end what has come, and under which editions."""

    def __init__(self, edition: str) -> None:
        self.edition = edition

    def process(
        self,
        element,
        window=beam.DoFn.WindowParam,
        count=COUNT,
        editions=EDITIONS,
        end=END_PARAM,
    ):
        count.add(element[1])
        editions.add(self.edition)
        end.set(window.max_timestamp())

    @on_timer(END)
    def close(
        self,
        key=beam.DoFn.KeyParam,
        window=beam.DoFn.WindowParam,
        count=COUNT,
        editions=EDITIONS,
    ):
        yield f"{key} {int(window.start)} {count.read()} {''.join(sorted(set(editions.read())))}"


class Grouped(beam.DoFn):
    def process(self, element, window=beam.DoFn.WindowParam):
        key, values = element
        yield f"{key} {int(window.start)} {sum(values)}"


def parse(record):
    return record[0].decode(), 1


def parse_otherwise(record):
    key, _ = record
    return str(key, "utf-8"), len(record[1])


def encode(text):
    return b"", text.encode()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--groups", required=True)
    parser.add_argument("--totals", required=True)
    parser.add_argument("--edition", default="1")
    parser.add_argument("--window_seconds", type=int, default=10)
    parser.add_argument("--totals_name", default="Totals")
    args, rest = parser.parse_known_args()
    kafka = {"bootstrap.servers": args.bootstrap}
    first = args.edition == "1"
    with beam.Pipeline(options=PipelineOptions(rest, streaming=True)) as pipeline:
        pairs = (
            pipeline
            | "Read"
            >> ReadFromKafka(
                consumer_config={**kafka, "auto.offset.reset": "earliest"},
                topics=[args.input],
                timestamp_policy=ReadFromKafka.create_time_policy,
            )
            | "Parse" >> beam.Map(parse if first else parse_otherwise).with_output_types(tuple[str, int])
        )
        if not first:
            pairs = pairs | "Clean" >> beam.Filter(lambda pair: pair[1] > 0).with_output_types(tuple[str, int])
        windowed = pairs | "Windows" >> beam.WindowInto(FixedWindows(args.window_seconds))
        groups = windowed | "Group" >> beam.GroupByKey() | "Sum" >> beam.ParDo(Grouped())
        totals = windowed | args.totals_name >> beam.ParDo(Total(args.edition))
        for name, lines, topic in (("groups", groups, args.groups), ("totals", totals, args.totals)):
            (
                lines
                | f"Encode {name}" >> beam.Map(encode).with_output_types(tuple[bytes, bytes])
                | f"Write {name}" >> WriteToKafka(producer_config=kafka, topic=topic)
            )


if __name__ == "__main__":
    main()
