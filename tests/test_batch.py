"""Batch jobs from unmodified SDKs: submitted by hand, under another runner's name, and with `padstone run`."""

import json

import apache_beam as beam
import grpc
import pytest
from apache_beam.coders import VarIntCoder
from apache_beam.metrics import Metrics
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from conftest import COUNTS, portable_options, read_counts, run_python, start_script
from waits import PATIENCE


def test_wordcount_with_the_portable_runner(server, text, tmp_path):
    output = tmp_path / "counts"
    done = run_python(
        server, "wordcount.py", "--environment_type=LOOPBACK", "--input", str(text), "--output", str(output)
    )
    assert done.returncode == 0, done.stderr
    assert read_counts(output) == COUNTS


def test_wordcount_with_padstone_run(server, text, tmp_path):
    output, log = tmp_path / "counts", tmp_path / "log"
    script = start_script(server, "wordcount.py", "--input", str(text), "--output", str(output), log=log)
    assert script.wait(PATIENCE) == 0, log.read_text()
    assert read_counts(output) == COUNTS


@pytest.mark.parametrize("runner", ["PortableRunner", "FlinkRunner"])
def test_both_runner_names_work(server, runner):
    with beam.Pipeline(options=portable_options(server, runner=runner)) as pipeline:
        sums = (
            pipeline
            | beam.Create([("a", 1), ("b", 2), ("a", 3)])
            | beam.WindowInto(beam.window.FixedWindows(10))
            | beam.CombinePerKey(sum)
        )
        assert_that(sums, equal_to([("a", 4), ("b", 2)]))


def test_a_wrong_result_fails(server):
    """The proof that the assertions of the other tests are run by the job."""
    with pytest.raises(Exception, match="Failed assert"), beam.Pipeline(options=portable_options(server)) as pipeline:
        assert_that(pipeline | beam.Create([1, 2]), equal_to([1, 3]))


def test_side_inputs_and_several_outputs(server):
    def split(number, limits, factor):
        yield beam.pvalue.TaggedOutput("big" if number > max(limits) else "small", number * factor)

    with beam.Pipeline(options=portable_options(server)) as pipeline:
        limits = pipeline | "Limits" >> beam.Create([1, 2, 3])
        factor = pipeline | "Factor" >> beam.Create([10])
        outputs = (
            pipeline
            | "Numbers" >> beam.Create([1, 3, 5])
            | beam.FlatMap(split, beam.pvalue.AsIter(limits), beam.pvalue.AsSingleton(factor)).with_outputs()
        )
        assert_that(outputs.big, equal_to([50]), "big")
        assert_that(outputs.small, equal_to([10, 30]), "small")


def test_metrics_are_committed_and_carry_the_users_step_names(server):
    class Even(beam.DoFn):
        def __init__(self):
            self.even = Metrics.counter("numbers", "even")
            self.sizes = Metrics.distribution("numbers", "sizes")

        def process(self, number):
            self.sizes.update(number)
            if number % 2 == 0:
                self.even.inc()
                yield number

    pipeline = beam.Pipeline(options=portable_options(server))
    pipeline | beam.Create(range(10)) | "Only even ones" >> beam.ParDo(Even())
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace("numbers"))
    (counter,) = found["counters"]
    assert (counter.key.step, counter.committed) == ("Only even ones", 5)
    (sizes,) = found["distributions"]
    assert (sizes.committed.sum, sizes.committed.min, sizes.committed.max, sizes.committed.count) == (45, 0, 9, 10)


def element_counts(server, job_id: str) -> dict[str, int]:
    """The numbers of elements that the job's metrics have, by the transform that the PCollection is of."""
    with grpc.insecure_channel(server.job_endpoint) as channel:
        stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
        pipeline = stub.GetPipeline(beam_job_api_pb2.GetJobPipelineRequest(job_id=job_id), timeout=PATIENCE).pipeline
        metrics = stub.GetJobMetrics(beam_job_api_pb2.GetJobMetricsRequest(job_id=job_id), timeout=PATIENCE).metrics
    names = {
        collection: transform.unique_name
        for transform in pipeline.components.transforms.values()
        if not transform.subtransforms
        for collection in transform.outputs.values()
    }
    return {
        names[info.labels["PCOLLECTION"]]: VarIntCoder().decode(info.payload)
        for info in metrics.committed
        if info.urn == "beam:metric:element_count:v1" and info.labels["PCOLLECTION"] in names
    }


def test_elements_that_several_steps_read_are_counted_once(server):
    remembered = beam.DoFn.StateParam(ReadModifyWriteStateSpec("cell", VarIntCoder()))

    class Remember(beam.DoFn):
        def process(self, element, cell=remembered):
            cell.write(1)
            yield element

    pipeline = beam.Pipeline(options=portable_options(server))
    numbers = pipeline | beam.Create(range(100), reshuffle=False)
    made = numbers | "Made" >> beam.Map(lambda i: (i % 10, i)).with_output_types(tuple[int, int])
    made | "First" >> beam.ParDo(Remember())
    made | "Second" >> beam.ParDo(Remember())
    grouped = made | "Grouped" >> beam.GroupByKey()
    grouped | "Sizes" >> beam.MapTuple(lambda key, values: (key, len(list(values))))
    grouped | "Third" >> beam.ParDo(Remember())
    result = pipeline.run()
    result.wait_until_finish()
    counts = element_counts(server, result._job_id)
    wanted = {"Made": 100, "First": 100, "Second": 100, "Grouped": 10, "Sizes": 10, "Third": 10}
    assert {name: counts.get(name) for name in wanted} == wanted


def test_the_job_is_listed_with_its_name_and_stages(server):
    options = portable_options(server, "--job_name=named-by-the-user")
    with beam.Pipeline(options=options) as pipeline:
        pipeline | beam.Create([1]) | "Pass it on" >> beam.Map(lambda x: x)
    job = next(job for job in server.api.jobs() if job["name"] == "named-by-the-user")
    described = server.api.job(job["id"])
    assert described["state"] == "DONE"
    assert "Pass it on" in json.dumps(described["description"]["stages"])


def test_a_chain_longer_than_a_harness_can_make_in_one_go(server):
    with beam.Pipeline(options=portable_options(server)) as p:
        counted = p | beam.Create([0])
        for i in range(300):
            counted |= f"step {i}" >> beam.Map(lambda n: n + 1)
        assert_that(counted, equal_to([300]))
