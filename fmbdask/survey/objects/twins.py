"""Searches as functions: those that users of the benchmark call, with its arguments, and those for tables."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .searching import OUT, search, stores_of
from .settings import DetectConfig
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


def train_detector(
    table: StrPath,
    kind: str,
    *,
    modality: str | Sequence[str] | None = None,
    group: str | None = None,
    labels: str | None = None,
    folds: int = 5,
    seed: int = 0,
    out: StrPath | None = None,
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Fit the detectors of one family to a table, a store or sequences, and save them.

    Parameters
    ----------
    table : path
        CSV, Parquet, NPZ, or a store; a file is imported once beside it.
    kind : str
        ``autoencoder``, ``isolation_forest``, ``neighbours``, ``lstm``, ``flow``, ``mahalanobis``,
        ``residual`` or ``alignment``.
    modality : str or sequence of str, optional
        Which one of a store; all that fit by default.
    group, labels : str, optional
        Columns: objects of one group are in one fold, objects labelled 1 are not learnt from.
    folds, seed : int
    out : path, optional
        Folder of the models; ``runs/outliers/models/<table>`` by default.
    overwrite : bool
        Whether models that are there are replaced.
    **options
        Arguments of the class of the family, see :mod:`fmbdask.anomaly`.

    Returns
    -------
    Path
        Folder of the models, one below it for each modality.

    Raises
    ------
    InputError
        If the table cannot be used.
    ConfigError
        If the family is not known, or does not take an option.

    Examples
    --------
    >>> models = train_detector("table.csv", "isolation_forest", trees=50, out="forests", overwrite=True)
    >>> sorted(path.name for path in models.iterdir())
    ['isolation_forest_features', 'store.json']
    """
    wanted = [modality] if isinstance(modality, str) else modality
    settings = DetectConfig(group=group, labels=labels, folds=folds, seed=seed)
    trained = train(
        kind, stores_of([table]), out, settings, modalities=wanted, options=options, overwrite=overwrite
    )
    return trained.models[0].parent


def detect_ensemble(
    table: StrPath,
    *,
    members: Sequence[str] | None = None,
    weights: Mapping[str, float] | None = None,
    models: StrPath | None = None,
    out: StrPath = OUT,
    overwrite: bool = False,
    **settings: Any,
) -> pd.DataFrame:
    """Rank the objects of a table, a store or sequences by several detectors together.

    Parameters
    ----------
    table : path
        CSV, Parquet, NPZ, or a store; a file is imported once beside it.
    members : sequence of str, optional
        Families of detectors; those that are weighed, else those that suit the table, by default.
    weights : mapping, optional
        Family -> how much it says; all the same by default.
    models : path, optional
        Folder with a trained ensemble; that of earlier searches of this table by default, or a new one.
    out : path
        Folder that gets ``ensemble_scores_<table>.csv`` and the same as Parquet.
    overwrite : bool
        Whether lists, and models of other settings, that are there are replaced.
    **settings
        More of :class:`~fmbdask.survey.objects.settings.DetectConfig`: ``group``, ``labels``, ``folds``,
        ``seed``, ``modality``, ``levels``, ``detectors``, ...

    Returns
    -------
    DataFrame
        The list, the most anomalous object first: object_id, ensemble_score, level (0 to 1), alert, label (1
        anomalous, 0 not, -1 no score), p_value, rank, and the score and the p-value of each member.

    Raises
    ------
    InputError
        If the table, or a model for it, cannot be used.

    Examples
    --------
    >>> found = detect_ensemble("table.csv", members=["isolation_forest", "mahalanobis"], overwrite=True)
    >>> int(found.object_id[0]), str(found.alert[0]), int(found.label[0])
    (7, 'critical', 1)
    """
    asked = {"members": members, "weights": weights} | settings
    asked = {name: value for name, value in asked.items() if value is not None}
    found = search(
        stores_of([table]),
        out,
        "ensemble",
        DetectConfig(**asked),
        asked=asked,
        models=models,
        overwrite=overwrite,
    )
    return _read(found.lists, "ensemble_scores")


def _read(lists: list[Path], name: str) -> pd.DataFrame:
    import pandas as pd

    tables = [pd.read_parquet(p.with_suffix(".parquet")) for p in lists if p.name.startswith(name)]
    return pd.concat(tables, ignore_index=True)
