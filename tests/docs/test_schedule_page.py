"""What the page about schedules tells people to copy is right."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.scheduled_pipeline import FINAL_CODES
from tests.programs import HANGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "schedule.md").read_text(encoding="utf-8")
UNITS = dict(re.findall(r"```ini\n# /etc/systemd/system/(\S+)\n(.*?)```", PAGE, re.DOTALL))


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    assert sorted(UNITS) == ["ctr-kd.service", "ctr-kd.timer"]
    for name, text in UNITS.items():  # only the program's place is another one here
        (tmp_path / name).write_text(text.replace("/srv/ctr_kd/.venv/bin/ctr-kd", shutil.which("true") or "/bin/true"))
    done = subprocess.run(
        [program, "verify", *(str(tmp_path / name) for name in UNITS)], capture_output=True, text=True, check=False, timeout=HANGS
    )
    assert (done.returncode, [line for line in done.stderr.splitlines() if str(tmp_path) in line]) == (0, []), done.stderr


def test_every_scheduler_gives_the_same_commands() -> None:
    cron = re.search(r"^0 3 \* \* \*  (.+)$", PAGE, re.MULTILINE)
    assert cron is not None
    commands = re.findall(r"ctr-kd (\w+) conf/mine.yaml", cron[1]) + re.findall(r"bin/ctr-kd (\w+)", UNITS["ctr-kd.service"])
    assert commands == ["run", "monitor", "run", "monitor"]


def test_systemd_does_not_repeat_what_would_end_the_same() -> None:
    final = re.search(r"^RestartPreventExitStatus=(.+)$", UNITS["ctr-kd.service"], re.MULTILINE)
    assert final is not None and tuple(map(int, final[1].split())) == FINAL_CODES


def test_airflow_is_told_a_function_that_exists() -> None:
    """By its source: Airflow is not installed beside the rest."""
    source = ast.parse((ROOT / "pipelines" / "airflow_dag.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in source.body if isinstance(node, ast.FunctionDef)}
    snippet = re.search(r"from pipelines\.airflow_dag import (\w+)\n\ndag = (\w+\(.*\))\n", PAGE)
    assert snippet is not None
    call = ast.parse(snippet[2], mode="eval").body
    assert isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == snippet[1]
    parameters = {argument.arg for argument in functions[snippet[1]].args.args}
    assert {keyword.arg for keyword in call.keywords} <= parameters
