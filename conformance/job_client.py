"""The job service of the endpoint, as a runner script needs it."""

import logging
import re
import threading
import time
from contextlib import suppress

logging.disable(logging.WARNING)  # the SDK's import warns of packages that are not needed here

import grpc  # noqa: E402
from apache_beam.portability.api import beam_job_api_pb2 as pb  # noqa: E402
from apache_beam.portability.api import beam_job_api_pb2_grpc  # noqa: E402

CALL_SECONDS = 10
# So long may a job that is to be drained read first.
DRAIN_AFTER_SECONDS = 3
TERMINAL = frozenset({pb.JobState.DONE, pb.JobState.FAILED, pb.JobState.CANCELLED, pb.JobState.DRAINED})


class JobClient:
    def __init__(self, endpoint: str) -> None:
        self.stub = beam_job_api_pb2_grpc.JobServiceStub(grpc.insecure_channel(endpoint))

    def state(self, job_id: str) -> int:
        return self.stub.GetState(pb.GetJobStateRequest(job_id=job_id), timeout=CALL_SECONDS).state

    def cancel_named(self, names: re.Pattern) -> None:
        """Cancels jobs that a test has left running, so that they do not disturb the next."""
        for job in self.stub.GetJobs(pb.GetJobsRequest(), timeout=CALL_SECONDS).job_info:
            if job.state not in TERMINAL and names.fullmatch(job.job_name):
                with suppress(grpc.RpcError):  # it may have ended
                    self.stub.Cancel(pb.CancelJobRequest(job_id=job.job_id), timeout=CALL_SECONDS)

    def drained(self, job_id: str) -> bool:
        return self.state(job_id) == pb.JobState.DRAINED

    def drain(self, job_id: str) -> None:
        """Asks for the drain of the job once it runs and has read for a while; does not wait for it."""
        threading.Thread(target=self._drain, args=(job_id,), daemon=True).start()

    def _drain(self, job_id: str) -> None:
        while self.state(job_id) != pb.JobState.RUNNING:
            time.sleep(0.1)
        time.sleep(DRAIN_AFTER_SECONDS)
        self.stub.Drain(pb.DrainJobRequest(job_id=job_id), timeout=CALL_SECONDS)
