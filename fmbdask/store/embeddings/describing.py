"""What is in a store, in numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ...sequences import Shape
from .columns import kind_of
from .layout import ITEM, readable
from .opening import read_store, sources_of
from .sources.tables import shown


def describe_store(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Describe a store: objects, modalities, valid vectors, provenance, columns, sizes.

    Parameters
    ----------
    path : path
        The store.

    Returns
    -------
    dict
        Plain values: ``path``, ``objects``, ``ids`` (integers or text), ``modalities`` (by name:
        ``features``, ``valid``, ``rows_of_chunk``, ``rows_of_shard``, ``chunk_bytes``, the
        provenance, and ``sequence``, ``feature_names``, ``units`` where there are such), ``columns`` (kind of
        each), ``sources``, ``bytes`` and ``files`` on disk, ``fmbdask`` and ``layout``.

    Raises
    ------
    InputError
        If it is no embedding store.
    """
    store = read_store(path)
    modalities = {}
    for m in store.modalities:
        vectors = store.vectors(m.name)
        modalities[m.name] = {
            "features": m.features,
            "valid": int(store.column(f"valid_{m.name}").sum()),
            "rows_of_chunk": vectors.chunk,
            "rows_of_shard": vectors.shard,
            "chunk_bytes": vectors.chunk * m.features * ITEM,
            **m.attrs,
        }
    sizes = [entry.stat().st_size for entry in Path(path).rglob("*") if entry.is_file()]
    names = [n for n in store.columns if not n.startswith("valid_")]
    attrs = dict(store.group.attrs)
    return {
        "path": str(store.path),
        "objects": store.objects,
        "ids": kind_of(store.column("object_id")),
        "modalities": modalities,
        "columns": {n: kind_of(store.column(n)) for n in names},
        "sources": sources_of(store),
        "bytes": sum(sizes),
        "files": len(sizes),
        "fmbdask": attrs["fmbdask"],
        "layout": attrs["layout"],
    }


def _width(modality: dict[str, Any]) -> str:
    """Length of vectors, or steps and features of sequences."""
    if not modality.get("sequence"):
        return f"{modality['features']} features"
    shape = Shape.parse(modality["sequence"])
    return f"sequences of {shape.steps} steps of {shape.features} feature{'s' * (shape.features > 1)}"


def as_text(info: dict[str, Any]) -> str:
    """A description for people."""
    lines = [
        f"{info['path']}: {info['objects']} objects, ids are {info['ids']}, {readable(info['bytes'])} in "
        f"{info['files']} files"
    ]
    for name, m in info["modalities"].items():
        share = 100 * m["valid"] / max(info["objects"], 1)
        shard = f", shards of {m['rows_of_shard']}" if m["rows_of_shard"] else ""
        lines.append(
            f"  {name}: {_width(m)}, {m['valid']} valid ({share:.4g} %), chunks of "
            f"{m['rows_of_chunk']} objects ({readable(m['chunk_bytes'])}){shard}"
        )
        told = [
            f"{key} {m[key]}" for key in ("model", "version", "weights_sha256", "preprocessing") if m[key]
        ]
        told += [f"from {m['embedding_key']}"] if m["embedding_key"] else []
        names = m.get("feature_names", [])
        told += [f"features {shown(names)}"] if names else []
        told += [f"in {m['units']}"] if m.get("units") else []
        lines.append(f"    {', '.join(told) or 'of unknown provenance'}")
    others = [f"{n} ({kind})" for n, kind in info["columns"].items() if n != "object_id"]
    lines.append(f"  columns: {', '.join(others) or 'ids only'}")
    lines += [f"  imported: {s['path']}, {s['objects']} objects" for s in info["sources"]]
    return "\n".join(lines)
