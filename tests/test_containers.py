"""The files of containers/: the compose file, run, and the Kubernetes examples, held against Kubernetes' schemas."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from conftest import PIPELINES
from docker_engine import HARNESS, SERVER, compose_command, docker
from ports import free_ports
from server import BINARY, ROOT
from waits import PATIENCE, wait

CONTAINERS = ROOT / "containers"
EXAMPLES = sorted((CONTAINERS / "kubernetes").glob("*.yaml"))


def objects(example) -> list[dict]:
    return list(yaml.safe_load_all(example.read_text()))


def pods(example) -> list[tuple[dict, dict]]:
    """The workloads with their pods' templates."""
    return [(one, one["spec"]["template"]) for one in objects(example) if "template" in one.get("spec", {})]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_kubernetes_takes_the_objects(example, version):
    """Strict: a field that Kubernetes does not know is an error."""
    for one in objects(example):
        kubernetes_validate.validate(one, version, strict=True)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_objects_of_an_example_fit_together(example):
    labels = [template["metadata"]["labels"] for _, template in pods(example)]
    for workload, template in pods(example):
        assert workload["spec"]["selector"]["matchLabels"] == template["metadata"]["labels"]
        volumes = {volume["name"] for volume in template["spec"].get("volumes", ())}
        volumes |= {claim["metadata"]["name"] for claim in workload["spec"].get("volumeClaimTemplates", ())}
        for container in template["spec"]["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes
    for one in objects(example):
        if one["kind"] == "Service":
            (template,) = (t for _, t in pods(example) if t["metadata"]["labels"] == one["spec"]["selector"])
            ports = {port["name"] for c in template["spec"]["containers"] for port in c["ports"]}
            assert {port["targetPort"] for port in one["spec"]["ports"]} <= ports
        if one["kind"] == "NetworkPolicy":
            assert one["spec"]["podSelector"]["matchLabels"] in labels


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_images_and_flags_of_an_example_are_ours(example):
    beam = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("apache-beam"))
    harness = f"padstone/beam_python3.11_sdk:{beam.partition('==')[2]}"
    for _, template in pods(example):
        for container in template["spec"]["containers"]:
            assert container["image"] in (SERVER, harness)
            if container["image"] == SERVER:
                check_flags(container["args"])
            else:
                assert container["args"] == ["--worker_pool"]


def check_flags(arguments: list[str]) -> None:
    """The server knows the flags: it complains of nothing but that its configuration is not on this machine."""
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode != 0 and "/etc/padstone/padstone.yaml" in done.stderr, done.stderr


def test_the_compose_file_names_our_images():
    services = yaml.safe_load((CONTAINERS / "compose.yaml").read_text())["services"]
    assert services["server"]["image"] == "${PADSTONE_IMAGE:-" + SERVER + "}"
    assert "padstone/beam_python3.11_sdk:" in services["harness"]["image"]
    check_flags(services["server"]["command"])


class Compose:
    """The project of containers/compose.yaml without its broker, on ports of this test, with the server under test."""

    def __init__(self, directory: Path) -> None:
        self.command = compose_command()
        self.override = directory / "override.json"
        self.override.write_text(json.dumps({"services": {"server": {"volumes": [f"{BINARY}:/padstone:ro"]}}}))
        self.job, self.http, expansion = free_ports(3)
        self.project = f"padstone-test-{os.getpid()}"
        self.env = {**os.environ, "PADSTONE_JOB_PORT": str(self.job), "PADSTONE_HTTP_PORT": str(self.http)}
        self.env |= {"PADSTONE_EXPANSION_PORT": str(expansion), "PADSTONE_HARNESS_IMAGE": HARNESS}

    def __call__(self, *arguments: str) -> str:
        files = ["-f", str(CONTAINERS / "compose.yaml"), "-f", str(self.override)]
        command = [*self.command, *files, "-p", self.project, *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def answers(self) -> bool:
        try:
            return self.get("/healthz") == "ok\n"
        except (urllib.error.URLError, OSError):
            return False

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}{path}", timeout=20) as answer:
            return answer.read().decode()

    def submit(self) -> None:
        """Runs a job in the pool, whose host is not the server's, with files staged over published ports."""
        flags = ["--runner=PortableRunner", f"--job_endpoint=localhost:{self.job}", "--environment_type=EXTERNAL"]
        flags += ["--environment_config=harness:50000", "--worker_pool_wait_seconds=100"]
        command = [sys.executable, str(PIPELINES / "containers.py"), *flags]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr + self("logs")


def test_the_compose_file_runs_a_job_and_keeps_it(docker_engine, tmp_path):
    compose = Compose(tmp_path)
    assert "kafka:" in compose("config")
    compose("up", "-d", "server", "harness")
    try:
        wait(compose.answers)
        (server,) = compose("ps", "-q", "server").split()
        compose.submit()
        user, *_ = json.loads(docker("inspect", server))
        assert user["Config"]["User"] == "65532:65532"
        compose("restart", "server")
        wait(compose.answers)
        (job,) = json.loads(compose.get("/api/v1/jobs"))["jobs"]
        assert job["state"] == "DONE"
        wait(lambda: docker("inspect", "--format", "{{.State.Health.Status}}", server) == "healthy")
    finally:
        compose("down", "--volumes", "--timeout", "5")
