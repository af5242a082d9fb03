"""`padstone bench` with Padstone alone: what it says must fit together; how quick the machine is does not matter."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import PIPELINES
from server import BINARY


def bench(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess:
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
        assert elements / point["seconds"] == pytest.approx(point["elements_per_second"])
        assert point["seconds"] * 1000 / point["bundles"] == pytest.approx(point["wall_ms_per_bundle"])
        assert 0 < point["latency_p50_ms"] <= point["latency_p99_ms"] <= point["seconds"] * 1000
        if point["harness_cpu_ms_per_bundle"] is not None:
            assert point["harness_cpu_ms_per_bundle"] * 1000 / point["bundle_elements"] == pytest.approx(
                point["harness_cpu_us_per_element"]
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


def test_bundles_of_a_length_in_time(tmp_path):
    curve, _ = bundles(tmp_path, "--times=20ms", "--in-flight=1", "--element-bytes=1000")
    (point,) = curve["points"]
    assert point["wanted_ms"] == 20 and point["bundle_elements"] > 1
    check_points(curve)


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
        (["--image=beam:latest"], 1, "bench-image"),
        (["--sizes=0"], 64, "--sizes: 0"),
        (["--sizes=1", "--times=1ms"], 64, "exclude each other"),
        (["--stage=x"], 64, "--stage needs a --script"),
        (["--python=/nowhere/python"], 1, "python-not-found"),
        ([f"--script={PIPELINES / 'no_job.py'}"], 1, "bench-script"),
        ([f"--script={PIPELINES / 'stages.py'}", "--stage=Run", "--", "nowhere"], 1, 'stage "Run" cannot be kept busy'),
        ([f"--script={PIPELINES / 'stages.py'}", "--stage=nothing", "--", "nowhere"], 1, "0 stages have a transform"),
        ([f"--script={PIPELINES / 'stages.py'}", "--", "x", "--environment_type=DOCKER"], 64, "--environment_type"),
    ],
)
def test_what_cannot_be_measured_is_refused(tmp_path, arguments, code, say):
    ended = bench("bundles", f"--python={sys.executable}", f"--out={tmp_path}", *arguments)
    assert ended.returncode == code, ended.stderr
    assert say in ended.stderr
    assert not list(tmp_path.iterdir())


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
    deadline = time.monotonic() + 30
    while not (started := children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert started, "no harness has been started"
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert not [child for child in started if child.exists()], "a harness was left behind"
    assert not list(tmp_path.iterdir())
