"""The twelve kinds of pipelines that the Python SDK's default runner does not give to Prism.

`SwitchingDirectRunner` (apache_beam/runners/direct/direct_runner.py) lists them. Every pipeline here is shown to that
runner first, to see that it is of such a kind, and then runs on the endpoint.
"""

import socket
import subprocess
import sys
import time
import unittest
from contextlib import contextmanager
from unittest import mock

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.direct.direct_runner import SwitchingDirectRunner
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms import trigger, userstate, window
from apache_beam.transforms.combiners import LiftedCombinePerKey
from apache_beam.transforms.window import TimestampedValue
from ports import free_ports
from serving import START_SECONDS


class Taken(BaseException):
    """Names the runner that got a pipeline. No Exception: from those of Prism the SDK falls back to another runner."""


def taking(name: str):
    def run_pipeline(*_args, **_kwargs):
        raise Taken(name)

    return run_pipeline


def sdk_choice(pipeline: beam.Pipeline, options: PipelineOptions, interactive: bool) -> str:
    """The runner that the SDK's default one would give the pipeline to."""
    runners = "apache_beam.runners"
    switching = SwitchingDirectRunner()
    if interactive:
        switching.is_interactive()
    with (
        mock.patch(f"{runners}.portability.prism_runner.PrismRunner.run_pipeline", taking("Prism")),
        mock.patch(f"{runners}.portability.fn_api_runner.fn_runner.FnApiRunner.run_pipeline", taking("FnApi")),
        mock.patch(f"{runners}.direct.direct_runner.BundleBasedDirectRunner.run_pipeline", taking("BundleBased")),
    ):
        try:
            switching.run_pipeline(pipeline, options)
        except Taken as taken:
            return str(taken)
    raise AssertionError("the SDK's default runner gave the pipeline to nobody")


class RefusedTest(unittest.TestCase):
    interactive = False  # set by the test of interactive pipelines

    def setUp(self):
        run_pipeline = PortableRunner.run_pipeline

        def checked(runner, pipeline, options):
            self.assertNotEqual(sdk_choice(pipeline, options, self.interactive), "Prism")
            return run_pipeline(runner, pipeline, options)

        patch = mock.patch.object(PortableRunner, "run_pipeline", checked)
        patch.start()
        self.addCleanup(patch.stop)

    def test_unsafe_trigger(self):
        """A count trigger fires once: at its count, or with what there is when the window ends."""
        with pipeline("--allow_unsafe_triggers") as p:
            panes = (
                p
                | beam.Create([("three", n) for n in range(3)] + [("two", n) for n in range(2)])
                | beam.WindowInto(
                    window.FixedWindows(10),
                    trigger=trigger.AfterCount(3),
                    accumulation_mode=trigger.AccumulationMode.DISCARDING,
                )
                | beam.GroupByKey()
                | beam.MapTuple(lambda key, values: (key, sorted(values)))
            )
            assert_that(panes, equal_to([("three", [0, 1, 2]), ("two", [0, 1])]))

    def test_repeated_unsafe_trigger(self):
        with pipeline("--allow_unsafe_triggers", "--streaming") as p:
            counts = (
                p
                | TestStream()
                .add_elements([("k", n) for n in range(4)])
                .add_elements([("k", 4)])
                .advance_watermark_to_infinity()
                | beam.WindowInto(
                    window.GlobalWindows(),
                    trigger=trigger.Repeatedly(trigger.AfterCount(2)),
                    accumulation_mode=trigger.AccumulationMode.ACCUMULATING,
                )
                | beam.CombinePerKey(beam.combiners.CountCombineFn())
            )
            assert_that(counts, growing_to_five)

    def test_interactive(self):
        from apache_beam.runners.interactive import interactive_beam as ib
        from apache_beam.runners.interactive.interactive_runner import InteractiveRunner

        self.interactive = True
        p = beam.Pipeline(InteractiveRunner(underlying_runner=PortableRunner()), pipeline().options)
        numbers = p | "Numbers" >> beam.Create([1, 2, 3])
        squares = numbers | "Squares" >> beam.Map(lambda n: n * n)
        ib.watch({"p": p, "numbers": numbers, "squares": squares})
        result = p.run()
        result.wait_until_finish()
        self.assertEqual(sorted(result.get(squares)), [1, 4, 9])

    def test_update_compatibility(self):
        with pipeline("--update_compatibility_version=2.70.0") as p:
            sums = p | beam.Create([("a", 1), ("b", 2), ("a", 3)]) | beam.CombinePerKey(sum)
            assert_that(sums, equal_to([("a", 4), ("b", 2)]))

    def test_external_transform(self):
        """Expanded by an expansion service of its own, whose transforms run in its own worker."""
        with expansion_service() as address, pipeline() as p:
            grouped = (
                p
                | beam.Create([("a", 1), ("b", 2), ("a", 3)])
                | beam.ExternalTransform(
                    "beam:transforms:python:fully_qualified_named",
                    beam.transforms.external.ImplicitSchemaPayloadBuilder(
                        {"constructor": "apache_beam.GroupByKey", "args": beam.Row(), "kwargs": beam.Row()}
                    ),
                    address,
                )
                | beam.MapTuple(lambda key, values: (key, sorted(values)))
            )
            assert_that(grouped, equal_to([("a", [1, 3]), ("b", [2])]))

    def test_test_stream(self):
        with pipeline("--streaming") as p:
            events = TestStream()
            events.advance_watermark_to(0).add_elements([TimestampedValue(("k", 1), 1), TimestampedValue(("k", 2), 2)])
            events.advance_watermark_to(10).add_elements([TimestampedValue(("k", 3), 11)])
            events.add_elements([TimestampedValue(("k", 4), 3)])  # late: its window is over
            sums = p | events.advance_watermark_to_infinity() | beam.WindowInto(window.FixedWindows(10))
            assert_that(sums | beam.CombinePerKey(sum), equal_to([("k", 3), ("k", 3)]))

    def test_exception_handling(self):
        with pipeline() as p:
            inverses, bad = p | beam.Create([1, 0, 4]) | beam.Map(lambda n: 1 / n).with_exception_handling()
            assert_that(inverses, equal_to([1.0, 0.25]))
            assert_that(
                bad | beam.MapTuple(lambda n, error: (n, error[0].__name__)),
                equal_to([(0, "ZeroDivisionError")]),
                label="Bad",
            )

    def test_exception_handling_in_a_subprocess(self):
        with pipeline() as p:
            halves, bad = (
                p | beam.Create([2, 0]) | beam.Map(lambda n: 1 / n).with_exception_handling(use_subprocess=True)
            )
            assert_that(halves, equal_to([0.5]))
            assert_that(bad | beam.MapTuple(lambda n, _: n), equal_to([0]), label="Bad")

    def test_materialized_values(self):
        """A transform applied to values instead of a PCollection runs a pipeline and gives values back."""
        self.assertEqual(sorted([1, 2, 3] | beam.Map(lambda n: n + 1)), [2, 3, 4])

    def test_combine_fn_with_side_input(self):
        with pipeline() as p:
            weight = p | "Weight" >> beam.Create([10])
            sums = (
                p
                | beam.Create([("a", 1), ("b", 2), ("a", 3)])
                | beam.CombinePerKey(WeightedSum(), beam.pvalue.AsSingleton(weight))
            )
            assert_that(sums, equal_to([("a", 40), ("b", 20)]))

    def test_partial_combine_with_side_input(self):
        with pipeline() as p:
            weight = p | "Weight" >> beam.Create([10])
            sums = (
                p
                | beam.Create([("a", 1), ("b", 2), ("a", 3)])
                | LiftedCombinePerKey(WeightedSum(), [beam.pvalue.AsSingleton(weight)], {})
            )
            assert_that(sums, equal_to([("a", 40), ("b", 20)]))

    def test_real_time_timer(self):
        with pipeline() as p:
            fired = p | beam.Create([("a", 1), ("b", 2), ("a", 3)]) | beam.ParDo(SumAtTimer())
            assert_that(fired, equal_to([("a", 4), ("b", 2)]))

    def test_combining_value_state(self):
        with pipeline() as p:
            sums = p | beam.Create([("a", 1), ("a", 1), ("b", 5), ("a", 1)]) | beam.ParDo(RunningSum())
            assert_that(sums, equal_to([("a", 1), ("a", 2), ("a", 3), ("b", 5)]))

    def test_sessions(self):
        with pipeline() as p:
            sessions = (
                p
                | beam.Create([("k", at) for at in (1, 4, 20, 27, 8, 50)])
                | beam.Map(lambda kv: TimestampedValue(kv, kv[1]))
                | beam.WindowInto(window.Sessions(10))
                | beam.GroupByKey()
                | beam.ParDo(WithWindow())
            )
            assert_that(sessions, equal_to([([1, 4, 8], 1, 18), ([20, 27], 20, 37), ([50], 50, 60)]))


