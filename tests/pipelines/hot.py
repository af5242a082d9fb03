"""One element with a bounded restriction that takes long: nothing goes fast unless it is split while it runs."""

# ruff: noqa: B008 (the SDK takes a DoFn's parameters from calls in defaults)

import argparse
import os
import sys
import time

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
    def process(self, _, pause, tracker=beam.DoFn.RestrictionParam(Whole())):
        offset = tracker.current_restriction().start
        while tracker.try_claim(offset):
            time.sleep(pause)
            yield f"{offset} {os.getpid()}"
            offset += 1


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", required=True)
    parser.add_argument("--offsets", type=int, required=True)
    parser.add_argument("--pause", type=float, required=True)
    args, rest = parser.parse_known_args(argv)
    options = PipelineOptions(rest)
    options.view_as(SetupOptions).save_main_session = True
    with beam.Pipeline(options=options) as pipeline:
        _ = (
            pipeline
            | "Element" >> beam.Create([args.offsets])
            | "Slow" >> beam.ParDo(Slow(), args.pause)
            | "Write" >> beam.io.WriteToText(args.output)
        )


if __name__ == "__main__":
    main(sys.argv[1:])
