"""Compares what the main job has written with what went in, payment by payment. Knows neither Beam nor Padstone.

Every payment has a number, counted per merchant, and every result lists the numbers behind it. What is wrong falls
under five heads: lost, doubled, torn (part of a bundle's output), disorder, and wrong for anything else. For a key with
anything wrong, `Findings.sequences` has what was expected and what was written, record by record.
"""

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

SEAL = b"~seal"
PANES = ("event-time", "sessions", "processing-time", "discarding", "late", "timers")
VARIANTS = (*PANES, "stateful", "payments")
ONE_PANE = ("event-time", "sessions")  # what is written depends on input and event time alone
PARTS = ("discarding", "timers")  # each payment is in one pane of its window
KINDS = ("lost", "doubled", "torn", "disorder", "wrong")


class Payment(NamedTuple):
    seq: int
    time_ms: int
    paise: int


class Written(NamedTuple):
    """A record of the output topic, as a reader of committed records gets it."""

    partition: int
    offset: int
    key: bytes
    value: bytes


def ranges(numbers: Iterable[int]) -> str:
    """The short form of pipeline.py, computed independently of it."""
    text, ordered = [], sorted(numbers)
    first = 0
    for n in range(1, len(ordered) + 1):
        if n == len(ordered) or ordered[n] != ordered[n - 1] + 1:
            text.append(str(ordered[first]) if n - first == 1 else f"{ordered[first]}-{ordered[n - 1]}")
            first = n
    return ",".join(text)


def numbers_of(text: str) -> list[int]:
    """Reads the short form back; a number that stands there twice comes twice."""
    numbers: list[int] = []
    for run in filter(None, text.split(",")):
        first, _, last = run.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers


@dataclass
class Findings:
    found: list[tuple[str, str]] = field(default_factory=list)  # (kind, what)
    sequences: dict[str, list[str]] = field(default_factory=dict)  # of keys with anything wrong
    payments: int = 0
    results: int = 0

    def add(self, kind: str, what: str) -> None:
        self.found.append((kind, what))

    def count(self, kind: str) -> int:
        return sum(found == kind for found, _ in self.found)

    @property
    def clean(self) -> bool:
        return not self.found

    def lines(self, most: int = 20) -> list[str]:
        """What is wrong, then the sequences of the first keys with anything wrong."""
        out = [f"{kind.upper()} {what}" for kind, what in self.found[:most]]
        if len(self.found) > most:
            out.append(f"... and {len(self.found) - most} more")
        for key, rows in list(self.sequences.items())[:3]:
            out += [f"sequences of {key}:", *(f"  {row}" for row in rows[:60])]
        return out


Sent = dict[str, list[Payment]]  # by merchant; a payment that is in the input twice stands there twice
Row = tuple[Written, dict]  # a record with its parsed value


def verify(variant: str, sent: Sent, output: Iterable[Written], window_ms: int) -> Findings:
    """Of the variant "sessions", window_ms is the gap between them."""
    findings = Findings(payments=sum(map(len, sent.values())))
    rows = list(_parsed(output, findings))
    if variant != "payments":
        rows = _unseal(rows, findings)
    findings.results = len(rows)
    rows.sort(key=lambda row: (row[0].partition, row[0].offset))
    if variant == "stateful":
        _check_numbers(sent, [row for row in rows if row[1]["kind"] == "number"], findings)
        _check_counts(sent, [row for row in rows if row[1]["kind"] == "count"], window_ms, findings)
    else:
        _check_panes(variant, sent, rows, window_ms, findings)
    return findings


def _parsed(output: Iterable[Written], findings: Findings) -> Iterator[Row]:
    for record in output:
        try:
            yield record, json.loads(record.value)
        except ValueError:
            findings.add("wrong", f"{record.key!r} at {_at(record)} is not JSON: {record.value[:80]!r}")


def _at(record: Written) -> str:
    return f"{record.partition}:{record.offset}"


def _name(fields: dict) -> str:
    """Names a result; no two of a run have the same name."""
    if fields["kind"] == "number":
        return f"number {fields['n']} of {fields['merchant']}"
    pane = f" pane {fields['pane']}" if fields["kind"] == "pane" else " count"
    return f"{fields['merchant']} window {fields['window']}{pane}"


def _unseal(rows: list[Row], findings: Findings) -> list[Row]:
    """Returns the heads, each of which must have its seal, and the other way round."""
    heads = [row for row in rows if not row[0].key.endswith(SEAL)]
    seals = [row for row in rows if row[0].key.endswith(SEAL)]
    wanted = Counter((_name(fields), zlib.crc32(record.value)) for record, fields in heads)
    there = Counter((_name(fields), fields["sum"]) for _, fields in seals)
    for (name, _), count in (wanted - there).items():
        findings.add("torn", f"{name}: {count} of its heads without a seal")
    for (name, _), count in (there - wanted).items():
        findings.add("torn", f"{name}: {count} of its seals without a head")
    return heads


