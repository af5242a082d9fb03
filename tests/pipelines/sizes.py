"""Counts the elements of each bundle: behind a Reshuffle, with state, and of groups."""

import sys

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec

ELEMENTS, KEYS = 2000, 90


class Size(beam.DoFn):
    """Passes nothing on; its distribution is of the sizes of bundles."""

    def __init__(self, name):
        self.size = Metrics.distribution("sizes", name)

    def start_bundle(self):
        self.count = 0

    def process(self, element):
        self.count += 1

    def finish_bundle(self):
        if self.count:
            self.size.update(self.count)


class SizeWithState(Size):
    SEEN = ReadModifyWriteStateSpec("seen", VarIntCoder())

    def process(self, element, seen=beam.DoFn.StateParam(SEEN)):  # noqa: B008
        seen.write((seen.read() or 0) + 1)
        self.count += 1


def run(arguments):
    pipeline = beam.Pipeline(options=PipelineOptions(arguments, save_main_session=True))
    numbers = pipeline | beam.Create(range(10)) | beam.FlatMap(lambda n: range(n, ELEMENTS, 10)).with_output_types(int)
    numbers | beam.Reshuffle() | "shuffled" >> beam.ParDo(Size("shuffled"))
    two = numbers | "by two" >> beam.Map(lambda n: (n % 2, n)).with_output_types(tuple[int, int])
    two | "stateful" >> beam.ParDo(SizeWithState("stateful"))
    many = numbers | "by many" >> beam.Map(lambda n: (n % KEYS, n)).with_output_types(tuple[int, int])
    many | beam.GroupByKey() | "grouped" >> beam.ParDo(Size("grouped"))
    result = pipeline.run()
    result.wait_until_finish()
    for metric in result.metrics().query()["distributions"]:
        d = metric.committed
        print(metric.key.metric.name, d.sum, d.max)


if __name__ == "__main__":
    run(sys.argv[1:])
