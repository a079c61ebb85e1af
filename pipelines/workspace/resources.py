"""What a stage took and with what it ran: peak memory, package versions and code revision."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = ("torch", "numpy", "pyarrow", "pandas", "duckdb", "scikit-learn", "lightgbm", "onnxruntime", "mlflow")


def peak_memory_bytes() -> int:
    """Largest resident size of this process, since the stage began where the system can tell (Linux), else since its start."""
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # no /proc: not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def reset_peak_memory() -> None:
    """Let :func:`peak_memory_bytes` count from now on, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return  # the peak then counts from the start of the process


def versions() -> dict[str, str]:
    """Python and the packages on which results depend."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # the serving side may run without torch
            continue
    return found


def code_revision() -> str | None:
    """Commit of the code that runs, when it runs from a repository of its own."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        found = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, timeout=10, check=True, encoding="utf-8")  # noqa: S603, S607
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None
