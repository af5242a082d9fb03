"""Windows that the Python SDK's own functions make and merge."""

import hashlib

import apache_beam as beam
from apache_beam.coders.coders import IntervalWindowCoder
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import IntervalWindow, TimestampedValue, WindowFn
from conftest import portable_options

BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Tens(WindowFn):
    """An element's window is a second; the windows of ten seconds are merged into one."""

    def __init__(self, size: int):
        self.filler = "".join(hashlib.sha256(str(i).encode()).hexdigest() for i in range(size))

    def assign(self, context):
        return [IntervalWindow(context.timestamp, context.timestamp + 1)]

    def merge(self, context):
        tens: dict[int, list[IntervalWindow]] = {}
        for window in context.windows:
            tens.setdefault(window.start.micros // 10_000_000, []).append(window)
        for windows in tens.values():
            if len(windows) > 1:
                context.merge(windows, IntervalWindow(min(w.start for w in windows), max(w.end for w in windows)))

    def get_window_coder(self):
        return IntervalWindowCoder()


def of_awkward_length() -> Tens:
    """A function the length of which, in its proto, holds a character of base64."""
    for size in range(120, 240):
        payload = Tens(size).to_runner_api(PipelineContext()).payload
        if payload[0] == 0x0A and payload[1] >= 0x80 and payload[2] in BASE64:
            return Tens(size)
    raise AssertionError("no length is awkward")


def test_a_pickled_function_of_any_length_merges_windows(server):
    with beam.Pipeline(options=portable_options(server)) as p:
        sums = (
            p
            | beam.Create([("k", at) for at in (1, 3, 8, 11, 19)])
            | beam.Map(lambda pair: TimestampedValue(pair, pair[1]))
            | beam.WindowInto(of_awkward_length())
            | beam.CombinePerKey(sum)
            | beam.Map(lambda pair, window=beam.DoFn.WindowParam: (pair[1], int(window.start), int(window.end)))  # noqa: B008
        )
        assert_that(sums, equal_to([(12, 1, 9), (30, 11, 20)]))
