"""`padstone bench` with Padstone alone: what it says must fit together; how quick the machine is does not matter."""

import argparse
import importlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PIPELINES
from docker_engine import HARNESS
from server import BINARY
from waits import PATIENCE, wait


def bench(*arguments: str, timeout: float = PATIENCE) -> subprocess.CompletedProcess:
    command = [str(BINARY), "bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)


def bundles(out: Path, *arguments: str) -> tuple[dict, subprocess.CompletedProcess]:
    """Runs a short measurement; returns what it saved."""
    short = ["--seconds=0.3", f"--out={out}", f"--python={sys.executable}"]
    ended = bench("bundles", *short, *arguments)
    assert ended.returncode == 0, ended.stderr
    page = (out / "bundles.html").read_text()
    assert page.count("<svg") == 3 and "://" not in page
    return json.loads((out / "bundles.json").read_text()), ended


def check_points(curve: dict) -> None:
    for point in curve["points"]:
        elements = point["bundle_elements"] * point["bundles"]
        assert point["bundles"] >= 4
        rounding = 0.5 / point["bundle_elements"]  # the size is a mean where an engine made the bundles
        assert elements / point["seconds"] == pytest.approx(point["elements_per_second"], rel=rounding)
        assert point["seconds"] * 1000 / point["bundles"] == pytest.approx(point["wall_ms_per_bundle"])
        assert 0 < point["latency_p50_ms"] <= point["latency_p99_ms"]
        if point["harness_cpu_ms_per_bundle"] is not None:
            assert point["harness_cpu_ms_per_bundle"] * 1000 / point["bundle_elements"] == pytest.approx(
                point["harness_cpu_us_per_element"], rel=rounding
            )
            # One interpreter does not compute for longer than there was time, by much: its gRPC threads may.
            assert point["harness_cpu_ms_per_bundle"] < 3 * point["wall_ms_per_bundle"] + 10 / point["bundles"]


def test_bundles_of_the_built_in_stage(tmp_path):
    curve, ended = bundles(tmp_path, "--sizes=100,1")
    assert [p["bundle_elements"] for p in curve["points"]] == [1, 100]
    assert "identity" in curve["stage"] and curve["bundles_in_flight"] == 2
    check_points(curve)
    fit = curve["wall_fit"]
    for point in curve["points"]:  # a line through two points
        assert fit["fixed_ms_per_bundle"] + fit["us_per_element"] * point["bundle_elements"] / 1000 == pytest.approx(
            point["wall_ms_per_bundle"], rel=max(0.01, 2 * fit["residual_max"])
        )
    assert 0 <= curve["advice"]["recommended_size"] <= 100 and curve["advice"]["text"] in ended.stdout
    assert "2 of 2: bundles of 100 elements" in ended.stderr
    assert re.search(r"about \d+s", ended.stderr)


def test_bundles_of_a_container(docker_engine, tmp_path):
    curve, _ = bundles(tmp_path, "--sizes=1,100", f"--image={HARNESS}")
    assert curve["image"] == HARNESS and curve["harness_peak_bytes"] > 10_000_000
    assert all(point["harness_cpu_ms_per_bundle"] > 0 for point in curve["points"])
    check_points(curve)


def test_bundles_of_a_length_in_time(tmp_path):
    # Long enough that even a machine that is very busy has a bundle of one element done earlier.
    curve, _ = bundles(tmp_path, "--times=400ms", "--in-flight=1", "--element-bytes=1000")
    (point,) = curve["points"]
    assert point["wanted_ms"] == 400 and point["bundle_elements"] > 1
    check_points(curve)


def test_a_stage_with_state(tmp_path):
    marker = tmp_path / "written"
    script = f"--script={PIPELINES / 'stages.py'}"
    curve, ended = bundles(tmp_path, script, "--stage=Run", "--sizes=1,20", "--", str(marker))
    assert curve["stage"] == "Run" and curve["engine_for"] == "state" and 'stage "Run" needs state' in ended.stderr
    check_points(curve)
    for point, size in zip(curve["points"], [1, 20], strict=True):
        assert point["max_bundle_size"] == size and size / 2 <= point["bundle_elements"] <= size * 2
        assert 0 < point["harness_share"] <= 1.01
    assert not marker.exists(), "what lies behind the stage has run"


@pytest.mark.parametrize(("stage", "count"), [("", 500), ("Sum", 5)])
def test_a_stage_of_a_script(tmp_path, stage, count):
    marker = tmp_path / "written"
    chosen = [f"--stage={stage}"] if stage else []
    curve, ended = bundles(tmp_path, f"--script={PIPELINES / 'stages.py'}", *chosen, "--sizes=1,50", "--", str(marker))
    check_points(curve)
    assert (stage or "Spell") in curve["stage"]
    assert f"with {count} elements" in ended.stderr
    assert not marker.exists(), "what lies behind the stage has run"


@pytest.mark.parametrize(
    ("arguments", "code", "say"),
    [
        (["--image=nowhere.invalid/none:1"], 1, "docker-no-"),
        (["--sizes=0"], 64, "--sizes: 0"),
        (["--sizes=1", "--times=1ms"], 64, "exclude each other"),
        (["--stage=x"], 64, "--stage needs a --script"),
        (["--python=/nowhere/python"], 1, "python-not-found"),
        ([f"--script={PIPELINES / 'no_job.py'}"], 1, "bench-script"),
        ([f"--script={PIPELINES / 'stages.py'}", "--stage=Group", "--", "nowhere"], 1, "runs in the runner"),
        ([f"--script={PIPELINES / 'stages.py'}", "--stage=nothing", "--", "nowhere"], 1, "0 stages have a transform"),
        ([f"--script={PIPELINES / 'stages.py'}", "--", "x", "--environment_type=DOCKER"], 64, "--environment_type"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, arguments, code, say):
    ended = bench("bundles", f"--python={sys.executable}", f"--out={tmp_path}", *arguments)
    assert ended.returncode == code, ended.stderr
    assert say in ended.stderr
    assert not list(tmp_path.iterdir())


def compared(out: Path) -> dict:
    page = (out / "peers.html").read_text()
    assert "://" not in page
    return json.loads((out / "peers.json").read_text())


def test_padstone_as_its_only_peer(tmp_path):
    ended = bench(
        *["peers", "--case=reshuffle,empty", "--elements=small", "--runs=1", "--timeout=140s"],
        *[f"--out={tmp_path}", f"--python={sys.executable}"],
    )
    assert ended.returncode == 0, ended.stderr
    assert "2 of 2: reshuffle on padstone (run 1 of 1)" in ended.stderr
    result = compared(tmp_path)
    assert [r["case"] for r in result["runs"]] == ["empty", "reshuffle"]
    for run in result["runs"]:
        assert 0 < run["seconds"] < 140
        assert 0 < run["harness_cpu_s"] < 140 and run["harness_peak_bytes"] > 50 << 20  # a Python with apache-beam
        if Path("/proc/self/stat").exists():
            assert 0 <= run["runner_cpu_s"] < 30 and run["runner_peak_bytes"] > 10 << 20
    (empty, reshuffle) = result["cells"]
    assert (empty["case"], empty["runs"], empty["elements"]) == ("empty", 1, 1)
    assert (reshuffle["case"], reshuffle["runs"], reshuffle["elements"]) == ("reshuffle", 1, 15_000)
    assert reshuffle["harness_cpu_us_per_element"] == pytest.approx(
        (reshuffle["harness_cpu_s"] - empty["harness_cpu_s"]) * 1e6 / 15_000
    )
    assert empty["ratio"] == 1


def test_cases_verify_their_results(tmp_path, server):
    ended = bench(
        *["peers", "--case=gbk,mission,state,side_multimap,latency", "--elements=small", "--runs=1", "--timeout=140s"],
        f"--out={tmp_path}",
        *[f"--python={sys.executable}", f"--endpoint=here={server.job_endpoint}"],
        timeout=2 * PATIENCE,
    )
    assert ended.returncode == 0, ended.stderr
    result = compared(tmp_path)
    assert result["peers"][0]["pid"] == server.process.pid or not Path("/proc/self/stat").exists()
    assert len(result["cells"]) == 6 and all("error" not in cell for cell in result["cells"])
    latency = result["cells"][-1]
    assert 20 <= len(result["runs"][-1]["latencies_ms"]) <= 21
    assert 0 < latency["latency_p50_ms"] <= latency["latency_p99_ms"]


def test_a_peer_that_fails_is_shown_as_failed(tmp_path, server):
    wrong = f"--endpoint=wrong={server.endpoints['expansion']}"  # a gRPC server, but of another service
    ended = bench(
        *["peers", "--case=empty", "--elements=small", "--runs=2", "--timeout=140s", f"--out={tmp_path}"],
        *[wrong, f"--endpoint=right={server.job_endpoint}", f"--python={sys.executable}"],
    )
    assert ended.returncode == 1
    failed, succeeded = compared(tmp_path)["cells"]
    assert failed["peer"] == "wrong" and failed["runs"] == 1 and failed["error"], "it was tried again, or not at all"
    assert succeeded["peer"] == "right" and succeeded["runs"] == 2 and "error" not in succeeded
    assert f"wrong failed empty: {failed['error']}" in ended.stdout


def test_a_result_that_is_wrong_is_said_to_be(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BINARY.parent.parent / "internal/bench/peers/load"))
    cases = importlib.import_module("padstone_load.cases")
    client = importlib.import_module("padstone_load.__main__")
    verdict = tmp_path / "verdict"
    asked = argparse.Namespace(case="gbk", directory=tmp_path)
    with pytest.raises(ValueError, match="nothing has arrived"):
        client.judge(asked)
    with pytest.raises(ValueError, match="wrong result: 6 instead of 7"):
        cases.judge((0, 6), 7, str(verdict))
    with pytest.raises(ValueError, match="wrong result: 6 instead of 7"):
        client.judge(asked)
    cases.judge((0, 7), 7, str(verdict))
    client.judge(asked)
    (tmp_path / "latencies").write_text("0.001\n" * 19)
    with pytest.raises(ValueError, match="19 of 20"):
        client.judge(argparse.Namespace(case="latency", directory=tmp_path, seconds=2))


def test_nothing_answers_for_a_peer(tmp_path):
    ended = bench("peers", "--endpoint=gone=localhost:1", f"--out={tmp_path}", f"--python={sys.executable}")
    assert ended.returncode == 1 and "bench-peer" in ended.stderr and "gone" in ended.stderr


def children(pid: int) -> list[Path]:
    """The processes in /proc that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended meanwhile
            continue
        if parent == pid:
            found.append(stat.parent)
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="only Linux says which processes there are")
def test_interrupted(tmp_path):
    command = [str(BINARY), "bench", "bundles", "--seconds=60", f"--python={sys.executable}", f"--out={tmp_path}"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert any("1 of 6" in line for line in process.stderr)
    started = wait(lambda: children(process.pid), "a harness")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 130
    assert not [child for child in started if child.exists()], "a harness was left behind"
    assert not list(tmp_path.iterdir())
