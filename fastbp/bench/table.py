"""What a run measured, as numbers of a table: for the terminal, and for the documents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from rich.table import Table

from .peers import OURS, PEERS

Row = dict[str, Any]


def best(entry: dict[str, Any]) -> dict[str, Row]:
    """The fastest row of each peer, over the numbers of threads: fastbp first, if it is there."""
    found: dict[str, Row] = {}
    for row in sorted(entry["rows"], key=lambda row: (row["peer"] != OURS, row["us"])):
        found.setdefault(row["peer"], row)
    return found


def gflops(entry: dict[str, Any], row: Row) -> float:
    """Arithmetic of the products, in GFLOP/s."""
    return float(entry["flops"] / row["us"] / 1e3)


def share_of_roof(result: dict[str, Any], entry: dict[str, Any], row: Row) -> float:
    """The same as a share of the roof of that run on as many threads; nan where it has none."""
    return gflops(entry, row) / float(result["roof"].get(str(row["threads"]), math.nan))


def ratio(rows: dict[str, Row], peer: str) -> float | None:
    """How many times as long as fastbp the peer takes; None where either is missing."""
    if peer not in rows or OURS not in rows:
        return None
    return float(rows[peer]["us"] / rows[OURS]["us"])


def peers_of(result: dict[str, Any]) -> list[str]:
    """Every peer that was measured on any shape, but fastbp, in the order of the table."""
    seen = {row["peer"] for entry in result["shapes"] for row in entry["rows"]}
    return [name for name in PEERS if name in seen and name != OURS]


def cells(result: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text: each shape, fastbp's figures, then each peer's with the ratio."""
    others = peers_of(result)
    headings = ["shape", "us/step", "threads", "GFLOP/s", "of roof", *others]
    rows = []
    for entry in result["shapes"]:
        found = best(entry)
        name = (
            entry["name"]
            if entry["name"] == entry["shape"]
            else (f"{entry['name']} {entry['shape']}")
        )
        row = [name]
        if ours := found.get(OURS):
            share = share_of_roof(result, entry, ours)
            speed = gflops(entry, ours)
            row += [_number(ours["us"]), str(ours["threads"]), f"{speed:.1f}"]
            row.append("-" if math.isnan(share) else f"{share:.0%}")
        else:
            row += ["-"] * 4
        for peer in others:
            factor = ratio(found, peer)
            text = _number(found[peer]["us"]) if peer in found else "-"
            row.append(f"{text} ({factor:.2g}x)" if factor is not None else text)
        rows.append(row)
    return headings, rows


def render(result: dict[str, Any]) -> Iterator[Table | str]:
    """What `fastbp bench` prints."""
    headings, rows = cells(result)
    table = Table(title="microseconds a training step, each at its best number of threads")
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index else "left", no_wrap=not index)
    for row in rows:
        table.add_row(*row)
    yield table
    yield roof(result)
    yield f"medians of {result['repeats']} interleaved fits; (x): its time over fastbp's"
    for entry in result["shapes"]:
        for out in entry["left_out"]:
            yield f"left out: {entry['name']}, {out['peer']} on {out['threads']}: {out['why']}"


def roof(result: dict[str, Any]) -> str:
    """What the shares of the roof are shares of, by threads."""
    roofs = ", ".join(f"{speed:.0f} GFLOP/s on {n}" for n, speed in result["roof"].items())
    library = "OpenBLAS" if result["device"] == "cpu" else "cuBLAS"
    return f"roof ({library}, 2048 x 2048 x 2048, float32; threads): {roofs or 'not measured'}"


def _number(us: float) -> str:
    return f"{us:,.0f}" if us >= 100 else f"{us:.1f}"
