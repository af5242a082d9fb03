"""One element with a bounded restriction that waits until another process has a part of it: it must be split."""

# ruff: noqa: B008 (the SDK takes a DoFn's parameters from calls in defaults)

import argparse
import os
import sys
import time
from pathlib import Path

import apache_beam as beam
from apache_beam.io.restriction_trackers import OffsetRange, OffsetRestrictionTracker
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions
from apache_beam.transforms.core import RestrictionProvider


class Whole(RestrictionProvider):
    """The offsets of an element, in one restriction."""

    def initial_restriction(self, element):
        return OffsetRange(0, element)

    def create_tracker(self, restriction):
        return OffsetRestrictionTracker(restriction)

    def restriction_size(self, element, restriction):
        return restriction.size()


class Slow(beam.DoFn):
    def process(self, _, folder, tracker=beam.DoFn.RestrictionParam(Whole())):
        start = offset = tracker.current_restriction().start
        while tracker.try_claim(offset):
            (Path(folder) / f"{os.getpid()}.pid").touch()
            while offset - start > 5 and len(list(Path(folder).glob("*.pid"))) < 2:
                time.sleep(0.02)
            yield f"{offset} {os.getpid()}"
            offset += 1


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parser.add_argument("--offsets", type=int, required=True)
    args, rest = parser.parse_known_args(argv)
    options = PipelineOptions(rest)
    options.view_as(SetupOptions).save_main_session = True
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "Element" >> beam.Create([args.offsets])
            | "Slow" >> beam.ParDo(Slow(), str(Path(args.output).parent))
            | "Write" >> beam.io.WriteToText(args.output)
        )


if __name__ == "__main__":
    main(sys.argv[1:])
