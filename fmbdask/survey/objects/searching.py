"""Searches of tables and embedding stores, as commands and Python ask for them: here, or on a cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...anomaly.protocol import Report
from ...atomic import discard, publish, temporary_name
from ...errors import InputError, OutputExistsError, RunError
from ...store.embeddings import find_store
from ...store.run.folder import RunFolder
from ...store.run.items import read_items
from ...store.run.ledger import Ledger
from ...store.run.units import WHOLE_RUN
from ..config import Places, SurveyConfig
from .detecting import Find, SearchConfig, wanted
from .inline import Made, notes_of, run_inline
from .known import Origin, other_settings
from .models import load_models, model_folders
from .settings import DetectConfig
from .stores import described, opened
from .tables import concatenated
from .taking import by_model

#: Folder of the results where none is named, and that of the models in it.
OUT = Path("runs/outliers")
MODELS = "models"
MULTIMODAL = "multimodal"
#: First words of the names of the lists that a search makes.
LISTS: Mapping[str, tuple[str, ...]] = {
    "outliers": ("anomaly_scores",),
    "cosine": ("cosine_scores",),
    "ensemble": ("ensemble_scores",),
    "scores": ("scores",),
    "multimodal": (),
}


@dataclass
class Searched:
    """What a search made.

    Attributes
    ----------
    lists : list of Path
        CSV files; each has a Parquet file beside it.
    models : list of Path
        Folders of the models that were used.
    notes : list of str
        What the user should know: rows that were left out, models used again, drifts.
    """

    lists: list[Path] = field(default_factory=list)
    models: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def stores_of(
    given: Sequence[str | os.PathLike[str]],
    model: Sequence[str] = (),
    out: Path | None = None,
    progress: Report | None = None,
) -> list[Path]:
    """Find the stores that a user means.

    Parameters
    ----------
    given : sequence of path
        Stores, ``.pt`` files, or tables, each of which is imported once beside it.
    model : sequence of str
        Names under which ``paths.yaml`` knows others.
    out : Path, optional
        Where nothing is named: folder of earlier results, whose stores are meant.
    progress : callable, optional

    Raises
    ------
    InputError
        If one is no store; an exposure is told what to use.
    ConfigError
        If a name is not known.
    """
    places = Places.near(None)
    texts = [os.fspath(path) for path in given] + [places.absolute(f"{{{name}}}") for name in model]
    if not texts and out is not None and (out / MODELS).is_dir():
        origins = [Origin.read(folder) for folder in sorted((out / MODELS).iterdir()) if folder.is_dir()]
        texts = list(dict.fromkeys(origin.store for origin in origins if origin is not None))
    if not texts:
        raise InputError(
            "no store is named: give one, a .pt file, a table, or --model NAME with a name of paths.yaml"
        )
    return [find_store(text, progress=progress) for text in texts]


def search(
    stores: Sequence[Path],
    out: str | os.PathLike[str],
    find: Find,
    settings: DetectConfig | None = None,
    *,
    asked: Mapping[str, Any] | None = None,
    models: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    cluster: str | None = None,
    workers: int | None = None,
    progress: Report | None = None,
) -> Searched:
    """Search stores one after the other, and write the lists.

    Parameters
    ----------
    stores : sequence of Path
        Of different models.
    out : path
        Folder of the lists; models that are trained go to ``models/<model>`` there, and are used again.
    find : {"outliers", "cosine", "multimodal", "ensemble", "scores"}
    settings : DetectConfig, optional
    asked : mapping, optional
        Those settings that were asked for: models trained with others are not used.
    models : path, optional
        Folder of models to use instead of those of earlier searches.
    overwrite : bool
        Whether lists and models that are there are replaced.
    threads : int, optional
        As many as there are cores by default.
    cluster : str, optional
        Do it as a survey there: ``local``, or a YAML file.
    workers : int, optional
        Of the cluster.
    progress : callable, optional
        Called with (done, total, text).

    Raises
    ------
    InputError
        If a store, or a model for it, cannot be used.
    OutputExistsError
        If a list is there and is not to be replaced.
    """
    target = Path(out)
    searches = [_Search(path, target, find, settings or DetectConfig(), overwrite) for path in stores]
    _refuse_same_models(searches)
    done = Searched()
    for one in searches:
        one.choose_models(named_settings(settings or DetectConfig(), asked or {}), models, done)
        one.check_lists()
        done.notes += one.notes()
    several: list[Path] = []
    for one in searches:
        work = temporary_name(target / find)
        work.parent.mkdir(parents=True, exist_ok=True)
        try:
            if cluster is None:
                made = run_inline(one.config(), work, threads=threads, progress=progress)
            else:
                made = one.as_survey(work, cluster, workers, progress)
            done.notes += made.notes
            one.keep_models(made, done)
            if find == MULTIMODAL and len(searches) > 1:
                several.append(_aside(made.lists / MULTIMODAL / "all_scores.csv", target, one.name))
            done.lists += one.publish(made.lists)
        finally:
            discard(work)
    if several:
        done.lists.append(concatenated(several, target / MULTIMODAL / "all_scores.csv"))
    return done


class _Search:
    """One store that is searched, and what there is of earlier searches.

    Parameters
    ----------
    store, target : Path
    find : str
    settings : DetectConfig
    overwrite : bool
    """

    def __init__(
        self, store: Path, target: Path, find: Find, settings: DetectConfig, overwrite: bool
    ) -> None:
        self.store, self.target, self.find, self.overwrite = store.absolute(), target, find, overwrite
        self.options = settings.model_dump() | {"find": find}
        self.kept = described(opened(store))
        self.models = list(by_model(self.kept))
        self.name = "+".join(self.models)
        self.folder = target / MODELS / self.name
        SearchConfig(**self.options).check(opened(store), self.kept)

    def notes(self) -> list[str]:
        """What the user should know before anything is learnt."""
        search = SearchConfig(**self.options)
        if not search.learns:
            return []
        return search.known.note(opened(self.store), search.chosen(self.kept, str(self.store)))

    def wanted(self) -> dict[str, Any]:
        """Detectors that are needed."""
        search = SearchConfig(**self.options)
        return dict(wanted(search, search.chosen(self.kept, str(self.store))))

    def choose_models(
        self, asked: Mapping[str, Any], models: str | os.PathLike[str] | None, done: Searched
    ) -> None:
        """Use models that are given, or those of earlier searches of this store.

        Raises
        ------
        InputError
            If there are such, of other settings than those that were asked for.
        """
        if models is not None:
            self._use(Path(models), load_models(Path(models)), done)
            return
        earlier = model_folders(self.folder)
        needed = [name for name in self.wanted() if name in earlier]
        if self.find == "scores":
            raise InputError("no models are named to score with: give --models")
        if not needed:
            return
        origin = Origin.read(self.folder)
        if origin is not None and origin != Origin.of(self.store):
            done.notes.append(
                f"models in {self.folder} are of another store, or of an earlier state of it: trained anew"
            )
            return
        for name in needed:
            differ = other_settings(earlier[name], asked)
            if differ and not self.overwrite:
                raise InputError(
                    f"{earlier[name]} was trained with {differ}: leave that out to use it, or give "
                    "--overwrite to train it again"
                )
            if differ:
                return
        self._use(self.folder, earlier, done)

    def _use(self, folder: Path, there: Mapping[str, Any], done: Searched) -> None:
        needed = list(there) if self.find == "scores" else list(self.wanted())
        used = [name for name in needed if name in there]
        if not used:
            raise InputError(
                f"{folder} holds no {' and no '.join(needed)}, but {', '.join(there)}: leave --models out to "
                "train what is missing, or use `fmbdask detect score` with these"
            )
        done.notes.append(f"models of {folder} are used: {', '.join(used)}")
        done.models.append(folder)
        self.options |= {"models": str(folder.absolute()), "train": len(used) < len(needed)}

    def check_lists(self) -> None:
        """Refuse lists that are there and are not to be replaced.

        Raises
        ------
        OutputExistsError
        """
        names = [f"{word}_{model}.csv" for word in LISTS[self.find] for model in self.models]
        if self.find == MULTIMODAL:
            top = f"top{self.options['top_k']}"
            names = [f"{MULTIMODAL}/ranked/{top}_{m}_{self.options['fusion']}.csv" for m in self.models]
            if "models" not in self.options:  # lists of models that are not used would be replaced
                words = ("anomaly_scores", "cosine_scores")
                names += [f"{word}_{m}.csv" for word in words for m in self.models]
        for name in names:
            if (self.target / name).exists() and not self.overwrite:
                raise OutputExistsError(
                    f"{self.target / name} is already there: give another folder, or --overwrite"
                )

    def config(self, output: Path | None = None) -> SurveyConfig:
        """The search as a survey."""
        return SurveyConfig(
            name=f"{self.find}-{self.name}".replace("/", "-"),
            pipeline="embeddings",
            inputs=(str(self.store),),
            output=None if output is None else str(output.absolute()),
            options=SearchConfig(**self.options).model_dump(mode="json"),
        )

    def as_survey(self, work: Path, cluster: str, workers: int | None, progress: Report | None) -> Made:
        """Do it on a cluster: a run of its own, which is resumed where it was interrupted.

        Raises
        ------
        RunError
            If it stops before its end.
        """
        from ..planning.plan import plan
        from ..running.run import resume, run

        folder = self.target / "survey" / f"{self.find}-{self.name}"
        if self.overwrite and folder.is_dir():
            shutil.rmtree(folder)
        if (folder / "run.json").is_file() and any((folder / "journal").glob("*")):
            ended = resume(folder, cluster=cluster, workers=workers, progress=progress)
        else:
            made = plan(self.config(folder), cluster=cluster, workers=workers, progress=progress)
            ended = run(made, cluster=cluster, workers=workers, progress=progress)
        if not ended.complete or ended.failed:
            raise RunError(f"{ended.describe()}: `fmbdask survey failures {folder}` says why")
        shutil.copytree(folder / "catalog", work / "catalog")
        stages = sorted((folder / "products").glob("*.run/models"), key=lambda p: (len(p.parent.name), p))
        models = stages[-1] if stages else None
        if models is not None:
            shutil.copytree(models, work / MODELS)
        return Made(work / "catalog", work / MODELS if models else None, notes_of_run(folder))

    def keep_models(self, made: Made, done: Searched) -> None:
        """Keep models that were trained."""
        if made.models is None:
            return
        new = model_folders(made.models)
        for name, path in new.items():
            target = self.folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            publish(path, target)
        if new:
            Origin.of(self.store).write(self.folder)
            done.models.append(self.folder)

    def publish(self, lists: Path) -> list[Path]:
        """Give lists their names; of several searches the later ones leave those alone that are there."""
        found = []
        for path in sorted(p for p in lists.rglob("*") if p.is_file()):
            target = self.target / path.relative_to(lists)
            if path.name == "rates.csv":
                target = target.with_name(f"rates_{self.find}_{self.name}.csv")
            target.parent.mkdir(parents=True, exist_ok=True)
            publish(path, target)
            if target.suffix == ".csv":
                found.append(target)
        return found


def named_settings(settings: DetectConfig, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that were asked for and that models are compared with: weights name members as well."""
    found = dict(asked)
    if "members" in asked or "weights" in asked:
        found["members"] = settings.ensemble
    return found


def notes_of_run(folder: Path) -> list[str]:
    """What the units of a run said."""
    items = read_items(RunFolder(folder).items_file).by_index
    notes: list[str] = []
    with Ledger.snapshot(RunFolder(folder)) as ledger:
        for ended in ledger.ended():
            if ended.unit.item == WHOLE_RUN:
                notes += ended.extra.get("notes", [])
            elif ended.extra:
                notes += notes_of(items[ended.unit.item], dict(ended.extra))
    return list(dict.fromkeys(notes))


def _refuse_same_models(searches: Sequence[_Search]) -> None:
    seen: dict[str, Path] = {}
    for one in searches:
        for model in one.models:
            if model in seen:
                raise InputError(
                    f"{seen[model]} and {one.store} both hold vectors of {model}: give stores of different "
                    "models, or run them as one survey (pipeline: embeddings)"
                )
            seen[model] = one.store


def _aside(path: Path, target: Path, name: str) -> Path:
    """Put a table, and its Parquet file, where those of other models will join it."""
    aside = temporary_name(target / f"{name}.csv")
    for suffix in (".csv", ".parquet"):
        path.with_suffix(suffix).rename(aside.with_suffix(suffix))
    return aside.with_suffix(".csv")
