"""A pipeline whose user code waits for files: `setup` in DoFn.setup, `element` in the processing of an element."""

import argparse
import os
import time
from pathlib import Path

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


class Wait(beam.DoFn):
    def __init__(self, gates: str) -> None:
        self.gates = gates

    def wait_for(self, name: str) -> None:
        gate = Path(self.gates)
        (gate / f"{name}.pid").write_text(str(os.getpid()))
        while not (gate / name).exists():
            time.sleep(0.02)

    def setup(self) -> None:
        self.wait_for("setup")

    def process(self, element: int):
        self.wait_for("element")
        yield element


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--gates", required=True)
    arguments, rest = parser.parse_known_args()
    with beam.Pipeline(options=PipelineOptions(rest)) as pipeline:
        _ = pipeline | "Numbers" >> beam.Create([1, 2, 3]) | "Wait for it" >> beam.ParDo(Wait(arguments.gates))
