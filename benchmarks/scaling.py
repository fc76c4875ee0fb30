"""Writes the tables of docs/scaling.md from what `fastbp bench --ranks 1,2 --json` stored.

Run `python -m benchmarks.scaling FILE.json`. What stands outside the marks is written by hand and
stays.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from fastbp.bench import scaling

from .report import between_marks, markdown

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"


def main(path: str) -> None:
    """Replace the tables."""
    result = json.loads(Path(path).read_text(encoding="utf-8"))
    machine = result["machine"]
    parts = [
        "### Measured",
        markdown(*scaling.measured(result)),
        f"{machine['processor']}; medians of {result['repeats']} runs in turns; ranks bound.",
        "### Predicted",
        markdown(*scaling.predicted(result)),
    ]
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(between_marks(text, "\n\n".join(parts)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
