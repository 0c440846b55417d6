"""What is looked for in tables and embedding stores, and with which detectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from ...anomaly.detector import Detector
from ...anomaly.summary import SAMPLE_BYTES, SAMPLE_ROWS
from ...errors import ConfigError, InputError
from ...store.embeddings.opening import Store
from .ensembles import adjusted, ensemble_of
from .making import detector_of
from .models import check_belongs, load_models
from .settings import DetectConfig
from .stores import Kept
from .taking import by_model, named, pairs, suited

#: Families whose training takes minutes.
NETWORKS = {"autoencoder", "flow", "lstm"}
Find = Literal["outliers", "cosine", "multimodal", "ensemble", "scores"]


class SearchConfig(DetectConfig):
    """The options of a survey of embeddings."""

    find: Find = Field(
        "multimodal", description="outliers, cosine, multimodal, ensemble, or scores of given models"
    )
    models: str | None = Field(None, description="folder of detectors that are trained already")
    train: bool = Field(True, description="whether detectors that are not there are trained")

    def chosen(self, kept: Mapping[str, Kept], where: str = "the store") -> dict[str, Kept]:
        """The modalities of a store that are read.

        Raises
        ------
        InputError
            If the store does not hold what is looked for.
        """
        own = named(kept, self.modality, where)
        if self.find == "scores":
            return own
        if self.find == "outliers":
            return {m: own[m] for m in suited("flow", kept, self.modality, where)}
        if self.find == "ensemble":
            return {m: own[m] for m in ensemble_of(self, kept, where).modalities}
        found = pairs(own)
        if not found:
            raise InputError(
                f"{where} holds no two modalities of one model to compare ({', '.join(own)}): a mismatch "
                "needs two vectors of an object, use `fmbdask detect ensemble` or `outliers`"
            )
        wanted = {m for pair in found for m in pair}
        return {m: k for m, k in own.items() if m in wanted}

    def check(self, store: Store, kept: Mapping[str, Kept]) -> None:
        """Refuse a store that does not hold what is looked for.

        Raises
        ------
        InputError
        """
        if not kept:
            raise InputError(f"{store.path} holds no vectors: import some with `fmbdask embeddings import`")
        self.chosen(kept, str(store.path))
        if self.learns:
            self.known.check(store)

    @property
    def learns(self) -> bool:
        """Whether anything may have to be trained."""
        return self.train and self.find != "scores"

    @property
    def moments(self) -> bool:
        """Whether moments are learned from, and not only a sample."""
        return self.find != "cosine"

    @property
    def reweights(self) -> int:
        """How often moments are taken again."""
        learn = self.find == "multimodal" and self.fusion == "pvalue"
        return int(self.robust and (learn or self.find == "ensemble"))

    def seconds_to_learn(self, stores: int) -> float:
        """Expected time of training [s]: of networks it grows with what a layer has to multiply."""
        if self.find == "cosine":
            return 5.0 * stores
        if self.find == "ensemble":
            return 60.0 + 60.0 * len(NETWORKS & set(self.ensemble or ("autoencoder",)))
        flows = 2 * 40.0 * self.n_layers * (0.2 + (self.hidden_dim / 128) ** 2)
        return 30.0 + flows * (self.epochs or 10) / 10

    def memory_to_learn(self, widths: Mapping[str, int]) -> int:
        """Memory of learning beside the summary: eigenvectors, and the sample as networks see it [byte]."""
        if self.find == "cosine":
            return 2**26
        largest = max(widths.values(), default=0)
        if self.find == "ensemble":
            sample = min(4 * SAMPLE_ROWS * sum(widths.values()), SAMPLE_BYTES)
            return 6 * 8 * largest * largest + 6 * sample + 2**29
        return 6 * 8 * largest * largest + 4 * SAMPLE_ROWS * (2 * largest + 4 * self.components)

    def memory_of_models(self, features: int) -> int:
        """Memory of all models of a search [byte]."""
        if self.find == "cosine":
            return 2**20
        return 2 * 4 * self.folds * features * features + 2**26


def search_of(options: Mapping[str, Any]) -> SearchConfig:
    """Settings from the options of a survey.

    Raises
    ------
    ConfigError
        If they cannot be used.
    """
    try:
        return SearchConfig.model_validate(options)
    except ValidationError as error:
        said = error.errors()[0]
        where = ".".join(map(str, said["loc"]))
        raise ConfigError(
            f"options.{where} of the embeddings pipeline cannot be used ({said['msg']}): it takes "
            f"{', '.join(SearchConfig.model_fields)}"
        ) from None


def wanted(search: SearchConfig, kept: Mapping[str, Kept]) -> dict[str, Detector]:
    """Detectors that a search needs, not fitted yet, that know their modalities; by name.

    Names are those of :func:`fmbdask.anomaly.search.default_detectors`; where a store holds vectors of
    several models, the model stands before the name.
    """
    from ...anomaly.mahalanobis import Mahalanobis
    from ...anomaly.search import default_detectors

    found: dict[str, Detector] = {}
    models = by_model(kept)

    def add(name: str, model: str, detector: Detector, modalities: Sequence[str]) -> None:
        detector.modalities = tuple(modalities)
        found[name if len(models) == 1 else f"{model}.{name}"] = detector

    if search.find == "ensemble":
        ensemble = ensemble_of(search, kept, "the store")
        add("ensemble", kept[ensemble.modalities[0]].model, ensemble, ensemble.modalities)
    if search.find == "outliers":
        for modality, one in kept.items():
            add(f"flow_{modality}", one.model, detector_of("flow", search), [modality])
    for pair in pairs(kept) if search.find in ("cosine", "multimodal") else ():
        model, widths = kept[pair[0]].model, {m: kept[m].width for m in pair}
        if search.find == "cosine" or widths[pair[0]] == widths[pair[1]]:
            add("cosine", model, detector_of("cosine", search), pair)
        if search.find == "multimodal":
            for modality in pair:
                add(f"flow_{modality}", model, detector_of("flow", search), [modality])
        if search.find == "multimodal" and search.fusion == "pvalue":
            common: dict[str, Any] = {"folds": search.folds, "seed": search.seed}
            defaults = default_detectors(widths, alignment=search.alignment, cosine=False, **common)
            for name, (detector, own) in defaults.items():
                if isinstance(detector, Mahalanobis):
                    detector = Mahalanobis(span=detector.span, robust=search.robust, **common)
                add(name, model, detector, own)
    return found


def given(search: SearchConfig, kept: Mapping[str, Kept], where: str) -> dict[str, Detector]:
    """Detectors of the folder of models that a search may use: those that it needs, or all for mere scores.

    Raises
    ------
    InputError
        If one was fitted to other vectors.
    """
    if search.models is None:
        return {}
    found = load_models(Path(search.models))
    if search.find != "scores":
        names = wanted(search, kept)
        found = {name: found[name] for name in names if name in found}
    for detector in found.values():
        check_belongs(detector, kept, where)
    return {name: adjusted(search, detector) for name, detector in found.items()}


def missing(search: SearchConfig, kept: Mapping[str, Kept]) -> dict[str, Detector]:
    """Detectors that are to be trained."""
    there = given(search, kept, "the store")
    return {name: detector for name, detector in wanted(search, kept).items() if name not in there}


def notes_of(detectors: Mapping[str, Detector]) -> list[str]:
    """What training said: how far flows rank as Mahalanobis distances do."""
    notes = []
    for name, detector in detectors.items():
        overlap = getattr(detector, "overlap", None)
        if overlap:
            notes.append(
                f"{name}: against Mahalanobis distances Spearman {overlap['spearman']:.3f}, "
                f"{overlap['top_percent']:.0%} of the top 1 % shared, log p {overlap['gain']:+.2f} over a "
                "normal law"
            )
    return notes


def warm(search: SearchConfig) -> None:
    """Load what the detectors of a search are made of."""
    if search.find in ("outliers", "multimodal"):
        from ...models import need

        need("normalizing flows", "torch", "zuko")
    if search.find != "cosine" and find_spec("torch") is not None:
        import torch  # noqa: F401
