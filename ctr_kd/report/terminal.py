"""The result table for a terminal, of the same rows as the report's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from ctr_kd.report.findings import METRIC_TITLES, count, quality, result_rows, size
from feature_store.tables.plain_text import plain

SHOWN = ("auc", "gauc", "accuracy", "macro_f1", "log_loss", "normalized_entropy", "calibration_error")


def summary_table(metrics: Mapping[str, Any]) -> Table:
    """One line per model, with 95 % intervals of AUC (of classes: accuracy), speed and size; columns that no model has are left out.

    Examples
    --------
    >>> table = summary_table({"models": {"student": {"auc": {"value": 0.7412, "low": 0.7398, "high": 0.7427}}}})
    >>> [column.header for column in table.columns], table.row_count
    (['Model', 'AUC', '95 %'], 1)
    """
    rows, first = result_rows(metrics), quality(metrics)
    shown = [name for name in dict.fromkeys([first, *SHOWN]) if any(name in row.figures for row in rows)]
    costs = [
        (title, key) for title, key in (("Rows/s", "rows_per_second"), ("Parameters", "parameters"), ("Size", "bytes")) if _any(rows, key)
    ]
    table = Table(title_justify="left", header_style="bold", box=None, pad_edge=False)
    table.add_column("Model", no_wrap=True)
    for name in shown:
        table.add_column(METRIC_TITLES[name], justify="right", no_wrap=True)
        if name == first:
            table.add_column("95 %", style="dim", no_wrap=True)
    for title, _ in costs:
        table.add_column(title, justify="right", no_wrap=True)
    for row in rows:
        cells = [row.title]
        for name in shown:
            figure = row.figures.get(name)
            cells.append(figure.text() if figure else "–")
            if name == first:
                cells.append(figure.interval() if figure else "")
        cells += [size(row.bytes) if key == "bytes" else count(getattr(row, key)) for _, key in costs]
        # Text, not str: a model's name may hold brackets, which rich would read as markup.
        bold = row.name == metrics.get("shipped", "student")
        table.add_row(*(Text(plain(cell)) for cell in cells), style="bold" if bold else None)
    return table


def _any(rows: list[Any], key: str) -> bool:
    return any(getattr(row, key) is not None for row in rows)
