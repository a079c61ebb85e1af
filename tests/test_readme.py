"""What the README tells people to copy is right."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
UNITS = dict(re.findall(r"```ini\n# /etc/systemd/system/(\S+)\n(.*?)```", README, re.DOTALL))


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    assert sorted(UNITS) == ["ctr-kd.service", "ctr-kd.timer"]
    for name, text in UNITS.items():  # only the program's place is another one here
        (tmp_path / name).write_text(text.replace("/srv/ctr_kd/.venv/bin/ctr-kd", shutil.which("true") or "/bin/true"))
    done = subprocess.run([program, "verify", *(str(tmp_path / name) for name in UNITS)], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, []), done.stderr


def test_the_commands_of_the_schedule_exist() -> None:
    cron = re.search(r"^0 3 \* \* \*  (.+)$", README, re.MULTILINE)
    assert cron is not None
    commands = re.findall(r"ctr-kd (\w+) conf/mine.yaml", cron[1]) + re.findall(r"bin/ctr-kd (\w+)", UNITS["ctr-kd.service"])
    assert commands == ["run", "monitor", "run", "monitor"]


def test_the_sizing_page_is_what_its_script_says() -> None:
    """The tables between the markers are the script's output, from the results that stand in the repository."""
    text = (ROOT / "docs" / "sizing.md").read_text(encoding="utf-8")
    done = subprocess.run([sys.executable, "benchmarks/sizing.py"], capture_output=True, text=True, cwd=ROOT, check=True)
    shown = re.search(r"<!-- python benchmarks/sizing.py -->\n((?:\|.*\n)+)", text)
    assert shown is not None and shown[1] == done.stdout
