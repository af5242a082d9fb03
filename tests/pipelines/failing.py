"""A pipeline whose user code raises."""

import sys

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions


def check_amount(amount: int) -> int:
    if amount > 2:
        raise ValueError(f"amount {amount} is out of bounds")
    return amount


def main() -> None:
    with beam.Pipeline(options=PipelineOptions(sys.argv[1:])) as pipeline:
        pipeline | beam.Create([1, 2, 3]) | "Check the amounts" >> beam.Map(check_amount)


if __name__ == "__main__":
    main()
