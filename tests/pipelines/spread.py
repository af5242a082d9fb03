"""Elements that are slow until a file is there. Each process that has one leaves a file of its id."""

import argparse
import os
import time
from collections.abc import Iterable
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


class Slow(beam.DoFn):
    def __init__(self, folder: str) -> None:
        self.folder = folder

    def setup(self) -> None:
        self.quick = Path(self.folder) / "quick"

    def process(self, element: int) -> Iterable[str]:
        (Path(self.folder) / f"{os.getpid()}.pid").touch()
        if not self.quick.exists():
            time.sleep(0.05)
        yield str(element)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--elements", type=int, required=True)
    args, rest = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(rest)) as p:
        (
            p
            | beam.Create(range(args.elements), reshuffle=False)
            | beam.Reshuffle()
            | "Slow" >> beam.ParDo(Slow(args.folder))
            | beam.io.WriteToText(f"{args.folder}/out")
        )


if __name__ == "__main__":
    main()
