"""The verifier of `make chaos` itself: outputs that are right, and doctored ones, each fault of which it must find."""

import json
import zlib
from collections import defaultdict

import pytest
from sequences import KINDS, Findings, Payment, Written, numbers_of, ranges, verify

WINDOW_MS = 5_000
START_MS = 1_790_000_000_000
PARTITIONS = 3
MERCHANTS = ("m-1", "m-2")


def sent() -> dict[str, list[Payment]]:
    """Forty payments of each merchant over four windows, some out of order, one late by a window."""
    payments = {}
    for m, merchant in enumerate(MERCHANTS):
        times = [START_MS + n * 500 - (700 if n % 7 == 3 else 0) + m for n in range(40)]
        times[30] -= WINDOW_MS
        payments[merchant] = [Payment(n + 1, max(START_MS, at), 100_000 + n) for n, at in enumerate(times)]
    return payments


class Topic:
    """An output topic in the making."""

    def __init__(self) -> None:
        self.records: list[Written] = []
        self.ends = [0] * PARTITIONS

    def add(self, key: str, value: bytes) -> None:
        partition = zlib.crc32(key.encode()) % PARTITIONS
        self.records.append(Written(partition, self.ends[partition], key.encode(), value))
        self.ends[partition] += 1

    def sealed(self, **fields) -> None:
        head = json.dumps(fields).encode()
        self.add(fields["merchant"], head)
        seal = {name: value for name, value in fields.items() if name != "seqs"}
        self.add(fields["merchant"] + "~seal", json.dumps({**seal, "sum": zlib.crc32(head)}).encode())


GAP_MS = 900  # of sessions; most payments lie 500 ms apart, those beside one out of order 1200


def sessions() -> dict[tuple[int, str], list[Payment]]:
    found = {}
    for merchant, payments in sent().items():
        end = 0
        for payment in sorted(payments, key=lambda payment: payment.time_ms):
            if payment.time_ms >= end:
                start = payment.time_ms
            found.setdefault((start, merchant), []).append(payment)
            end = payment.time_ms + GAP_MS
    return dict(sorted(found.items()))


