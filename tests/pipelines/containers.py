"""A batch job for harnesses in containers: it says where and when it runs, or eats more memory than it is given."""

import argparse
import logging
import socket
import time

import apache_beam as beam
from apache_beam.metrics import Metrics, MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions


def tell(number: int) -> int:
    Metrics.distribution("containers", "millis").update(int(time.time() * 1000))
    logging.warning("element %d on %s", number, socket.gethostname())
    return number


def eat(number: int, mebibytes: int) -> int:
    return number + len(bytearray(b"x") * (mebibytes << 20))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--eat", type=int, default=0, help="MiB")
    args, rest = parser.parse_known_args()
    pipeline = beam.Pipeline(options=PipelineOptions(rest))
    _ = pipeline | beam.Create([7]) | "Tell where" >> beam.Map(tell) | "Eat memory" >> beam.Map(eat, args.eat)
    result = pipeline.run()
    result.wait_until_finish()
    (millis,) = result.metrics().query(MetricsFilter().with_name("millis"))["distributions"]
    print(f"first element at {millis.committed.min}")


if __name__ == "__main__":
    main()
