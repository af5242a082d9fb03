"""What goes wrong is told in the user's terms, within seconds, and the server stays up."""

import time

import apache_beam as beam
import grpc
import pytest
from apache_beam.io.kafka import ReadFromKafka, WriteToKafka
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc, beam_runner_api_pb2
from conftest import PROCESS, portable_options, run_python, start_script
from waits import PATIENCE

JOB_SERVICE = "/org.apache.beam.model.job_management.v1.JobService/"


@pytest.fixture
def channel(server):
    with grpc.insecure_channel(server.job_endpoint) as opened:
        yield opened
    assert server.alive()
    assert isinstance(server.api.jobs(), list)


def test_an_error_of_user_code_has_its_traceback_and_the_transforms_name(server):
    done = run_python(server, "failing.py", "--environment_type=LOOPBACK")
    assert done.returncode != 0
    assert "ValueError: amount 3 is out of bounds" in done.stderr
    assert "check_amount" in done.stderr, "the frame of the user's function is missing"
    assert "Check the amounts" in done.stderr


def test_the_error_stays_with_the_job(server, tmp_path):
    log = tmp_path / "log"
    script = start_script(server, "failing.py", "--job_name=fails-for-good", log=log)
    assert script.wait(PATIENCE) == 1, log.read_text()
    (job,) = [job for job in server.api.jobs() if job["name"] == "fails-for-good"]
    assert server.api.job(job["id"])["state"] == "FAILED"
    errors = [m for m in server.api.messages(job["id"]) if m["importance"] == "error"]
    assert len(errors) == 1
    assert "Check the amounts" in errors[0]["text"]
    assert "amount 3 is out of bounds" in errors[0]["text"]


@pytest.mark.parametrize(("arguments", "code"), [((), 0), (("7",), 7)])
def test_a_script_without_a_job_ends_with_its_own_exit_code(server, tmp_path, arguments, code):
    script = start_script(server, "no_job.py", *arguments, log=tmp_path / "log")
    assert script.wait(PATIENCE) == code, (tmp_path / "log").read_text()


def failure(options, build) -> str:
    """Runs a pipeline that must fail and returns the error's text."""
    started = time.monotonic()
    # The client raises several types: of gRPC when a job is refused, its own when one fails.
    with pytest.raises(Exception) as raised, beam.Pipeline(options=options) as pipeline:  # noqa: B017
        build(pipeline)
    assert time.monotonic() - started < PATIENCE
    return str(raised.value)


def test_an_error_that_the_sdk_cannot_send_ends_the_job(server):
    def fail(_):
        raise ValueError("no file \udcff")  # as os.fsdecode names a file whose name is not UTF-8

    # In a process of its own: pytest cannot send its standard error on, either.
    text = failure(portable_options(server, *PROCESS), lambda p: p | beam.Create([1]) | "Open" >> beam.Map(fail))
    assert "it loses what it cannot encode" in text.lower()
    assert "Open" in text


def kafka_to_kafka(bootstrap: str, source: str, sink: str, **config):
    def build(pipeline):
        (
            pipeline
            | "Read it" >> ReadFromKafka({"bootstrap.servers": bootstrap, **config}, [source])
            | "Write it" >> WriteToKafka({"bootstrap.servers": bootstrap}, sink)
        )

    return build


def test_a_topic_that_does_not_exist(server):
    text = failure(portable_options(server, "--streaming"), kafka_to_kafka(server.kafka, "no-such-topic", "out"))
    assert "no-such-topic" in text


def test_a_broker_that_does_not_answer(server):
    text = failure(portable_options(server, "--streaming"), kafka_to_kafka("127.0.0.1:1", "in", "out"))
    assert "127.0.0.1:1" in text


def test_a_consumer_property_that_is_not_understood(server):
    build = kafka_to_kafka(server.kafka, "in", "out", **{"no.such.property": "1"})
    assert "no.such.property" in failure(portable_options(server, "--streaming"), build)


@pytest.mark.parametrize("body", [b"\xff\xff\xff\xff", b"\x0a\xff\x01garbage", b"\x00" * 1000])
@pytest.mark.parametrize("method", ["Prepare", "Run", "GetState", "Cancel"])
def test_bytes_that_are_no_message(channel, method, body):
    call = channel.unary_unary(JOB_SERVICE + method, request_serializer=None, response_deserializer=None)
    with pytest.raises(grpc.RpcError):
        call(body, timeout=PATIENCE)


def bad_pipelines() -> dict[str, beam_runner_api_pb2.Pipeline]:
    dangling = beam_runner_api_pb2.Pipeline(root_transform_ids=["missing"])
    empty_urn = beam_runner_api_pb2.Pipeline(root_transform_ids=["t"])
    empty_urn.components.transforms["t"].unique_name = "Some transform"
    empty_urn.components.transforms["t"].outputs["out"] = "nowhere"  # without it, it would be a composite of nothing
    cycle = beam_runner_api_pb2.Pipeline(root_transform_ids=["t"])
    cycle.components.transforms["t"].unique_name = "Eats itself"
    cycle.components.transforms["t"].subtransforms.append("t")
    unknown = beam_runner_api_pb2.Pipeline(root_transform_ids=["t"], requirements=["beam:requirement:no:such:v1"])
    unknown.components.transforms["t"].spec.urn = "beam:transform:no:such:v1"
    unknown.components.transforms["t"].inputs["in"] = "nowhere"
    return {"dangling root": dangling, "empty URN": empty_urn, "cycle": cycle, "unknown URN": unknown}


@pytest.mark.parametrize("name", bad_pipelines())
def test_a_pipeline_that_makes_no_sense_is_refused_at_prepare(channel, name):
    stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
    request = beam_job_api_pb2.PrepareJobRequest(job_name="bad", pipeline=bad_pipelines()[name])
    with pytest.raises(grpc.RpcError) as refused:
        stub.Prepare(request, timeout=PATIENCE)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert refused.value.details()


@pytest.mark.parametrize("method", ["GetState", "Cancel", "GetPipeline"])
def test_an_unknown_job_is_not_found(channel, method):
    stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
    requests = {
        "GetState": beam_job_api_pb2.GetJobStateRequest,
        "Cancel": beam_job_api_pb2.CancelJobRequest,
        "GetPipeline": beam_job_api_pb2.GetJobPipelineRequest,
    }
    with pytest.raises(grpc.RpcError) as refused:
        getattr(stub, method)(requests[method](job_id="no-such-job"), timeout=PATIENCE)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
