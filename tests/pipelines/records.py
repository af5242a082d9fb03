"""Copies records as rows: reads the metadata of a topic's records, writes a header that names where each came from."""

import argparse
import typing

import apache_beam as beam
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.options.pipeline_options import PipelineOptions


class Header(typing.NamedTuple):
    key: str
    value: bytes


class Record(typing.NamedTuple):
    key: bytes
    value: bytes
    headers: list[Header]


beam.coders.registry.register_coder(Header, beam.coders.RowCoder)
beam.coders.registry.register_coder(Record, beam.coders.RowCoder)


def copy(record) -> Record:
    origin = f"{record.topic}/{record.partition}/{record.offset}/{record.timestamp}".encode()
    return Record(record.key, record.value.upper(), [Header("origin", origin)])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--records", type=int, required=True)
    args, rest = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(rest)) as pipeline:
        (
            pipeline
            | "Read"
            >> ReadFromKafka(
                consumer_config={"bootstrap.servers": args.bootstrap, "auto.offset.reset": "earliest"},
                topics=[args.input],
                with_metadata=True,
                max_num_records=args.records,
            )
            | "Copy" >> beam.Map(copy).with_output_types(Record)
            | "Write"
            >> WriteToKafka(producer_config={"bootstrap.servers": args.bootstrap}, topic=args.output, with_headers=True)
        )


if __name__ == "__main__":
    main()
