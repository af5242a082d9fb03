"""A runner whose jobs drain from their first bundle on, as Beam's tests of drained splittable DoFns need it."""

import threading

from apache_beam.portability.api import beam_job_api_pb2 as pb
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineState
from apache_beam.runners.worker.worker_pool_main import BeamFnExternalWorkerPoolServicer

CALL_SECONDS = 30


class DrainingRunner(PortableRunner):
    """Asks for the drain as soon as the job is there. LOOPBACK workers do not start before; other harnesses take longer
    to start than the request."""

    def run_portable_pipeline(self, pipeline, options):
        asked = threading.Event()
        start_worker = BeamFnExternalWorkerPoolServicer.StartWorker

        def start_when_asked(pool, request, context):
            asked.wait(CALL_SECONDS)
            return start_worker(pool, request, context)

        BeamFnExternalWorkerPoolServicer.StartWorker = start_when_asked
        try:
            result = super().run_portable_pipeline(pipeline, options)
            result._job_service.Drain(pb.DrainJobRequest(job_id=result._job_id), timeout=CALL_SECONDS)
        finally:
            asked.set()
            BeamFnExternalWorkerPoolServicer.StartWorker = start_worker
        return Drained(result)


class Drained:
    """The end of a drained job, which the SDK takes for a failure. Any other end is one here."""

    def __init__(self, result) -> None:
        self._result = result

    def wait_until_finish(self, duration=None):
        try:
            state = self._result.wait_until_finish(duration)
        except RuntimeError:
            if self._result.state != PipelineState.DRAINED:
                raise
            return PipelineState.DRAINED
        raise RuntimeError(f"the job was to be drained and is {state}")

    def __getattr__(self, name):
        return getattr(self._result, name)
