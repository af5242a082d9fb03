"""Harnesses that the server starts (PROCESS) or finds running (EXTERNAL)."""

import json
import sys

from conftest import COUNTS, PIPELINES, read_counts, run_python


def run_wordcount(server, text_path, output, *environment: str) -> None:
    done = run_python(server, "wordcount.py", *environment, "--input", str(text_path), "--output", str(output))
    assert done.returncode == 0, done.stderr
    assert read_counts(output) == COUNTS


def process_environment(tmp_path, program: str) -> list[str]:
    command = tmp_path / "boot"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
    command.chmod(0o755)
    return ["--environment_type=PROCESS", f"--environment_config={json.dumps({'command': str(command)})}"]


def test_process(server, text, tmp_path):
    run_wordcount(server, text, tmp_path / "counts", *process_environment(tmp_path, str(PIPELINES / "boot.py")))


def test_external_worker_pool_serves_job_after_job(server, text, tmp_path, worker_pool):
    for n in range(2):
        flags = ["--environment_type=EXTERNAL", f"--environment_config={worker_pool}"]
        run_wordcount(server, text, tmp_path / f"counts{n}", *flags)


def test_a_process_that_ends_at_once_fails_the_job_with_its_exit_code(server, text, tmp_path):
    program = tmp_path / "broken.py"
    program.write_text("import sys; print('no harness here', file=sys.stderr); sys.exit(3)")
    flags = process_environment(tmp_path, str(program))
    done = run_python(server, "wordcount.py", *flags, "--input", str(text), "--output", str(tmp_path / "counts"))
    assert done.returncode != 0
    assert "3" in done.stderr and "no harness here" in done.stderr
    assert server.alive()


def test_a_worker_pool_that_is_not_there_fails_the_job(server, text, tmp_path):
    flags = ["--environment_type=EXTERNAL", "--environment_config=localhost:1"]
    done = run_python(server, "wordcount.py", *flags, "--input", str(text), "--output", str(tmp_path / "counts"))
    assert done.returncode != 0
    assert "localhost:1" in done.stderr
    assert server.alive()


def test_containers_without_an_engine_are_refused_with_a_hint(start_server, text, tmp_path):
    own = start_server(env={"DOCKER_HOST": f"unix://{tmp_path}/nobody.sock"})
    flags = ["--environment_type=DOCKER", "--environment_config=padstone/some:1"]
    done = run_python(own, "wordcount.py", *flags, "--input", str(text), "--output", str(tmp_path / "counts"))
    assert done.returncode != 0
    assert "docker-no-engine" in done.stderr and "nobody.sock" in done.stderr and "hint: start Docker" in done.stderr
