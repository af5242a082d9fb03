"""Beam's PortableRunnerTest battery (which is FnApiRunnerTest and more) on the job endpoint of the run.

The test bodies are Beam's. Only the endpoint, the environment and the streaming option are ours; where Beam's body
needs something that only its own runners have, the variant that Beam wrote for another portable runner takes its place.
Tests that the SDK switches off run as well.
"""

import apache_beam as beam
from apache_beam.options.pipeline_options import DebugOptions, PortableOptions, StandardOptions, TypeOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner_test import (
    FnApiBasedStateBackedCoderTest,
    FnApiRunnerTest,
)
from apache_beam.runners.portability.portable_runner_test import PortableRunnerTest
from apache_beam.runners.portability.prism_runner_test import PrismRunnerTest
from draining import DrainingRunner
from endpoint import NO_PIP_FREEZE, environment, job_endpoint
from switched_on import switched_on

# The SDK's harness, when it also sends by time, cuts elements in two or loses part of them (issue 23944); these tests
# give it the time to do so. In their own class the SDK runs them without that experiment.
WITHOUT_TIME_BUFFER = frozenset({"test_batch_pardo_trigger_flush", "test_pardo_large_input"})


class _OnEndpoint:
    streaming = False
    allow_unsafe_triggers = False  # set by the tests of count triggers

    @classmethod
    def _create_job_endpoint(cls):
        return job_endpoint()

    def create_options(self):
        options = super().create_options()
        options.view_as(DebugOptions).add_experiment(NO_PIP_FREEZE)
        if self._testMethodName in WITHOUT_TIME_BUFFER:
            experiments = options.view_as(DebugOptions).experiments
            experiments[:] = [e for e in experiments if not e.startswith("data_buffer_time_limit_ms")]
        kind, config = environment()
        options.view_as(PortableOptions).environment_type = kind
        options.view_as(PortableOptions).environment_config = config
        options.view_as(StandardOptions).streaming = self.streaming
        options.view_as(TypeOptions).allow_unsafe_triggers = self.allow_unsafe_triggers
        return options

    def create_pipeline(self, is_drain=False):
        return beam.Pipeline(DrainingRunner() if is_drain else self.get_runner(), self.create_options())

    # Portable runners of the SDK cannot drain.
    test_sdf_default_truncate_when_bounded = FnApiRunnerTest.test_sdf_default_truncate_when_bounded
    test_sdf_default_truncate_when_unbounded = FnApiRunnerTest.test_sdf_default_truncate_when_unbounded
    test_sdf_with_truncate = FnApiRunnerTest.test_sdf_with_truncate
    test_draining_sdf_with_sdf_initiated_checkpointing = (
        FnApiRunnerTest.test_draining_sdf_with_sdf_initiated_checkpointing
    )
    test_batch_pardo_trigger_flush = switched_on(FnApiRunnerTest.test_batch_pardo_trigger_flush)
    test_pardo_large_input = switched_on(FnApiRunnerTest.test_pardo_large_input)
    test_pardo_side_input_sparse_dependencies = switched_on(FnApiRunnerTest.test_pardo_side_input_sparse_dependencies)
    test_large_elements = switched_on(FnApiRunnerTest.test_large_elements)

    # Beam's reads a file that exists only inside its build; this variant reads one of any machine.
    test_read = PrismRunnerTest.test_read
    test_create_transform = PrismRunnerTest.test_create_transform
    test_failing_dofn = PrismRunnerTest.test_failing_dofn
    test_after_count_trigger_streaming = PrismRunnerTest.test_after_count_trigger_streaming


class BatchTest(_OnEndpoint, PortableRunnerTest):
    test_teststream_pardo_timers = None  # a TestStream is a streaming pipeline
    test_after_count_trigger_batch = PrismRunnerTest.test_after_count_trigger_batch
    # A value list of some 1.6 MB, which must be served through the state channel.
    test_gbk_many_values = FnApiBasedStateBackedCoderTest.test_gbk_many_values


class StreamingTest(_OnEndpoint, PortableRunnerTest):
    streaming = True
    test_teststream_pardo_timers = switched_on(FnApiRunnerTest.test_teststream_pardo_timers)


# Imported names would be collected as well, on Beam's own runners.
del PortableRunnerTest, PrismRunnerTest, FnApiRunnerTest, FnApiBasedStateBackedCoderTest
