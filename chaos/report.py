"""What a run did, as JSON and as a table in Markdown."""

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


@dataclass
class Kill:
    """One kill -9 and what came of it."""

    number: int
    victim: str  # server, worker, pool, broker
    phase: str  # "running", or "recovery of ..." what was killed before
    at_seconds: float  # since the start
    committed: int  # input records since the kill before
    recovery_seconds: float | None = None  # to the first commit after it; None: the next kill came first


@dataclass
class Report:
    settings: dict
    kills: list[Kill] = field(default_factory=list)
    payments: int = 0
    results: int = 0
    seconds: float = 0.0
    given_up: int = 0  # records of transactions that were not committed
    server_peak_mib: int = 0
    script_code: int = 0
    found: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def save(self, directory: Path) -> Path:
        (directory / "report.json").write_text(json.dumps(asdict(self), indent=1))
        path = directory / "report.md"
        path.write_text(self.markdown())
        return path

    def markdown(self) -> str:
        settings = ", ".join(f"{name} {value}" for name, value in self.settings.items())
        calm = [kill.committed for kill in self.kills if kill.phase == "running"]
        recovered = [kill.recovery_seconds for kill in self.kills if kill.recovery_seconds is not None]
        lines = [f"{settings}", "", "| what | figure |", "|---|---|"]
        lines += [f"| kills | {len(self.kills)}, {len(self.kills) - len(calm)} of them during a recovery |"]
        lines += [f"| by victim | {_counts(kill.victim for kill in self.kills)} |"]
        lines += [f"| by phase | {_counts(kill.phase for kill in self.kills)} |"]
        lines += [f"| input records committed before a kill while running, median (least) | {_middle(calm, min)} |"]
        for victim in sorted({kill.victim for kill in self.kills}):
            times = [k.recovery_seconds for k in self.kills if k.victim == victim and k.recovery_seconds is not None]
            lines += [f"| from the kill of a {victim} to the next commit, median (most) | {_middle(times, max)} s |"]
        lines += [f"| the same, of all | {_middle(recovered, max)} s |"]
        lines += [f"| payments in, results out | {self.payments:,}, {self.results:,} |"]
        lines += [f"| records of transactions that were given up | {self.given_up:,} |"]
        lines += [f"| the server's peak memory | {self.server_peak_mib} MiB |"]
        lines += [f"| length | {self.seconds:.0f} s |"]
        lines += [f"| {', '.join(self.found)} | {', '.join(str(count) for count in self.found.values())} |"]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)]) + "\n"


def _counts(names) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(Counter(names).items())) or "none"


def _middle(values: list, extreme) -> str:
    if not values:
        return "-"
    if isinstance(values[0], float):
        return f"{median(values):.1f} ({extreme(values):.1f})"
    return f"{median(values):,.0f} ({extreme(values):,})"
