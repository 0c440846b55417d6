"""What is looked for in embedding stores, with which detectors and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...anomaly.detector import Detector
from ...anomaly.kinds import class_of
from ...anomaly.summary import SAMPLE_ROWS
from ...errors import ConfigError, InputError
from .models import check_belongs, load_models
from .stores import Kept

Fusion = Literal["pvalue", "geo", "min", "avg"]
Find = Literal["outliers", "cosine", "multimodal", "scores"]
#: Modalities that are compared, and those that are made of both.
IMAGE, SPECTRUM, JOINT = "image", "spectrum", "joint"


class DetectConfig(BaseModel):
    """How anomalous objects are looked for; the section ``detect`` of a configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_type: Literal["coupling", "autoregressive"] = Field("coupling", description="kind of the flow")
    n_layers: int = Field(4, ge=1, le=64, description="layers of the flow")
    hidden_dim: int = Field(128, ge=1, le=8192, description="width of the networks of the flow")
    learning_rate: float = Field(5e-3, gt=0, description="of the training of the flow, at its begin")
    components: int = Field(100, ge=2, description="principal components that the flow sees")
    epochs: int | None = Field(None, ge=1, description="most passes over the sample; 1200 steps by default")
    batch: int = Field(512, ge=1, description="objects of one step")
    patience: int = Field(5, ge=1, description="passes without progress after which training ends")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where networks run")
    folds: int = Field(5, ge=1, le=100, description="models, each without the objects that it scores")
    seed: int = Field(0, ge=0, description="of what is random in training")
    group: str | None = Field(None, description="column whose equal values keep objects in one fold")
    robust: bool = Field(False, description="moments once more without the objects that surprised")
    alignment: Literal["auto", "mlp", "ridge"] = Field(
        "auto", description="how the match of modalities is learned; auto: mlp where torch is installed"
    )
    fusion: Fusion = Field("pvalue", description="how scores become one: pvalue, geo, min or avg")
    top_k: int = Field(200, ge=1, description="objects of the ranked lists")
    fdr: float = Field(0.1, gt=0, lt=1, description="false discovery rate of the list of p-values")
    t_img: float | None = Field(None, ge=0, le=1, description="least share of the image's rank in filtered")
    t_spec: float | None = Field(None, ge=0, le=1, description="least share of the spectrum's rank")
    t_mis: float | None = Field(None, ge=0, le=1, description="least share of the mismatch's rank")

    @property
    def flow(self) -> dict[str, Any]:
        """Settings of flows."""
        names = (
            "model_type", "n_layers", "hidden_dim", "learning_rate", "components", "epochs", "batch",
            "patience", "device", "folds", "seed",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


class SearchConfig(DetectConfig):
    """The options of a survey of embeddings."""

    find: Find = Field("multimodal", description="outliers, cosine, multimodal, or scores of given models")
    models: str | None = Field(None, description="folder of detectors that are trained already")
    train: bool = Field(True, description="whether detectors that are not there are trained")

    def chosen(self, kept: Mapping[str, Kept]) -> dict[str, Kept]:
        """The modalities of a store that are read."""
        wanted = {m for pair in pairs(kept) for m in pair}
        whole = self.find in ("outliers", "scores")
        return {m: k for m, k in kept.items() if whole or m in wanted}

    def check(self, kept: Mapping[str, Kept], path: str) -> None:
        """Refuse a store that does not hold what is looked for.

        Raises
        ------
        InputError
            If modalities are to be compared and there is only one.
        """
        if not kept:
            raise InputError(f"{path} holds no vectors: import some with `fmbdask embeddings import`")
        if self.find in ("cosine", "multimodal") and not pairs(kept):
            raise InputError(
                f"{path} holds one modality only ({', '.join(kept)}): a mismatch needs two, use "
                "`fmbdask detect outliers`"
            )

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
        return int(self.robust and self.find == "multimodal" and self.fusion == "pvalue")

    def seconds_to_learn(self, stores: int) -> float:
        """Expected time of training [s]: that of the flows, which grows with what a layer has to multiply."""
        if self.find == "cosine":
            return 5.0 * stores
        flows = 2 * 40.0 * self.n_layers * (0.2 + (self.hidden_dim / 128) ** 2)
        return 30.0 + flows * (self.epochs or 10) / 10

    def memory_to_learn(self, widths: Mapping[str, int]) -> int:
        """Memory of learning beside the summary: eigenvectors, and the sample as networks see it [byte]."""
        if self.find == "cosine":
            return 2**26
        largest = max(widths.values(), default=0)
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


def by_model(kept: Mapping[str, Kept]) -> dict[str, list[str]]:
    """Modalities by the model that made them."""
    found: dict[str, list[str]] = {}
    for modality, one in kept.items():
        found.setdefault(one.model, []).append(modality)
    return found


def pairs(kept: Mapping[str, Kept]) -> list[tuple[str, str]]:
    """Modalities that are compared: image and spectrum of each model, else its first two but joint ones."""
    found = []
    for modalities in by_model(kept).values():
        single = [m for m in modalities if JOINT not in m]
        images = [m for m in single if IMAGE in m]
        spectra = [m for m in single if SPECTRUM in m]
        if images and spectra:
            found.append((images[0], spectra[0]))
        elif len(single) > 1:
            found.append((single[0], single[1]))
    return found


def wanted(search: SearchConfig, kept: Mapping[str, Kept]) -> dict[str, Detector]:
    """Detectors that a search needs, not fitted yet, that know their modalities; by name.

    Names are those of :func:`fmbdask.anomaly.search.default_detectors`; where a store holds vectors of
    several models, the model stands before the name.
    """
    from ...anomaly.mahalanobis import Mahalanobis
    from ...anomaly.search import default_detectors

    found: dict[str, Detector] = {}
    models = by_model(kept)
    common: dict[str, Any] = {"folds": search.folds, "seed": search.seed}

    def add(name: str, model: str, detector: Detector, modalities: Sequence[str]) -> None:
        detector.modalities = tuple(modalities)
        found[name if len(models) == 1 else f"{model}.{name}"] = detector

    if search.find == "outliers":
        for modality, one in kept.items():
            add(f"flow_{modality}", one.model, class_of("flow")(**search.flow), [modality])
    for pair in pairs(kept):
        model, widths = kept[pair[0]].model, {m: kept[m].width for m in pair}
        cosine = search.find == "cosine" or widths[pair[0]] == widths[pair[1]]
        if search.find in ("cosine", "multimodal") and cosine:
            add("cosine", model, class_of("cosine")(**common), pair)
        if search.find == "multimodal":
            for modality in pair:
                add(f"flow_{modality}", model, class_of("flow")(**search.flow), [modality])
        if search.find == "multimodal" and search.fusion == "pvalue":
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
    return dict(found)


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
    if search.find != "cosine":
        from ...models import need

        need("normalizing flows", "torch", "zuko")
        import torch  # noqa: F401
        import zuko  # noqa: F401