def _check_unique(names: Iterable[str], findings: Findings) -> set[str]:
    """Reports results that were written more than once and returns their names."""
    twice = {name: count for name, count in Counter(names).items() if count > 1}
    for name, count in twice.items():
        findings.add("doubled", f"{name} was written {count} times")
    return set(twice)


def _windows(sent: Sent, window_ms: int) -> dict[tuple[str, int], list[Payment]]:
    windows: dict[tuple[str, int], list[Payment]] = defaultdict(list)
    for merchant, payments in sent.items():
        for payment in payments:
            windows[merchant, payment.time_ms - payment.time_ms % window_ms].append(payment)
    return windows


def _sessions(sent: Sent, gap_ms: int) -> dict[tuple[str, int], list[Payment]]:
    """A payment whose time is less than the gap behind the one before it is in the same session."""
    sessions: dict[tuple[str, int], list[Payment]] = {}
    for merchant, payments in sent.items():
        ordered = sorted(payments, key=lambda payment: payment.time_ms)
        for n, payment in enumerate(ordered):
            if n == 0 or payment.time_ms - ordered[n - 1].time_ms >= gap_ms:
                session = sessions.setdefault((merchant, payment.time_ms), [])
            session.append(payment)
    return sessions


# ---- panes ----


def _check_panes(variant: str, sent: Sent, rows: list[Row], window_ms: int, findings: Findings) -> None:
    if variant == "payments":  # the demo's own output has sums, no numbers
        for _, fields in rows:
            fields.update(kind="pane", window=fields["window_start_ms"])
    expected = (_sessions if variant == "sessions" else _windows)(sent, window_ms)
    written: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for row in rows:
        written[row[1]["merchant"], row[1]["window"]].append(row)
    _check_unique((_name(fields) for _, fields in rows), findings)
    for key in sorted(expected.keys() | written.keys(), key=lambda key: (key[1], key[0])):
        before = len(findings.found)
        name = f"{key[0]} window {key[1]}"
        _check_window(variant, name, expected.get(key, []), written.get(key, []), findings)
        if len(findings.found) > before:
            findings.sequences[name] = _window_sequences(expected.get(key, []), written.get(key, []))
    if variant in ONE_PANE:
        _check_ascending(rows, "window", findings)


def _window_sequences(expected: list[Payment], rows: list[Row]) -> list[str]:
    out = [
        f"expected {len(expected)} payments, {sum(p.paise for p in expected)} paise: {ranges(p.seq for p in expected)}"
    ]
    for record, fields in rows:
        listed = fields.get("seqs", "(not listed)")
        out.append(f"pane {fields['pane']} {fields['timing']} at {_at(record)}: {fields['total']} paise: {listed}")
    return out


def _check_window(variant: str, name: str, expected: list[Payment], rows: list[Row], findings: Findings) -> None:
    if not rows:
        findings.add("lost", f"{name}: no pane was written, {len(expected)} payments")
        return
    indices = [fields["pane"] for _, fields in rows]
    missing = sorted(set(range(max(indices) + 1)) - set(indices))
    if missing:
        findings.add("lost", f"{name}: panes {missing} are missing before pane {max(indices)}")
    if len({record.partition for record, _ in rows}) > 1:
        findings.add("wrong", f"{name}: its panes are in several partitions")
    if any(later < earlier for earlier, later in zip(indices, indices[1:], strict=False)):
        findings.add("disorder", f"{name}: panes stand in the order {indices}")
    if variant in ONE_PANE and (len(set(indices)) != 1 or rows[0][1]["timing"] != "ON_TIME"):
        findings.add("wrong", f"{name}: not one pane on time but {[(f['pane'], f['timing']) for _, f in rows]}")
    panes = [fields for _, fields in sorted(rows, key=lambda row: (row[1]["pane"], row[0].offset))]
    if variant == "timers" and [pane["timing"] == "ON_TIME" for pane in panes] != [False] * (len(panes) - 1) + [True]:
        findings.add("wrong", f"{name}: its timer of event time has not told the last batch, once, but {indices}")
    if variant == "payments":
        total = sum(p.paise for p in expected)
        if panes[-1]["total"] != total:
            findings.add("wrong", f"{name}: the last pane has {panes[-1]['total']} paise, expected {total}")
    else:
        _check_payments(variant in PARTS, name, expected, panes, findings)


