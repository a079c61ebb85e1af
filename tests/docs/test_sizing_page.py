"""The page about sizing is what its script says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.programs import HANGS

ROOT = Path(__file__).parents[2]


def test_the_sizing_page_is_what_its_script_says() -> None:
    """The tables between the markers are the script's output, from the results that stand in the repository."""
    text = (ROOT / "docs" / "how-to" / "sizing.md").read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, "benchmarks/sizing.py"], capture_output=True, text=True, cwd=ROOT, check=True, timeout=HANGS)
    shown = re.search(r"<!-- python benchmarks/sizing.py -->\n((?:\|.*\n)+)", text)
    assert shown is not None and shown[1] == done.stdout
