"""One readable table of what all loaders did, as text, as JSON and as outputs.

``python summary.py --loader '{"loader": "loader-0", …}' … --directory DIR``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from bootlevels.plans.outputs import write_outputs

#: Title and key of each column after the first, by the loaders' mode.
COLUMNS = {
    "publish": (
        ("connections", "connections"),
        ("published/s", "published_per_second"),
        ("consumed/s", "consumed_per_second"),
        ("lost", "lost"),
        ("errors", "errors"),
    ),
    "connect": (
        ("connections", "connections"),
        ("connects/s", "connects_per_second"),
        ("errors", "errors"),
    ),
}
COUNTS = ("connections", "published", "consumed", "lost", "errors")


def totals(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """All loaders together.

    Rates are over the time from the first loader's first message to the last one's last,
    so they are never better than what the broker really did.
    """
    timed = [each for each in reports if each["ended"] > each["began"]]
    began = min((each["began"] for each in timed), default=0.0)
    seconds = max((each["ended"] for each in timed), default=0.0) - began
    total: dict[str, Any] = {"loader": "all", "loaders": len(reports), "seconds": round(seconds, 2)}
    total |= {name: sum(each[name] for each in reports) for name in COUNTS}
    for rate, count in (
        ("connects_per_second", "connections"),
        ("published_per_second", "published"),
        ("consumed_per_second", "consumed"),
    ):
        total[rate] = round(total[count] / seconds, 1) if seconds > 0 else 0.0
    return total


def table(reports: list[dict[str, Any]], total: dict[str, Any]) -> str:
    """The figures as lines of text, the sum last."""
    columns = COLUMNS[reports[0]["mode"]]
    head = ["loader", *(title for title, _ in columns)]
    body = [
        [each["loader"], *(f"{each[key]:,.0f}" for _, key in columns)] for each in [*reports, total]
    ]
    wide = [max(len(row[at]) for row in [head, *body]) for at in range(len(head))]
    lines = [
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, wide, strict=True))
        )
        for row in [head, *body]
    ]
    lines.insert(-1, "-" * len(lines[0]))
    what = f"{total['connections']:,} connections, {total['published']:,} messages"
    title = f"{total['loaders']} loaders, {what} in {total['seconds']:g} s"
    problems = [f"{each['loader']}: {each['problem']}" for each in reports if each["problem"]]
    return "\n".join([title, *lines, *problems])


def write_private(path: Path, text: str) -> None:
    """Write ``text`` to ``path``, readable by its owner only. Raises OSError."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text + "\n")


def main(words: list[str] | None = None) -> int:
    """Exit 0; 1: no loader worked, or a file can't be written; 2: wrong usage."""
    parser = argparse.ArgumentParser(description="Sum up what the loaders did.")
    parser.add_argument("--loader", action="append", required=True, help="its report, as JSON")
    parser.add_argument("--directory", type=Path, default=Path(), help="for the files")
    options = parser.parse_args(words)
    try:
        reports = [json.loads(text) for text in options.loader]
    except ValueError as problem:
        parser.error(f"a report is not JSON: {problem}")
    worked = [each for each in reports if each["works"]]
    if not worked:
        print("summary: no loader worked", file=sys.stderr)
        return 1
    total = totals(worked)
    text = table(worked, total)
    print(text)
    try:
        write_private(options.directory / "summary.txt", text)
        document = json.dumps({"loaders": worked, "total": total}, indent=2)
        write_private(options.directory / "summary.json", document)
        write_outputs({**total, "summary": text})
    except OSError as problem:
        print(f"summary: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
