"""How much memory this process holds at most, as the system counts it: whatever library took it."""

from __future__ import annotations

import re
from pathlib import Path

_PROCESS = Path("/proc/self")


def peak_memory(reset: bool = False) -> int:
    """Bytes that were resident at most since the last reset; with ``reset`` those of now."""
    if reset:
        (_PROCESS / "clear_refs").write_text("5", encoding="utf-8")
    found = re.search(r"VmHWM:\s+(\d+) kB", (_PROCESS / "status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) << 10
