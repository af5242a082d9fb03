"""DoFns whose elements wait for something: more of them side by side than a process has bundles in flight otherwise."""

from pathlib import Path

from conftest import LOOPBACK, run_python

DEFAULT = 3  # bundles that a process has in flight


def most_at_once(diary: Path) -> int:
    most = now = 0
    for mark in diary.read_text():
        now += 1 if mark == "+" else -1
        most = max(most, now)
    return most


def test_elements_that_wait(server, tmp_path) -> None:
    """All elements come in one block, and one process has them: enough for a machine that is slow to notice."""
    diary = tmp_path / "diary"
    flags = [*LOOPBACK, "--sdk_worker_parallelism=1", "--elements=600", f"--diary={diary}"]
    done = run_python(server, "waiting.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "elements: 600" in done.stdout
    assert diary.read_text().count("+") >= 600
    assert most_at_once(diary) >= 2 * DEFAULT
