"""The demo: its parts alone, then the whole of it in both forms."""

import json
import subprocess
import sys
from pathlib import Path

import payments
import pytest
from generate import MERCHANTS, Generator, Shape
from server import ROOT
from verify import Pane, Panes, differences, expected_totals, large_payment
from waits import PATIENCE

SHAPE = Shape(payments=3000, partitions=3, base_ms=1_790_000_100_000, window_ms=300_000, lateness_ms=600_000)
WINDOW = SHAPE.base_ms


def everything(shape: Shape, seed: int, ordered_windows: bool):
    generator = Generator(shape, seed, ordered_windows)
    yield from (records for _, records in generator.main_slices())
    yield from (generator.advance(shape.after_end_ms), generator.late(), generator.advance(shape.after_lateness_ms))
    yield from (generator.too_late(), generator.tail())


def test_a_seed_gives_the_same_payments():
    assert list(everything(SHAPE, 7, False)) == list(everything(SHAPE, 7, False))
    assert list(everything(SHAPE, 7, False)) != list(everything(SHAPE, 8, False))


def test_slices_are_out_of_order_but_never_more_than_one_slice_late():
    newest, disorder = SHAPE.base_ms, 0
    for end_ms, records in Generator(SHAPE, 1, False).main_slices():
        times = [record.timestamp_ms for record in records]
        assert min(times) >= newest - 2 * SHAPE.slice_ms
        assert max(times) < end_ms
        disorder += sum(later < earlier for earlier, later in zip(times, times[1:], strict=False))
        newest = max(newest, *times)
    assert disorder > SHAPE.payments // 4


def test_without_a_late_trigger_no_window_is_overtaken():
    newest_window = 0
    for _, records in Generator(SHAPE, 1, True).main_slices():
        windows = {record.timestamp_ms // SHAPE.window_ms for record in records}
        assert min(windows) >= newest_window
        newest_window = max(windows)


def test_every_partition_gets_records_in_every_phase():
    for records in everything(SHAPE, 1, False):
        assert {record.partition for record in records} == set(range(SHAPE.partitions))


def test_late_payments_are_late_but_not_too_late():
    generator = Generator(SHAPE, 1, False)
    for record in generator.late():
        end = record.timestamp_ms - record.timestamp_ms % SHAPE.window_ms + SHAPE.window_ms
        assert end <= SHAPE.after_end_ms < end + SHAPE.lateness_ms
    for record in generator.too_late():
        end = record.timestamp_ms - record.timestamp_ms % SHAPE.window_ms + SHAPE.window_ms
        assert end + SHAPE.lateness_ms < SHAPE.after_lateness_ms
    assert all(record.timestamp_ms >= SHAPE.tail_start_ms > SHAPE.after_lateness_ms for record in generator.tail())


@pytest.mark.parametrize(
    ("value", "payment"),
    [
        (b'{"merchant":"m","method":"upi","amount":100000,"event_time_ms":5}', ("m", 100_000, 5)),
        (b'{"merchant":"m","method":"upi","amount":99999,"event_time_ms":5}', None),
        (b'{"merchant":"m","method":"card","amount":900000,"event_time_ms":5}', None),
        (b'{"merchant":"m","method":"upi","amount":"lots","event_time_ms":5}', None),
        (b'{"method":"upi","amount":900000,"event_time_ms":5}', None),
        (b"[1, 2]", None),
        (b"\xff\xfe", None),
        (b"", None),
    ],
)
def test_pipeline_and_proof_agree_on_what_a_large_payment_is(value, payment):
    assert large_payment(value, 100_000) == payment
    parsed = [
        p for p in payments.ParsePayment().process((b"", value)) if p["method"] == "upi" and p["amount"] >= 100_000
    ]
    assert [(p["merchant"], p["amount"], p["event_time_ms"]) for p in parsed] == ([payment] if payment else [])


def record(merchant: str, amount: int, time_ms: int) -> bytes:
    return json.dumps({"merchant": merchant, "method": "upi", "amount": amount, "event_time_ms": time_ms}).encode()


def test_excluded_offsets_count_only_large_payments():
    records = [
        (0, 0, record("a", 200_000, WINDOW)),
        (0, 1, record("a", 300_000, WINDOW + 299_999)),
        (0, 2, record("a", 1, WINDOW)),
        (1, 1, record("a", 400_000, WINDOW + 300_000)),
    ]
    totals, left_out = expected_totals(records, 300_000, 100_000, {0: [(1, 3)]})
    assert totals == {("a", WINDOW): 200_000, ("a", WINDOW + 300_000): 400_000}
    assert left_out == 1


EXPECTED = {("a", WINDOW): 5}


@pytest.mark.parametrize(
    ("panes", "complaint"),
    [
        ([Pane("a", WINDOW, 3, 0, "EARLY"), Pane("a", WINDOW, 5, 1, "ON_TIME")], None),
        ([Pane("a", WINDOW, 5, 1, "ON_TIME"), Pane("a", WINDOW, 3, 0, "EARLY")], None),
        ([Pane("a", WINDOW, 5, 0, "ON_TIME"), Pane("a", WINDOW, 5, 0, "ON_TIME")], None),
        ([], "no pane"),
        ([Pane("a", WINDOW, 4, 0, "ON_TIME")], "expected 5, got 4"),
        ([Pane("a", WINDOW, 5, 0, "ON_TIME"), Pane("a", WINDOW, 6, 1, "LATE")], "expected 5, got 6"),
        ([Pane("a", WINDOW, 5, 1, "ON_TIME")], "panes [0] are missing"),
        ([Pane("a", WINDOW, 5, 0, "ON_TIME"), Pane("b", WINDOW, 1, 0, "ON_TIME")], "expected nothing"),
        ([Pane("a", WINDOW, 4, 0, "EARLY"), Pane("a", WINDOW, 5, 0, "EARLY")], "was written as"),
    ],
)
def test_every_kind_of_difference_is_found(panes, complaint):
    seen = Panes()
    for pane in panes:
        seen.add(pane)
    found = differences(EXPECTED, seen)
    assert (complaint is None and found == []) or any(complaint in line for line in found)


def run_demo(*arguments: str) -> subprocess.CompletedProcess:
    command = [
        sys.executable,
        str(ROOT / "demo" / "run.py"),
        "--pace-seconds",
        "0.4",
        "--early-seconds",
        "1",
        *arguments,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE)


@pytest.mark.parametrize("late", ["1", "0"])
def test_the_whole_demo(late):
    done = run_demo("--late", late, "--payments", "6000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"all {(SHAPE.windows + 1) * len(MERCHANTS)} totals are exact" in done.stdout
    assert "EARLY" in done.stdout and "ON_TIME" in done.stdout
    assert ("LATE" in done.stdout) == (late == "1")


def test_the_demo_without_its_broker_says_so():
    done = run_demo("--bootstrap", "127.0.0.1:1")
    assert done.returncode == 1
    assert "no Kafka broker answers at 127.0.0.1:1" in done.stderr


def test_the_pipeline_knows_nothing_about_padstone():
    assert "padstone" not in (Path(payments.__file__).read_text()).lower()
