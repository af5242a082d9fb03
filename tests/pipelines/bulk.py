"""Numbers, each with many bytes, grouped and counted: a job that takes its time and its room."""

import argparse
import os
import time
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--elements", type=int, required=True)
    parser.add_argument("--bytes", type=int, default=10, help="of each element, incompressible")
    parser.add_argument("--gate", type=Path, required=True, help="a file that elements wait for, after the first ten")
    parser.add_argument("--pids", required=True, help="a file that gets the process id of each worker")
    parser.add_argument("--output", required=True)
    args, rest = parser.parse_known_args()

    def inflate(number: int) -> tuple[int, bytes]:
        with Path(args.pids).open("a") as pids:
            pids.write(f"{os.getpid()}\n")
            far = pids.tell() > 10 * len(f"{os.getpid()}\n")
        while far and not args.gate.exists():
            time.sleep(0.02)
        return number % 10, number.to_bytes(8, "big") + os.urandom(args.bytes)

    def numbers(_: int, values) -> list[str]:
        return [str(int.from_bytes(value[:8], "big")) for value in values]

    with beam.Pipeline(options=PipelineOptions(rest, save_main_session=False)) as p:
        (
            p
            | beam.Create(range(args.elements))
            | beam.Reshuffle()
            | beam.Map(inflate)
            | beam.GroupByKey()
            | beam.FlatMapTuple(numbers)
            | beam.io.WriteToText(args.output, num_shards=1)
        )


if __name__ == "__main__":
    main()
