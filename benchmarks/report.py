"""Writes docs/performance.md's figures and README's table from what `fastbp bench --json` stored.

Run `python benchmarks/report.py FILE.json`. What stands outside the marks is written by hand and
stays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fastbp.bench import table

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A table of text; all columns but the first to the right."""
    rule = ["---", *["---:"] * (len(headings) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in [headings, rule, *rows])


def summary(result: dict[str, Any]) -> str:
    """README's table: a row a shape, and the best of each library beside fastbp."""
    headings, rows = table.cells(result)
    return markdown(headings, rows) + "\n\n" + _circumstances(result)


def details(result: dict[str, Any]) -> str:
    """The whole run: the table, the machine, and every peer at every number of threads."""
    parts = [summary(result), "## The machine", _machine(result), "## Every measurement"]
    headings = ["shape", "peer", "threads", "us/step", "least", "most", "GFLOP/s"]
    rows = [
        [
            entry["name"],
            row["peer"],
            str(row["threads"]),
            *(f"{row[key]:,.1f}" for key in ("us", "low", "high")),
            f"{table.gflops(entry, row):.1f}",
        ]
        for entry in result["shapes"]
        for row in sorted(entry["rows"], key=lambda row: row["us"])
    ]
    parts.append(markdown(headings, rows))
    out = [
        f"- {entry['name']}, {row['peer']} on {row['threads']} threads: {row['why']}"
        for entry in result["shapes"]
        for row in entry["left_out"]
    ]
    if out:
        parts += ["Left out:", "\n".join(out)]
    return "\n\n".join(parts)


def between_marks(text: str, content: str) -> str:
    """`text` with what stands between its marks replaced."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"a document must hold {BEGIN} and {END}")
    return f"{before}{begin}\n{content.strip()}\n{end}{after}"


def _circumstances(result: dict[str, Any]) -> str:
    return (
        f"{result['machine']['processor']}, {result['date'][:10]}; medians of {result['repeats']} "
        f"interleaved fits; (x) is a peer's time over fastbp's; {table.roof(result)}."
    )


def _machine(result: dict[str, Any]) -> str:
    # Where compiled kernels lie is nobody's business.
    hidden = {"compiled kernels"}
    return "\n".join(f"- {k}: {v}" for k, v in result["machine"].items() if k not in hidden)


def main(file: str) -> None:
    """Rewrite both documents."""
    result = json.loads(Path(file).read_text(encoding="utf-8"))
    for name, content in (("README.md", summary), ("docs/performance.md", details)):
        path = ROOT / name
        text = between_marks(path.read_text(encoding="utf-8"), content(result))
        path.write_text(text, encoding="utf-8")
        print(f"wrote {name}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
