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


SESSIONS = """
from pydantic import Field
from feature_store.config import SourceConfig
from feature_store.readers.base import data_files, data_folder, read_table, relative
from feature_store.tables.contracts import log_contract

class Sessions:
    class Settings(SourceConfig):
        ending: str = Field("csv", description="ending of the files")

    def __init__(self, config, data):
        self.config, self.data = config, data_folder(data, config.reader)

    def files(self):
        return data_files(self.data, f"*.{self.config.ending}")

    def contract(self):
        return log_contract(has_impressions=False)

    def read(self, files):
        columns = {"user_id": "who", "item_id": "what", "timestamp": "when"}
        for path in files:
            yield from read_table(path, relative(path, self.data), "events", columns)
"""
"""Source of a reader of clicks, as a package of its own would have it."""


def write_sessions(folder: Path) -> None:
    """A log of 60 clicks that the reader of :data:`SESSIONS` reads, in a file ``one.tsv``."""
    folder.mkdir()
    rows = [f"u{n % 7}\ti{n % 5}\t{1_700_000_000 + 60 * n}" for n in range(60)]
    (folder / "one.tsv").write_text("\n".join(["who\twhat\twhen", *rows]) + "\n", encoding="utf-8")
