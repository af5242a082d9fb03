"""docs/tuning.md: settings by option, flag and hand, on a job that runs, and where the time of its bundles goes."""

import json
import subprocess

import pytest
from conftest import LOOPBACK, PROCESS, run_python
from pools import external
from server import BINARY, Server
from test_lifecycle import Diary, running
from waits import PATIENCE, wait


def padstone(server: Server, *arguments: str) -> subprocess.CompletedProcess:
    command = [str(BINARY), "jobs", *arguments, "--server", server.endpoints["http"]]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


def settings(server: Server, job: str) -> dict[str, tuple]:
    """The settings that are somebody's choice, with where they are from."""
    described = server.api.job(job)["description"]["settings"]
    return {one["name"]: (one["value"], one["from"]) for one in described if one["from"] != "default"}


def rows(text: str, header: str) -> dict[str, list[str]]:
    """The rows of a printed table, of which header is the first words, by their first column."""
    lines, words = text.splitlines(), header.split()
    start = next(i for i, line in enumerate(lines) if line.split()[: len(words)] == words)
    table = {}
    for line in lines[start + 1 :]:
        if not line.strip():
            break
        cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
        table[cells[0]] = cells[1:]
    return table


@pytest.fixture
def diary(tmp_path) -> Diary:
    return Diary(tmp_path / "diary")


def test_settings_of_a_running_job(start_server, worker_pool, diary, tmp_path):
    flags = ["--max-bundle-size", "70", "--parallelism=9"]
    server = start_server(extra=flags)
    environment = [*external(worker_pool), "--latency_budget_millis=300"]
    submitted = {
        "max_bundle_size": (70, "server"),
        "latency_budget_millis": (300, "option"),
        "sdk_worker_parallelism": (1, "option"),
        "parallelism": (9, "server"),
    }
    with running(server, diary, environment, tmp_path) as (_, job):
        assert settings(server, job) == submitted
        done = padstone(server, "set", job, "max_bundle_size=5000", "max_bundle_time_mills=50")
        assert done.returncode == 0, done.stderr
        assert rows(done.stdout, "SETTING")["max_bundle_size"] == ["5000", "elements", "set"]
        changed = submitted | {"max_bundle_size": (5000, "set"), "max_bundle_time_mills": (50, "set")}
        assert settings(server, job) == changed

        for wrong, code in {
            "max_bundle_size=0": "invalid-setting",
            "max_bundles=5": "invalid-setting",
            "num_workers=2": "setting-fixed",
        }.items():
            refused = padstone(server, "set", job, "latency_budget_millis=9", wrong)
            assert refused.returncode == 1 and code in refused.stderr and "hint" in refused.stderr, refused.stderr
        assert settings(server, job) == changed

        server.kill()  # at once: what was answered is durable
        server.start()
        wait(lambda: server.api.job(job)["description"].get("settings"), "the job, taken up again,")
        assert settings(server, job) == changed
        calls = diary.calls().count("finish")
        diary.await_lives(lambda lives: sum(life.count("finish") for life in lives.values()) > calls)
        printed = padstone(server, "describe", job)
        assert rows(printed.stdout, "SETTING")["max_bundle_time_mills"] == ["50", "milliseconds", "set"], printed.stdout

        back = padstone(server, "set", job, "max_bundle_size=default", "max_bundle_time_mills=default", "--json")
        assert back.returncode == 0 and json.loads(back.stdout)["settings"], back.stderr
        assert settings(server, job) == submitted
        texts = [message["text"] for message in server.api.messages(job)]
        assert "max_bundle_size set to 5000, was 70" in texts
        assert "max_bundle_size taken back to 70 (server), was 5000" in texts

        server.api.drain(job)
        assert server.api.wait_state(job) == "DRAINED"
        over = padstone(server, "set", job, "max_bundle_size=5")
        assert over.returncode == 1 and "job-over" in over.stderr


