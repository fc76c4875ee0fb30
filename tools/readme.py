"""What README.md says, for those who must hold it to its word: its commands and its tables.

    python tools/readme.py command test        # prints the one-line command marked `test`
    python tools/readme.py table FILE          # replaces the benchmark table by FILE's text

A command is the only line of the fenced block that follows `<!-- command:NAME -->`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"
_BEGIN, _END = "<!-- table:begin -->", "<!-- table:end -->"


def command(text: str, name: str) -> str:
    """The one-line command marked `name` in a README's text."""
    found = re.findall(rf"<!-- command:{re.escape(name)} -->\s*```\w*\n(.*?)\n```", text, re.DOTALL)
    if len(found) != 1 or "\n" in found[0]:
        raise SystemExit(f"README.md must hold exactly one one-line command marked {name!r}")
    return str(found[0])


def with_table(text: str, table: str) -> str:
    """A README's text with what stands between the table marks replaced by `table`."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise SystemExit(f"README.md must hold {_BEGIN} and {_END}")
    return f"{before}{begin}\n{table.strip()}\n{end}{after}"


def main(arguments: list[str]) -> None:
    """Carry out one of the two commands of the module's docstring."""
    text = README.read_text(encoding="utf-8")
    match arguments:
        case ["command", name]:
            print(command(text, name))
        case ["table", file]:
            table = Path(file).read_text(encoding="utf-8")
            README.write_text(with_table(text, table), encoding="utf-8")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
