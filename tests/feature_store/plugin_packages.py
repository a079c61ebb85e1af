"""Small packages with entry points, written where Python looks for installed ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(folder: Path, name: str, source: str, points: Mapping[str, str], version: str = "1.0") -> Path:
    """Write module ``name`` with a source, and the metadata of the distribution that installed it.

    Parameters
    ----------
    folder : Path
        On Python's path.
    points : mapping of str to str
        Lines ``name = module:attribute`` of entry points, by group; several with newlines between them.

    Returns
    -------
    Path
        The module's file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text("".join(f"[{group}]\n{lines}\n" for group, lines in points.items()), encoding="utf-8")
    module = folder / f"{name}.py"
    module.write_text(source, encoding="utf-8")
    return module
