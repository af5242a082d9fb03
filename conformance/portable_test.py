"""Beam's PortableRunnerTest battery (which is FnApiRunnerTest and more) on the job endpoint of the run.

The test bodies are Beam's. Only the endpoint, the environment and the streaming option are ours; where Beam's body
needs something that only its own runners have, the variant that Beam wrote for another portable runner takes its place.
"""

from apache_beam.options.pipeline_options import DebugOptions, PortableOptions, StandardOptions, TypeOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner_test import FnApiBasedStateBackedCoderTest
from apache_beam.runners.portability.portable_runner_test import PortableRunnerTest
from apache_beam.runners.portability.prism_runner_test import PrismRunnerTest
from endpoint import NO_PIP_FREEZE, environment, job_endpoint


class _OnEndpoint:
    streaming = False
    allow_unsafe_triggers = False  # set by the tests of count triggers

    @classmethod
    def _create_job_endpoint(cls):
        return job_endpoint()

    def create_options(self):
        options = super().create_options()
        options.view_as(DebugOptions).add_experiment(NO_PIP_FREEZE)
        kind, config = environment()
        options.view_as(PortableOptions).environment_type = kind
        options.view_as(PortableOptions).environment_config = config
        options.view_as(StandardOptions).streaming = self.streaming
        options.view_as(TypeOptions).allow_unsafe_triggers = self.allow_unsafe_triggers
        return options

    # Beam's reads a file that exists only inside its build; this variant reads one of any machine.
    test_read = PrismRunnerTest.test_read
    test_create_transform = PrismRunnerTest.test_create_transform
    test_failing_dofn = PrismRunnerTest.test_failing_dofn
    test_after_count_trigger_streaming = PrismRunnerTest.test_after_count_trigger_streaming


class BatchTest(_OnEndpoint, PortableRunnerTest):
    test_after_count_trigger_batch = PrismRunnerTest.test_after_count_trigger_batch
    # A value list of some 1.6 MB, which must be served through the state channel.
    test_gbk_many_values = FnApiBasedStateBackedCoderTest.test_gbk_many_values


class StreamingTest(_OnEndpoint, PortableRunnerTest):
    streaming = True


# Imported names would be collected as well, on Beam's own runners.
del PortableRunnerTest, PrismRunnerTest, FnApiBasedStateBackedCoderTest
