"""Elements behind a Reshuffle that wait for something. A diary has a + when one begins, a - when it ends."""

import argparse
import os
import time
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


class Waiting(beam.DoFn):
    """Waits so many milliseconds for each element."""

    def __init__(self, diary: str, millis: float) -> None:
        self.diary, self.seconds = diary, millis / 1000

    def setup(self) -> None:
        self.file = os.open(self.diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def teardown(self) -> None:
        os.close(self.file)

    def process(self, element: int) -> Iterable[int]:
        os.write(self.file, b"+")
        time.sleep(self.seconds)
        os.write(self.file, b"-")
        yield element


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--diary", required=True)
    parser.add_argument("--elements", type=int, default=200)
    parser.add_argument("--millis", type=float, default=20)
    args, rest = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(rest, save_main_session=True)) as p:
        waited = (
            p
            | beam.Create(range(args.elements), reshuffle=False)
            | beam.Reshuffle()
            | beam.ParDo(Waiting(args.diary, args.millis))
        )
        waited | beam.combiners.Count.Globally() | beam.Map(lambda n: print("elements:", n, flush=True))


if __name__ == "__main__":
    main()