def windows(variant: str = "") -> dict[tuple[int, str], list[Payment]]:
    if variant == "sessions":
        return sessions()
    found = defaultdict(list)
    for merchant, payments in sent().items():
        for payment in payments:
            found[payment.time_ms // WINDOW_MS * WINDOW_MS, merchant].append(payment)
    return dict(sorted(found.items()))


def panes(variant: str) -> Topic:
    """One pane on time, or three that accumulate, or three that share the payments."""
    topic = Topic()
    one = variant in ("event-time", "sessions")
    for (window, merchant), payments in windows(variant).items():
        cuts = [len(payments)] if one else [len(payments) // 3, len(payments) // 2, len(payments)]
        begin = 0
        for n, cut in enumerate(cuts):
            inside = payments[begin:cut]
            begin = cut if variant in ("discarding", "timers") else 0
            timing = "ON_TIME" if n == len(cuts) - 1 else "EARLY"
            paise, seqs = sum(p.paise for p in inside), ranges(p.seq for p in inside)
            fields = {"merchant": merchant, "pane": n, "timing": timing, "total": paise}
            if variant == "payments":
                topic.add(merchant, json.dumps({**fields, "window_start_ms": window}).encode())
            else:
                topic.sealed(kind="pane", window=window, seqs=seqs, **fields)
    return topic


def stateful() -> Topic:
    topic = Topic()
    for merchant, payments in sent().items():
        for n, payment in enumerate(payments):
            topic.sealed(kind="number", merchant=merchant, n=n + 1, seq=payment.seq, total=payment.paise)
    for (window, merchant), payments in windows().items():
        paise = sum(p.paise for p in payments)
        topic.sealed(kind="count", merchant=merchant, window=window, count=len(payments), total=paise)
    return topic


def honest(variant: str) -> list[Written]:
    return (stateful() if variant == "stateful" else panes(variant)).records


VARIANTS = ("event-time", "sessions", "processing-time", "discarding", "late", "stateful", "timers", "payments")


def verified(variant: str, records: list[Written]) -> Findings:
    return verify(variant, sent(), records, GAP_MS if variant == "sessions" else WINDOW_MS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_right_is_found_right(variant):
    found = verified(variant, honest(variant))
    assert found.lines() == []
    assert found.payments == 80 and found.results > 0


def heads(records: list[Written]) -> list[int]:
    return [n for n, record in enumerate(records) if not record.key.endswith(b"~seal")]


def edited(record: Written, **changes) -> Written:
    return record._replace(value=json.dumps({**json.loads(record.value), **changes}).encode())


def with_result(records: list[Written], head: int, **changes) -> list[Written]:
    """A result with other fields, seal included."""
    doctored = list(records)
    doctored[head] = edited(records[head], **changes)
    changes.pop("seqs", None)
    doctored[head + 1] = edited(records[head + 1], **changes, sum=zlib.crc32(doctored[head].value))
    return doctored


def kinds(variant: str, records: list[Written]) -> set[str]:
    found = verified(variant, records)
    assert {kind for kind, _ in found.found} <= set(KINDS)
    assert found.clean == (not found.lines())
    return {kind for kind in KINDS if found.count(kind)}


SEALED = tuple(variant for variant in VARIANTS if variant != "payments")


@pytest.mark.parametrize("variant", SEALED)
def test_a_missing_result_is_lost(variant):
    records = honest(variant)
    for at in heads(records):
        assert "lost" in kinds(variant, records[:at] + records[at + 2 :]), records[at]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_result_that_is_there_twice_is_doubled(variant):
    records = honest(variant)
    size = 1 if variant == "payments" else 2
    for at in heads(records):
        again = [r._replace(offset=1000 + r.offset) for r in records[at : at + size]]
        assert "doubled" in kinds(variant, records + again), records[at]


@pytest.mark.parametrize("variant", SEALED)
def test_half_a_result_is_torn(variant):
    records = honest(variant)
    for at in range(len(records)):
        assert "torn" in kinds(variant, records[:at] + records[at + 1 :]), records[at]


@pytest.mark.parametrize("variant", SEALED)
def test_a_head_that_its_seal_does_not_fit_is_torn(variant):
    records = honest(variant)
    records[0] = edited(records[0], total=1)
    assert "torn" in kinds(variant, records)


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "late"])
def test_results_of_a_key_in_another_order_are_disorder(variant):
    records = honest(variant)
    mine = [at for at in heads(records) if records[at].key == b"m-1"]
    first, second = mine[0], mine[1]
    records[first], records[second] = (
        records[first]._replace(offset=records[second].offset),
        records[second]._replace(offset=records[first].offset),
    )
    assert kinds(variant, records) == {"disorder"}


@pytest.mark.parametrize("variant", ["event-time", "sessions", "processing-time", "late"])
def test_a_payment_that_is_missing_or_counted_twice(variant):
    records = honest(variant)
    at = heads(records)[-1]
    fields = json.loads(records[at].value)
    numbers = numbers_of(fields["seqs"])
    paise = {p.seq: p.paise for p in sent()[fields["merchant"]]}
    fewer, more = numbers[1:], [*numbers, numbers[0]]
    lost = with_result(records, at, seqs=ranges(fewer), total=sum(paise[n] for n in fewer))
    assert kinds(variant, lost) == {"lost"}
    twice = with_result(records, at, seqs=ranges(more), total=sum(paise[n] for n in more))
    assert kinds(variant, twice) == {"doubled"}
    assert kinds(variant, with_result(records, at, total=fields["total"] + 1)) == {"wrong"}
    other = [*numbers[1:], 999]
    assert kinds(variant, with_result(records, at, seqs=ranges(other), total=sum(paise.get(n, 0) for n in other))) == {
        "lost",
        "wrong",
    }


def test_sessions_that_were_not_merged():
    """A session that is in two windows: the second is not one, and the first lacks what is in it."""
    records = honest("sessions")
    at = next(at for at in heads(records) if len(numbers_of(json.loads(records[at].value)["seqs"])) > 3)
    fields = json.loads(records[at].value)
    numbers = numbers_of(fields["seqs"])
    paise = {p.seq: p.paise for p in sent()[fields["merchant"]]}

    def part(some: list[int], **changes) -> list[Written]:
        return with_result(records, at, seqs=ranges(some), total=sum(paise[n] for n in some), **changes)

    first, second = part(numbers[:2]), part(numbers[2:], window=fields["window"] + 1000)
    again = [record._replace(offset=1000 + record.offset) for record in second[at : at + 2]]
    assert {"lost", "wrong"} <= kinds("sessions", first + again)


def test_a_timer_of_event_time_that_fired_never_or_twice():
    records = honest("timers")
    at = next(at for at in heads(records) if json.loads(records[at].value)["timing"] == "ON_TIME")
    assert kinds("timers", with_result(records, at, timing="EARLY")) == {"wrong"}
    before = next(at for at in heads(records) if json.loads(records[at].value)["timing"] == "EARLY")
    assert kinds("timers", with_result(records, before, timing="ON_TIME")) == {"wrong"}


def test_a_payment_in_two_panes_that_discard():
    records = honest("discarding")
    first, second = heads(records)[:2]
    here = [n for at in (first, second) for n in numbers_of(json.loads(records[at].value)["seqs"])]
    paise = {p.seq: p.paise for p in sent()["m-1"]}
    doctored = with_result(records, second, seqs=ranges(here), total=sum(paise[n] for n in here))
    assert kinds("discarding", doctored) == {"doubled"}


def test_an_early_pane_with_more_than_the_last():
    records = honest("processing-time")
    first = heads(records)[0]
    paise = {p.seq: p.paise for p in sent()["m-1"]}
    assert kinds("processing-time", with_result(records, first, seqs="40", total=paise[40])) == {"lost", "wrong"}


@pytest.mark.parametrize("variant", ["event-time", "processing-time", "stateful"])
def test_an_input_that_has_a_payment_twice_counts_it_twice(variant):
    payments = sent()
    payments["m-1"].append(payments["m-1"][0])
    found = verify(variant, payments, honest(variant), WINDOW_MS)
    assert found.count("lost") > 0 and found.count("doubled") == 0


def test_numbers_of_state_that_went_back():
    """A server that lost its last commits and computes them anew would give the same number to another payment."""
    records = honest("stateful")
    at = heads(records)[5]
    assert kinds("stateful", with_result(records, at, seq=5, total=100_004)) == {"lost", "doubled"}
    assert kinds("stateful", with_result(records, at, n=5)) == {"lost", "doubled"}
    assert kinds("stateful", with_result(records, at, total=1)) == {"wrong"}


def test_a_timer_that_finds_less_or_more_in_its_state():
    records = honest("stateful")
    at = heads(records)[-1]
    fields = json.loads(records[at].value)
    assert kinds("stateful", with_result(records, at, count=fields["count"] - 1)) == {"lost"}
    assert kinds("stateful", with_result(records, at, count=fields["count"] + 1)) == {"doubled"}
    assert kinds("stateful", with_result(records, at, total=fields["total"] + 1)) == {"wrong"}


def test_totals_of_the_demo():
    records = honest("payments")
    assert kinds("payments", records[:1] + records[2:]) == {"lost"}
    assert kinds("payments", records[:-1]) == {"wrong"}
    assert kinds(
        "payments", [edited(records[-1], total=5) if n == len(records) - 1 else r for n, r in enumerate(records)]
    ) == {"wrong"}


def test_the_sequences_of_a_key_are_listed():
    records = honest("processing-time")
    at = heads(records)[2]
    found = verify("processing-time", sent(), records[:at] + records[at + 2 :], WINDOW_MS)
    text = "\n".join(found.lines())
    assert "sequences of m-1 window" in text
    assert "expected 11 payments" in text and "1-" in text and "pane 0 EARLY at" in text


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([3], "3"), ([1, 2, 3, 7], "1-3,7"), ([5, 1, 2, 2, 3], "1-2,2-3,5"), ([4, 4], "4,4")],
)
def test_short_form_of_numbers(numbers, text):
    assert ranges(numbers) == text
    assert sorted(numbers_of(text)) == sorted(numbers)


def test_the_pipeline_writes_the_same_short_form():
    import pipeline

    for numbers in ([], [1, 2, 3, 9], [7, 7, 8]):
        assert pipeline.ranges(numbers) == ranges(numbers)
