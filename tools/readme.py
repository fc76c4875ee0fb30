"""README.md's commands, for those who must hold it to its word.

Run `python tools/readme.py test` or `... demo`: it prints the only line of the fenced block that
follows `<!-- command:NAME -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def command(text: str, name: str) -> str:
    """The one-line command marked `name` in a README's text."""
    found = re.findall(rf"<!-- command:{re.escape(name)} -->\s*```\w*\n(.*?)\n```", text, re.DOTALL)
    if len(found) != 1 or "\n" in found[0]:
        raise SystemExit(f"README.md must hold exactly one one-line command marked {name!r}")
    return str(found[0])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    print(command(README.read_text(encoding="utf-8"), sys.argv[1]))
