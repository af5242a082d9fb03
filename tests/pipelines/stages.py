"""A batch job of several kinds of stages; the last one writes a file, and must not run when another is measured."""

# ruff: noqa: B008 (the SDK takes a DoFn's parameters from calls in defaults)

import sys
from pathlib import Path

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

WORDS = ["the", "beam", "rests", "on", "the", "block"]


def spell(record: dict) -> str:
    return " ".join(WORDS[: 1 + record["number"] % len(WORDS)])  # needs what is in __main__


class Running(beam.DoFn):
    TOTAL = ReadModifyWriteStateSpec("total", VarIntCoder())

    def process(self, pair, total=beam.DoFn.StateParam(TOTAL)):
        total.write((total.read() or 0) + pair[1])
        yield pair[0], total.read()


def main(argv: list[str]) -> None:
    marker, *options = argv
    with beam.Pipeline(options=PipelineOptions(options)) as pipeline:
        (
            pipeline
            | beam.Create(range(500), reshuffle=False)
            | "Record" >> beam.Map(lambda number: {"number": number})  # no type: the SDK's own coder
            | "Spread" >> beam.Reshuffle()
            | "Spell" >> beam.Map(spell).with_output_types(str)
            | "Split" >> beam.FlatMap(str.split).with_output_types(str)
            | "Pair" >> beam.Map(lambda word: (word, 1)).with_output_types(tuple[str, int])
            | "Group" >> beam.GroupByKey()
            | "Sum" >> beam.MapTuple(lambda word, ones: (word, sum(ones))).with_output_types(tuple[str, int])
            | "Run" >> beam.ParDo(Running())
            | "Spread again" >> beam.Reshuffle()
            | "Write" >> beam.Map(lambda pair: Path(marker).write_text(repr(pair)))
        )


if __name__ == "__main__":
    main(sys.argv[1:])
