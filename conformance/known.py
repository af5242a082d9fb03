"""Lists of tests with what is known of them, and what a run's verdicts are against them."""

from pathlib import Path


def listed(path: Path) -> dict[str, str]:
    """Reads lines of "test or code  # why"; {test or code: why}."""
    entries = {}
    for line in path.read_text().splitlines():
        test, _, why = line.partition("#")
        if test.strip():
            entries[test.strip()] = why.strip()
    return entries


def surprise(name: str, test: dict, why: str | None) -> bool:
    """Prints what asks for attention, and says whether the list, whose reason is why, did not foretell it."""
    if test["verdict"] == "passed":
        if not why or why.startswith("by chance"):
            return False
        print(f"  NEW: {name}: passes, but is in known.txt")
        return True
    if why:
        print(f"  known: {name}: {test['verdict']}; {why}")
        return False
    print(f"  NEW: {name}: {test['verdict']}; {test['reason']}")
    return True