def growing_to_five(panes):
    """Accumulating panes are each larger than the one before, and the last has everything."""
    counts = [count for _, count in panes]
    if max(counts) != 5 or len(set(counts)) != len(counts):
        raise AssertionError(f"panes {panes}")


class WeightedSum(beam.CombineFn):
    def create_accumulator(self, weight):
        return 0

    def add_input(self, total, value, weight):
        return total + weight * value

    def merge_accumulators(self, totals, weight):
        return sum(totals)

    def extract_output(self, total, weight):
        return total


TOTAL = userstate.CombiningValueStateSpec("total", sum)
TIMER = userstate.TimerSpec("timer", userstate.TimeDomain.REAL_TIME)
TOTAL_PARAM, TIMER_PARAM = beam.DoFn.StateParam(TOTAL), beam.DoFn.TimerParam(TIMER)


class SumAtTimer(beam.DoFn):
    def process(self, kv, total=TOTAL_PARAM, timer=TIMER_PARAM):
        total.add(kv[1])
        timer.set(time.time() + 1)

    @userstate.on_timer(TIMER)
    def fire(self, key=beam.DoFn.KeyParam, total=TOTAL_PARAM):
        yield key, total.read()


class RunningSum(beam.DoFn):
    def process(self, kv, total=TOTAL_PARAM):
        total.add(kv[1])
        yield kv[0], total.read()


class WithWindow(beam.DoFn):
    def process(self, kv, session=beam.DoFn.WindowParam):
        yield sorted(kv[1]), int(session.start), int(session.end)


def pipeline(*flags: str) -> beam.Pipeline:
    """A pipeline without a runner, which plugin.py points at the endpoint."""
    return beam.Pipeline(options=PipelineOptions(list(flags)))


@contextmanager
def expansion_service():
    """The SDK's own expansion service, with a worker of its own."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "apache_beam.runners.portability.expansion_service_main", f"--port={port}"]
    process = subprocess.Popen([*command, "--fully_qualified_name_glob=*", "--serve_loopback_worker"])
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("localhost", port), 1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(30)
