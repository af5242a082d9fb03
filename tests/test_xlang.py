"""Transforms of other expansion services, which the server passes requests on to; pipelines in several environments."""

import subprocess
import sys
from collections.abc import Iterator

import apache_beam as beam
import pytest
from apache_beam.transforms.validate_runner_xlang_test import CrossLanguageTestPipelines
from conftest import portable_options
from pools import listens
from ports import free_ports
from server import Server
from waits import PATIENCE, wait

# Beam's own service, with the transforms of Beam's own tests registered, and a worker of its own in the same process.
SERVICE = """
import sys
from apache_beam.runners.portability import expansion_service_main, expansion_service_test
expansion_service_main.main(sys.argv[1:])
"""
pytestmark = pytest.mark.xdist_group("expansion service")  # what its tests share

STAGED = "a file that only the expansion service has"


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[str]:
    """The address of an expansion service; its environment offers Docker, and a worker that is running."""
    work, port = tmp_path_factory.mktemp("service"), free_ports(1)[0]
    staged = work / "staged.txt"
    staged.write_text(STAGED)
    flags = [f"--port={port}", "--fully_qualified_name_glob=*", "--serve_loopback_worker", f"--files_to_stage={staged}"]
    with (work / "service.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVICE, *flags], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )

    def serves() -> bool:
        assert process.poll() is None, (work / "service.log").read_text()
        return listens(f"localhost:{port}")

    wait(serves, "the expansion service")
    yield f"localhost:{port}"
    process.terminate()
    process.wait(PATIENCE)


@pytest.fixture(scope="module")
def server(tmp_path_factory, service) -> Iterator[Server]:
    """A server that passes on what it does not know."""
    with Server(tmp_path_factory.mktemp("padstone"), extra=["--expansion-service", service]) as started:
        yield started
        assert started.alive(), f"the server has died:\n{started.log_tail()}"


@pytest.mark.parametrize(
    "name",
    [
        "prefix",
        "multi_input_output_with_sideinput",
        "group_by_key",
        "cogroup_by_key",
        "combine_globally",
        "combine_per_key",
        "flatten",
        "partition",
    ],
)
def test_beams_own_pipelines(server, name):
    pipelines = CrossLanguageTestPipelines(server.endpoints["expansion"])
    getattr(pipelines, f"run_{name}")(beam.Pipeline(options=portable_options(server)))


def test_artifacts_come_from_the_service_that_names_them(server):
    pipelines = CrossLanguageTestPipelines(server.endpoints["expansion"])
    pipelines.run_prefix(beam.Pipeline(options=portable_options(server)))
    stored = [path for path in (server.data_dir / "artifacts").rglob("*") if path.is_file()]
    assert STAGED in [path.read_text(errors="replace") for path in stored]


def test_unknown_transform_is_refused_by_name(server, service):
    p = beam.Pipeline(options=portable_options(server))
    unknown = beam.ExternalTransform("no:such:transform", b"", server.endpoints["expansion"])
    with pytest.raises(RuntimeError, match=f"unsupported-external-transform: .*no:such:transform.*{service}"):
        p | beam.Create([1]) | unknown
