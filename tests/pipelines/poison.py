"""A pipeline of numbers with one that user code cannot take, in a way of choice."""

import argparse
import os
import resource
import signal
import sys
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import CombiningValueStateSpec

POISON = 5


def once(mark: Path) -> bool:
    """Says whether this is the first call with the mark, in any process."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def disturb(how: str, marks: Path, number: int) -> None:
    """Does to a number what was asked for."""
    if how == "flaky":
        if number % 7 == 0 and once(marks / f"flaky-{number}"):
            raise ConnectionError(f"no answer about {number}")
        return
    if number != POISON or (marks / "antidote").exists():
        return
    with (marks / "tries").open("a") as tries:
        tries.write(f"{os.getpid()}\n")
    if how == "raise":
        raise ValueError(f"{number} brings bad luck")
    if how == "exit":
        print("the harness says farewell", file=sys.stderr, flush=True)
        os._exit(7)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "memory":
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        bytearray(8 << 30)


class Disturb(beam.DoFn):
    def __init__(self, how: str, marks: Path):
        self.how, self.marks = how, marks

    def setup(self):
        if self.how == "setup":
            raise ConnectionError("no database in setup")

    def process(self, pair):
        key, number = pair
        disturb(self.how, self.marks, number)
        (self.marks / f"done-{number}").touch()
        yield key, number


SEEN = beam.DoFn.StateParam(CombiningValueStateSpec("seen", sum))


class Count(beam.DoFn):
    """Counts the values of a key in state, and fails once in the middle, after it has written."""

    def __init__(self, marks: Path):
        self.marks = marks

    def process(self, pair, seen=SEEN):
        key, number = pair
        seen.add(1)
        if number == 31 and once(self.marks / "state"):
            raise ConnectionError("no luck with 31")
        yield f"{key} {number} {seen.read()}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--how", required=True)
    parser.add_argument("--marks", required=True, type=Path)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--keys", type=int, default=4)
    known, flags = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(flags)) as pipeline:
        counted = (
            pipeline
            | beam.Create([(f"k{n % known.keys}", n) for n in range(known.count)])
            | "Take the numbers" >> beam.ParDo(Disturb(known.how, known.marks))
            | "Count them" >> beam.ParDo(Count(known.marks))
        )
        counted | beam.Map(lambda text: (known.marks / ("out " + text)).touch())


if __name__ == "__main__":
    main()
