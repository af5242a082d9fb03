"""Writes assign.json: elements that the Python SDK puts into windows, before and after, as they are on the wire.

python engine/window/testdata/assign.py > engine/window/testdata/assign.json
"""

import json
import random

from apache_beam.coders import BytesCoder
from apache_beam.coders.coders import GlobalWindowCoder, IntervalWindowCoder, WindowedValueCoder
from apache_beam.transforms import window
from apache_beam.transforms.core import Windowing, WindowInto
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Duration, Timestamp
from apache_beam.utils.windowed_value import PANE_INFO_UNKNOWN, PaneInfo, PaneInfoTiming, WindowedValue

MIN, MAX = MIN_TIMESTAMP.micros // 1000, MAX_TIMESTAMP.micros // 1000


def ms(n):
    return Duration(micros=1000 * n)


# Kind, size or gap, period, offset in milliseconds.
FUNCTIONS = [
    ("fixed", 10, 0, 0),
    ("fixed", 300_000, 0, 0),
    ("fixed", 300_000, 0, 120_001),
    ("fixed", 7, 0, 3),
    ("fixed", 86_400_000, 0, -1),
    ("fixed", 1, 0, 0),
    ("sliding", 60_000, 20_000, 0),
    ("sliding", 60_000, 20_000, 5_000),
    ("sliding", 10, 3, 1),
    ("sliding", 5, 20, 0),  # most elements are in no window
    ("sliding", 5, 20, 7),
    ("sliding", 10, 10, 0),
    ("sessions", 1, 0, 0),
    ("sessions", 600_000, 0, 0),
    ("global", 0, 0, 0),
]


def function(kind, size, period, offset):
    start = Timestamp(micros=1000 * offset)
    if kind == "fixed":
        return window.FixedWindows(ms(size), start)
    if kind == "sliding":
        return window.SlidingWindows(ms(size), ms(period), start)
    if kind == "sessions":
        return window.Sessions(ms(size))
    return window.GlobalWindows()


def times(size, period, offset):
    unit = period or size or 1
    edges = [base + offset + d for base in (0, unit, -unit, 5 * unit, -5 * unit) for d in (-1, 0, 1)]
    ends = [MIN, MIN + 1, MIN + size, MIN + 2 * size + 1, MAX, MAX - 1, MAX - size, MAX - 2 * size - 1]
    ends += [MAX - 86_400_000, MAX - 86_400_000 - size]
    around = [random.randint(-4 * unit, 4 * unit) for _ in range(15)]
    return edges + ends + around + [1_700_000_000_000 + random.randint(0, 10**7) for _ in range(5)]


def wire(value_windows):
    return WindowedValueCoder(BytesCoder(), value_windows)


def main():
    random.seed(6)
    pane = PaneInfo(False, False, PaneInfoTiming.LATE, 3, 1)
    cases = []
    for kind, size, period, offset in FUNCTIONS:
        fn = function(kind, size, period, offset)
        strategy = Windowing(fn)
        coder = wire(GlobalWindowCoder() if kind == "global" else IntervalWindowCoder())
        case = {"kind": kind, "size": size, "period": period, "offset": offset, "elements": []}
        for i, at in enumerate(times(size, period, offset)):
            came_in = wire(GlobalWindowCoder())
            before = WindowedValue(
                b"v%d" % i, Timestamp(micros=1000 * at), (window.GlobalWindow(),), [PANE_INFO_UNKNOWN, pane][i % 2]
            )
            encoded = came_in.encode(before)
            read = came_in.decode(encoded)
            (assigned,) = WindowInto.WindowIntoFn(strategy).process(read.value, read.timestamp, read.windows[0])
            out = coder.encode(assigned) if assigned.windows else b""
            case["elements"].append([encoded.hex(), out.hex()])
        cases.append(case)
    print(json.dumps(cases, separators=(",", ":")).replace('{"kind', '\n{"kind').replace("[[", "[\n["))


if __name__ == "__main__":
    main()
