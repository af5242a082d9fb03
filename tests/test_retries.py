"""Bundles that fail run again; the element that fails each time is found, and named."""

import pytest
from conftest import LOOPBACK, PROCESS, run_python, start_script
from waits import PATIENCE, wait


@pytest.fixture
def marks(tmp_path):
    directory = tmp_path / "marks"
    directory.mkdir()
    return directory


def run(server, marks, how: str, *flags: str):
    return run_python(server, "poison.py", f"--how={how}", f"--marks={marks}", *(flags or PROCESS))


def job_of(server, name: str) -> dict:
    (job,) = [job for job in server.api.jobs() if job["name"] == name]
    return server.api.job(job["id"])


def texts(server, job: dict, importance: str) -> list[str]:
    return [m["text"] for m in server.api.messages(job["id"]) if m["importance"] == importance]


def check_counts(marks, count: int = 60, keys: int = 4) -> None:
    """Every number counts once in the state of its key: all that failed is as if it had never been."""
    seen: dict[str, list[int]] = {}
    for path in marks.glob("out *"):
        _, key, _number, counted = path.name.split()
        seen.setdefault(key, []).append(int(counted))
    assert len(seen) == keys
    for key, counts in seen.items():
        assert sorted(set(counts)) == list(range(1, count // keys + 1)), key


def test_the_element_that_fails_is_named_with_the_users_traceback(server, marks):
    done = run(server, marks, "raise", *LOOPBACK)
    assert done.returncode != 0
    assert "ValueError: 5 brings bad luck" in done.stderr
    assert "in disturb" in done.stderr, "the frame of the user's function is missing"
    assert "Take the numbers" in done.stderr
    assert '("k1", 5)' in done.stderr, done.stderr
    tries = len((marks / "tries").read_text().splitlines())
    assert 4 <= tries <= 8
    assert (marks / "done-4").exists()


def test_an_element_can_be_kept_out_of_messages(server, marks):
    done = run(server, marks, "raise", *LOOPBACK, "--hide_elements", "--job_name=hides")
    assert done.returncode != 0
    (error,) = texts(server, job_of(server, "hides"), "error")
    assert "5 brings bad luck" in error
    assert '"k1"' not in error
    assert "not to be shown" in error


@pytest.mark.parametrize("cache", [[], ["--max_cache_memory_usage_mb=100"]], ids=["no cache", "cache"])
def test_what_fails_now_and_then_counts_once(server, marks, cache):
    """Nothing of a failed attempt is seen by the next one: not in the runner's state nor in the SDK's cache of it."""
    done = run(server, marks, "flaky", *LOOPBACK, *cache, f"--job_name=flaky-{len(cache)}")
    assert done.returncode == 0, done.stderr
    assert len(list(marks.glob("flaky-*"))) == 9 and (marks / "state").exists()
    check_counts(marks)
    job = job_of(server, f"flaky-{len(cache)}")
    assert texts(server, job, "error") == []
    warnings = [text for text in texts(server, job, "warning") if "will run again" in text]
    assert any("Take the numbers" in text and "no answer about" in text for text in warnings), warnings
    assert sum(stage.get("bundles_failed", 0) for stage in job["description"]["stages"]) >= 10


def test_a_failing_setup_blames_no_element(server, marks):
    done = run(server, marks, "setup", *LOOPBACK)
    assert done.returncode != 0
    assert "no database in setup" in done.stderr
    assert "without any element" in done.stderr


def test_too_little_memory_for_python_is_an_error_of_user_code(server, marks):
    done = run(server, marks, "memory", *PROCESS)
    assert done.returncode != 0
    assert "MemoryError" in done.stderr
    assert '("k1", 5)' in done.stderr


@pytest.mark.parametrize(("how", "reason"), [("exit", "exit status 7"), ("kill", "signal: killed")])
def test_an_element_that_ends_its_harness_is_named_while_the_job_goes_on(server, marks, how, reason):
    name = f"deadly-{how}"
    log = marks.parent / "log"
    arguments = [f"--how={how}", f"--marks={marks}", "--count=8", *PROCESS, f"--job_name={name}"]
    script = start_script(server, "poison.py", *arguments, log=log)

    def suspects() -> list[str]:
        assert script.poll() is None, log.read_text()
        if not any(job["name"] == name for job in server.api.jobs()):
            return []
        job = job_of(server, name)
        assert job["state"] in ("STOPPED", "STARTING", "RUNNING"), log.read_text()
        stages = (job.get("description") or {}).get("stages") or []
        return [stage["suspect"] for stage in stages if stage.get("suspect")]

    assert '("k1", 5)' in wait(suspects, "the suspect")[0]
    others = {f"done-{n}" for n in range(8) if n != 5}
    wait(lambda: others <= {path.name for path in marks.glob("done-*")}, "what the other elements leave")
    warnings = "\n".join(texts(server, job_of(server, name), "warning"))
    assert reason in warnings
    assert '("k1", 5)' in warnings
    if how == "exit":
        assert "the harness says farewell" in warnings
    (marks / "antidote").touch()
    assert script.wait(PATIENCE) == 0, log.read_text()
    check_counts(marks, count=8)
