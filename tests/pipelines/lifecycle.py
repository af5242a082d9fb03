"""A DoFn that writes down each call of its life, in a job that ends, fails, or goes on until it is stopped."""

import argparse
import os
import time
import uuid
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.periodicsequence import PeriodicImpulse


class Diary(beam.DoFn):
    def __init__(self, path: str, fail_at: int, process_seconds: float, teardown_seconds: float) -> None:
        self.path = path
        self.fail_at = fail_at
        self.process_seconds = process_seconds
        self.teardown_seconds = teardown_seconds
        self.instance = "none"

    def note(self, call: str) -> None:
        # One write of a line to a file that is opened for appending is not torn by another process's.
        with Path(self.path).open("ab", buffering=0) as log:
            log.write(f"{self.instance} {os.getpid()} {call}\n".encode())

    def setup(self) -> None:
        self.instance = uuid.uuid4().hex
        self.note("setup")

    def start_bundle(self) -> None:
        self.note("start")

    def process(self, element, finalization=beam.DoFn.BundleFinalizerParam):
        finalization.register(lambda: self.note("finalized"))
        self.note("process")
        time.sleep(self.process_seconds)
        if element == self.fail_at:
            raise ValueError(f"element {element} is not wanted")
        yield element

    def finish_bundle(self) -> None:
        self.note("finish")

    def teardown(self) -> None:
        time.sleep(self.teardown_seconds)
        self.note("teardown")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--diary", required=True)
    parser.add_argument("--forever", action="store_true")
    parser.add_argument("--fail_at", type=int, default=-1)
    parser.add_argument("--process_seconds", type=float, default=0)
    parser.add_argument("--teardown_seconds", type=float, default=0)
    args, rest = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(rest, streaming=args.forever)) as pipeline:
        if args.forever:
            numbers = pipeline | PeriodicImpulse(fire_interval=0.1) | beam.Map(lambda _: 0)
        else:
            numbers = pipeline | beam.Create(range(20)) | beam.Reshuffle()
        diary = Diary(args.diary, args.fail_at, args.process_seconds, args.teardown_seconds)
        numbers | "Diary" >> beam.ParDo(diary)


if __name__ == "__main__":
    main()