def test_wrong_settings_are_refused_when_a_job_is_submitted(server, diary):
    for option in (
        "--max_bundle_size=-1",
        "--max_bundle_time_mills=0",
        "--parallelism=0",
        "--sdk_worker_parallelism=-2",
    ):
        refused = run_python(server, "lifecycle.py", *LOOPBACK, *diary.flags, option)
        assert refused.returncode != 0
        name = option.partition("=")[0]
        assert f"invalid-option: {name}" in refused.stderr and "docs/tuning.md" in refused.stderr, refused.stderr
    assert not diary.path.exists()


def test_processes_by_cores(server, diary, tmp_path):
    with running(server, diary, [*PROCESS, "--sdk_worker_parallelism=0", "--parallelism=2"], tmp_path) as (_, job):
        description = server.api.job(job)["description"]
        workers = description["workers"]
        (note,) = [one["note"] for one in description["settings"] if one["name"] == "sdk_worker_parallelism"]
        assert 1 <= len(workers) <= 2 and note.startswith(f"{len(workers)}: "), note
        server.api.cancel(job)
        server.api.wait_state(job)


def test_a_profile_of_a_running_job(server, diary, tmp_path):
    flags = [*LOOPBACK, "--sdk_worker_parallelism=3", "--process_seconds=0.05"]
    with running(server, diary, flags, tmp_path) as (_, job):

        def stage() -> dict:
            stages = server.api.job(job)["description"]["stages"]
            return next(stage for stage in stages if "Diary" in "".join(stage["transforms"]))

        wait(lambda: stage()["profile"]["bundles"] > 5 and stage()["profile"]["durable"]["count"] > 0, "a profile")
        text = padstone(server, "describe", job, "--profile").stdout
        slow = stage()
        profile = slow["profile"]
        parts = {(part["group"], part["part"]): part["seconds"] for part in profile["parts"]}
        assert abs(sum(parts.values()) - profile["seconds"]) < 1e-6
        assert max(parts, key=parts.get) == ("harness", "harness"), parts
        assert parts["runner", "prepare"] > 0 and parts["store", "commit"] > 0 and profile["inbox"]["count"] > 0
        assert 0 < profile["millis"]["p50"] <= profile["millis"]["p99"] <= profile["millis"]["max"]

        assert slow["name"] in rows(text, "BUNDLES OF"), text
        assert slow["name"] in rows(text, "STAGE PART"), text
        mine = {
            name: value
            for name, value in server.api.metrics().items()
            if f'job="{job}"' in name and f'stage="{slow["name"]}"' in name
        }
        total = sum(
            value for name, value in mine.items() if name.startswith("padstone_stage_bundle_part_seconds_total{")
        )
        whole = [
            value for name, value in mine.items() if name.startswith("padstone_stage_bundle_duration_seconds_sum{")
        ]
        assert [pytest.approx(total)] == whole and total > 0.999 * profile["seconds"]

        # Its workers are threads of one process, which it is told.
        (warning,) = [m["text"] for m in server.api.messages(job) if "sdk_worker_parallelism is 3" in m["text"]]
        assert "has 1 harness process" in warning
        server.api.cancel(job)
        server.api.wait_state(job)


@pytest.mark.parametrize("most", [1, 7, 300])
def test_bundles_are_no_larger_than_they_may_be(start_server, most):
    server = start_server()
    done = run_python(server, "sizes.py", *LOOPBACK, f"--max_bundle_size={most}")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if ":" not in line]
    sizes = {name: (int(total), int(largest)) for name, total, largest in map(str.split, lines)}
    assert {name: total for name, (total, _) in sizes.items()} == {"shuffled": 2000, "stateful": 2000, "grouped": 90}
    for name, (_, largest) in sizes.items():
        # What waits fills a bundle, but for groups, which come in blocks of their key groups.
        assert largest <= most and (name == "grouped" or largest >= min(most, 200)), (name, largest)