def _check_payments(
    discarding: bool, name: str, expected: list[Payment], panes: list[dict], findings: Findings
) -> None:
    """Every payment of the window once: in the last pane, or, where panes discard, in all of them together."""
    paise = {p.seq: p.paise for p in expected}
    seen: Counter = Counter()
    for pane in panes:
        numbers = Counter(numbers_of(pane["seqs"]))
        if pane["total"] != sum(paise.get(n, 0) * times for n, times in numbers.items()):
            findings.add("wrong", f"{name} pane {pane['pane']}: {pane['total']} paise is not the sum of its payments")
        if discarding:
            numbers += seen
        for number in seen - numbers:
            findings.add("lost", f"{name}: payment {number} is not in pane {pane['pane']}, but in one before it")
        seen = numbers
    wanted = Counter(p.seq for p in expected)
    for number in wanted - seen:
        findings.add("lost", f"{name}: payment {number}")
    for number, times in (seen - wanted).items():
        if number in paise:
            findings.add("doubled", f"{name}: payment {number} is counted {times} times too often")
        else:
            findings.add("wrong", f"{name}: payment {number} does not belong there")


def _check_ascending(rows: list[Row], what: str, findings: Findings) -> None:
    """Results of one merchant stand in order of `what`, and in one partition."""
    last: dict[str, tuple[Written, int]] = {}
    for record, fields in rows:
        merchant, value = fields["merchant"], fields[what]
        before = last.get(merchant)
        if before is not None and value < before[1] and record.partition == before[0].partition:
            findings.add("disorder", f"{merchant}: {what} {value} at {_at(record)} is behind {before[1]}")
        last[merchant] = record, value


# ---- numbers and counts of user state ----


def _check_numbers(sent: Sent, rows: list[Row], findings: Findings) -> None:
    """Every payment got one number, and the numbers of a merchant are 1, 2, 3 ... in this order."""
    _check_unique((_name(fields) for _, fields in rows), findings)
    written: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        written[row[1]["merchant"]].append(row)
    for merchant in sorted(sent.keys() | written.keys()):
        before = len(findings.found)
        paise = {p.seq: p.paise for p in sent.get(merchant, [])}
        mine = written.get(merchant, [])
        wanted = Counter(p.seq for p in sent.get(merchant, []))
        missing = set(range(1, wanted.total() + 1)) - {fields["n"] for _, fields in mine}
        if missing:
            findings.add("lost", f"{merchant}: numbers {ranges(missing)} were not given")
        seen = Counter(fields["seq"] for _, fields in mine)
        for seq in sorted(wanted - seen):
            findings.add("lost", f"{merchant}: payment {seq} has no number")
        for seq, times in (seen - wanted).items():
            if seq in paise:
                findings.add("doubled", f"{merchant}: payment {seq} has {times} numbers too many")
            else:
                findings.add("wrong", f"{merchant}: payment {seq} was never made")
        for _, fields in mine:
            if paise.get(fields["seq"], fields["total"]) != fields["total"]:
                findings.add("wrong", f"{merchant}: payment {fields['seq']} has {fields['total']} paise")
        _check_ascending(mine, "n", findings)
        if len(findings.found) > before:
            order = [f"{fields['n']}={fields['seq']}@{_at(record)}" for record, fields in mine]
            lines = [" ".join(order[n : n + 12]) for n in range(0, len(order), 12)]
            findings.sequences[merchant] = [f"expected 1-{wanted.total()}; number=payment@record:", *lines]


def _check_counts(sent: Sent, rows: list[Row], window_ms: int, findings: Findings) -> None:
    """The timer of each window fired once, and found all of its payments in the state."""
    _check_unique((_name(fields) for _, fields in rows), findings)
    expected = _windows(sent, window_ms)
    written = {(fields["merchant"], fields["window"]): (record, fields) for record, fields in rows}
    for merchant, window in sorted(expected.keys() | written.keys(), key=lambda key: (key[1], key[0])):
        name = f"{merchant} window {window}"
        payments = expected.get((merchant, window), [])
        record, fields = written.get((merchant, window), (None, None))
        want = (len(payments), sum(p.paise for p in payments))
        if fields is None:
            findings.add("lost", f"{name}: its timer has told nothing, {len(payments)} payments")
            continue
        got = (fields["count"], fields["total"])
        if got != want:
            kind = "lost" if got[0] < want[0] else "doubled" if got[0] > want[0] else "wrong"
            findings.add(kind, f"{name}: counted {got[0]} payments, {got[1]} paise; expected {want[0]}, {want[1]}")
            findings.sequences[name] = [f"expected {ranges(p.seq for p in payments)}", f"{fields} at {_at(record)}"]
    _check_ascending(rows, "window", findings)
