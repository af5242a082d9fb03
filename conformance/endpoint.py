"""Where the tests run: set by run.py, read by the plugin and the test classes."""

import os

ENDPOINT = "PADSTONE_CONFORMANCE_ENDPOINT"
ENVIRONMENT = "PADSTONE_CONFORMANCE_ENVIRONMENT"
RESULTS = "PADSTONE_CONFORMANCE_RESULTS"

# An experiment of the SDK. Without it every job begins with `pip freeze`, which takes longer than most tests.
NO_PIP_FREEZE = "disable_logging_submission_environment"


def job_endpoint() -> str:
    return os.environ[ENDPOINT]


def environment() -> tuple[str, str | None]:
    """(environment_type, environment_config); "PROCESS=command" as one word, LOOPBACK by default."""
    kind, _, config = os.environ.get(ENVIRONMENT, "LOOPBACK").partition("=")
    return kind, config or None
