"""Tables of a benchmark as text and CSV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd


def as_text(tables: Mapping[str, tuple[str, pd.DataFrame]]) -> str:
    """Lay out tables below their headings; headings and tables by name."""
    parts = []
    for heading, table in tables.values():
        body = table.to_string(index=False, float_format=_number, na_rep="-") if len(table) else "none"
        parts.append(f"{heading}\n\n{body}\n")
    return "\n".join(parts)


def write_tables(tables: Mapping[str, pd.DataFrame], text: str, folder: Path, name: str) -> list[Path]:
    """Write the text as ``<name>.txt``, and each table as ``<name>_<table>.csv``."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.txt"]
    paths[0].write_text(text, encoding="utf-8")
    for key, table in tables.items():
        paths.append(folder / f"{name}_{key}.csv")
        table.to_csv(paths[-1], index=False)
    return paths


def _number(value: float) -> str:
    if value == 0 or 0.001 <= abs(value) < 1000:
        return f"{value:.3f}".rstrip("0").rstrip(".") if value == int(value) else f"{value:.3f}"
    return f"{value:.3g}"
