"""Writes the tables of docs/scaling.md from what `fastbp bench --ranks 1,2 --json` stored.

Run `python -m benchmarks.scaling FILE.json [FILE.json ...]`: shapes may be measured one at a time,
and of a shape in several files the last counts. What stands outside the marks is written by hand
and stays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from fastbp.bench import scaling

from .report import between_marks, markdown

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"


def joined(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Several results as one.

    >>> a = {"machine": {"processor": "x"}, "ranks": [1, 2], "repeats": 5, "shapes": []}
    >>> joined([a, {**a, "shapes": [{"name": "wide"}]}])["shapes"]
    [{'name': 'wide'}]
    """
    kinds = {(result["machine"]["processor"], *result["ranks"]) for result in results}
    if len(kinds) > 1:
        raise SystemExit("the files are of different machines, or of different numbers of ranks")
    shapes = {entry["name"]: entry for result in results for entry in result["shapes"]}
    least = min(result["repeats"] for result in results)
    return {**results[-1], "repeats": least, "shapes": list(shapes.values())}


def main(paths: list[str]) -> None:
    """Replace the tables."""
    result = joined([json.loads(Path(path).read_text(encoding="utf-8")) for path in paths])
    machine = result["machine"]
    parts = [
        "### Measured",
        markdown(*scaling.measured(result)),
        f"{machine['processor']}; medians of {result['repeats']} or more runs in turns, bound.",
        "### Predicted",
        markdown(*scaling.predicted(result)),
    ]
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(between_marks(text, "\n\n".join(parts)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
