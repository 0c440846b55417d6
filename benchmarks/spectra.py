"""Where detectors rank spectra of rare types, in a store that nobody labelled.

    python benchmarks/spectra.py SPECTRA.npz [--rare TYPE ...] [--detectors NAME ...] [--vectors KEY]
        [--group KEY] [--types KEY]

An NPZ file holds an array (spectra, pixels), the object that each spectrum is of, and its type. Spectra are
divided by the root of their mean square, over the pixels that are not 0: how bright a spectrum is says
nothing of its type. Each detector is fitted to all spectra with the objects as groups, so that a spectrum is
scored by models that never saw one of its object. Rare are types of at most 2 % of the spectra, if none are
named.
Printed are, of each rare type, the area under the ROC curve against all types that are not rare, times 100,
and the median of its spectra's ranks, the first being the most anomalous.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import rankdata

from fmbdask.anomaly import class_of
from fmbdask.errors import InputError

#: Share of the spectra up to which a type is rare.
RARE = 0.02
#: Name -> kind, options.
DETECTORS: dict[str, tuple[str, dict[str, Any]]] = {
    "isolation_forest": ("isolation_forest", {}),
    "neighbours": ("neighbours", {}),
    "mahalanobis": ("mahalanobis", {}),
    "residual": ("residual", {}),
    "residual, error": ("residual", {"whiten": False}),
    "autoencoder": ("autoencoder", {}),
    "ensemble": ("ensemble", {}),
}


def key_of(arrays: Mapping[str, NDArray[Any]], named: str | None, what: str, guesses: list[str]) -> str:
    """Key of an array: the one that is named, or the only one there is to guess."""
    if named is not None and named not in arrays:
        raise SystemExit(f"there is no array {named}: the file holds {', '.join(arrays)}")
    found = [named] if named is not None else guesses
    if len(found) != 1:
        raise SystemExit(f"{len(found)} arrays may be the {what}: name one of {', '.join(arrays)}")
    return found[0]


def store(path: Path, vectors: str | None, group: str | None, types: str | None) -> xr.Dataset:
    """The spectra, of one brightness, with their objects and types."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    flux = key_of(arrays, vectors, "spectra", [k for k, v in arrays.items() if v.ndim == 2])
    count = len(arrays[flux])
    columns = [k for k, v in arrays.items() if v.shape == (count,) and v.dtype.kind in "US"]
    objects = key_of(arrays, group, "objects", [k for k in columns if k == "object"])
    kinds = key_of(arrays, types, "types", [k for k in columns if k == "type"])
    values = arrays[flux].astype(np.float64)
    seen = np.maximum((values != 0).sum(axis=1, keepdims=True), 1)
    scale = np.sqrt(np.square(values).sum(axis=1, keepdims=True) / seen)
    values /= np.where(scale > 0, scale, 1.0)
    return xr.Dataset(
        {"spectrum": (("object", "pixel"), values.astype(np.float32))},
        coords={
            "object_id": ("object", np.arange(count)),
            "source": ("object", arrays[objects]),
            "type": ("object", arrays[kinds]),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spectra", type=Path)
    parser.add_argument("--rare", nargs="+", help="types; by default those of at most 2 %% of the spectra")
    parser.add_argument("--detectors", nargs="+", choices=list(DETECTORS), default=list(DETECTORS))
    parser.add_argument("--vectors", help="key of the spectra; by default the only array of two dimensions")
    parser.add_argument("--group", help="key of the objects; by default object")
    parser.add_argument("--types", help="key of the types; by default type")
    given = parser.parse_args()
    data = store(given.spectra, given.vectors, given.group, given.types)
    types = data["type"].values
    names, counts = np.unique(types, return_counts=True)
    few = [str(n) for n, c in zip(names, counts, strict=True) if c <= RARE * len(types)]
    rare = given.rare or few
    common = ~np.isin(types, rare)
    sources = data["source"].values
    print(
        f"{len(types)} spectra of {len(np.unique(sources))} objects, {len(names)} types; common "
        f"{int(common.sum())} spectra"
    )
    sizes = [f"{int((types == t).sum())} of {len(np.unique(sources[types == t]))}" for t in rare]
    print(f"\n| AUROC x 100 / median rank | {' | '.join(rare)} | all rare |\n|---|{'---|' * (len(rare) + 1)}")
    rest = f"{int((~common).sum())} of {len(np.unique(sources[~common]))}"
    print(f"| spectra of objects | {' | '.join([*sizes, rest])} |")
    for name in given.detectors:
        kind, options = DETECTORS[name]
        try:
            detector: Any = class_of(kind)(**options)
        except (InputError, ImportError, AttributeError):
            print(f"{name} is not there: left out")
            continue
        detector.fit(data, group="source", progress=lambda *_: None)
        scores = detector.score(data).values
        ranks = rankdata(-scores)
        cells = []
        for which in [*(types == t for t in rare), ~common]:
            inside = rankdata(np.concatenate([scores[common], scores[which]]))[int(common.sum()) :]
            area = (inside.mean() - (which.sum() + 1) / 2) / common.sum()
            cells.append(f"{100 * area:.1f} / {np.median(ranks[which]):.0f}")
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
