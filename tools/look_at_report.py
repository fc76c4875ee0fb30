"""Looks at a report in a real browser: phone and desk, light and dark, without a network.

python tools/look_at_report.py run.html SHOTS     # needs playwright and a Chromium

Writes a picture of each into the folder SHOTS, and prints what is wrong: errors of the script,
requests to anywhere, a page wider than its window, curves that do not answer to the pointer.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

WINDOWS = {"phone": (390, 844), "desk": (1280, 900)}


def main(page_path: Path, folder: Path) -> int:
    """Look at all four; the number of complaints."""
    folder.mkdir(parents=True, exist_ok=True)
    complaints = 0
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, (width, height) in WINDOWS.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(
                    viewport={"width": width, "height": height}, color_scheme=scheme, offline=True
                )
                found = look(context.new_page(), page_path, folder / f"{name}-{scheme}.png")
                complaints += len(found)
                print(f"{name}, {scheme}: {found or 'fine'}")
        browser.close()
    return complaints


def look(page: Any, path: Path, picture: Path) -> list[str]:
    """Open the page, point at every chart, take a picture; what is wrong."""
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith("file:") else wrong.append(r.url))
    page.goto(path.resolve().as_uri())
    for number, chart in enumerate(page.locator(".chart").all()):
        svg = chart.locator("svg")
        svg.scroll_into_view_if_needed()
        box = svg.bounding_box()
        page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.5 * box["height"])
        if not chart.locator(".tip").inner_text():
            wrong.append(f"chart {number} does not answer")
    over = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    if over > 0:
        wrong.append(f"the page is {over} pixels wider than its window")
    page.screenshot(path=picture, full_page=True)
    return wrong


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])) > 0)
