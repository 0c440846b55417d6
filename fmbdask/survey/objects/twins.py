"""What users of the benchmark call, with its arguments: a flow, its scores, and mismatches by cosine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .detecting import DetectConfig
from .searching import OUT, search, stores_of
from .training import train

if TYPE_CHECKING:
    import pandas as pd

StrPath = str | os.PathLike[str]


def train_flow(
    embeddings_path: StrPath,
    model_type: str = "coupling",
    n_layers: int = 8,
    hidden_dim: int = 256,
    *,
    out: StrPath | None = None,
    overwrite: bool = False,
    **settings: Any,
) -> Path:
    """Train a normalizing flow for each modality of a store.

    Parameters
    ----------
    embeddings_path : path
        A store, or a ``.pt`` file, which is imported once beside it.
    model_type : {"coupling", "autoregressive"}
    n_layers, hidden_dim : int
        Layers of the flow, and the width of its networks.
    out : path, optional
        Folder of the models; ``runs/outliers/models/<model>`` by default.
    overwrite : bool
        Whether models that are there are replaced.
    **settings
        More of :class:`~fmbdask.survey.objects.detecting.DetectConfig`: ``learning_rate``, ``epochs``, ...

    Returns
    -------
    Path
        Folder of the models, one below it for each modality: what :func:`detect_anomalies` takes.

    Examples
    --------
    >>> models = train_flow("astropt.zarr", n_layers=2, hidden_dim=16, epochs=2, overwrite=True)
    """
    chosen = DetectConfig(model_type=model_type, n_layers=n_layers, hidden_dim=hidden_dim, **settings)
    trained = train("flow", stores_of([embeddings_path]), out, chosen, overwrite=overwrite)
    return trained.models[0].parent


def detect_anomalies(
    model_path: StrPath, embeddings_path: StrPath, *, out: StrPath = OUT, overwrite: bool = False
) -> pd.DataFrame:
    """Rank the objects of a store by how improbable trained flows find them.

    Parameters
    ----------
    model_path : path
        What :func:`train_flow` returned.
    embeddings_path : path
        A store, or a ``.pt`` file, which is imported once beside it.
    out : path
        Folder that gets ``anomaly_scores_<model>.csv`` and the same as Parquet.
    overwrite : bool
        Whether lists that are there are replaced.

    Returns
    -------
    DataFrame
        The list: object_id, embedding_key, log_prob, neg_log_prob, anomaly_sigma, rank (1 the most anomalous
        of its key) and p_value; one row for each object and key.

    Examples
    --------
    >>> models = train_flow("astropt.zarr", n_layers=2, hidden_dim=16, epochs=2, overwrite=True)
    >>> scores = detect_anomalies(models, "astropt.zarr", overwrite=True)
    >>> int(scores["rank"].min())
    1
    """
    stores = stores_of([embeddings_path])
    found = search(stores, out, "outliers", models=model_path, overwrite=overwrite)
    return _read(found.lists, "anomaly_scores")


def compute_cosine_mismatch(
    embeddings_path: StrPath, *, out: StrPath = OUT, overwrite: bool = False
) -> pd.DataFrame:
    """Rank the objects of a store by the cosine similarity of their image and their spectrum.

    Parameters
    ----------
    embeddings_path : path
        A store, or a ``.pt`` file, which is imported once beside it.
    out : path
        Folder that gets ``cosine_scores_<model>.csv`` and the same as Parquet.
    overwrite : bool
        Whether lists that are there are replaced.

    Returns
    -------
    DataFrame
        The list: object_id, cosine_similarity, rank (1 the lowest) and p_value.

    Examples
    --------
    >>> mismatches = compute_cosine_mismatch("astropt.zarr", overwrite=True)
    >>> list(mismatches)
    ['object_id', 'cosine_similarity', 'rank', 'p_value']
    """
    found = search(stores_of([embeddings_path]), out, "cosine", overwrite=overwrite)
    return _read(found.lists, "cosine_scores")


def _read(lists: list[Path], name: str) -> pd.DataFrame:
    import pandas as pd

    tables = [pd.read_parquet(p.with_suffix(".parquet")) for p in lists if p.name.startswith(name)]
    return pd.concat(tables, ignore_index=True)
