"""Word count over a text file, as in Beam's own examples."""

import argparse
import re

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

WORD = r"[A-Za-z']+"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--input", required=True)
    parser.add_argument("--output", required=True)
    args, rest = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(rest)) as pipeline:
        (
            pipeline
            | "Read" >> beam.io.ReadFromText(args.input)
            | "Words" >> beam.FlatMap(lambda line: re.findall(WORD, line.lower()))
            | "Pair" >> beam.Map(lambda word: (word, 1))
            | "Count" >> beam.CombinePerKey(sum)
            | "Format" >> beam.MapTuple(lambda word, count: f"{word}: {count}")
            | "Write" >> beam.io.WriteToText(args.output)
        )


if __name__ == "__main__":
    main()
