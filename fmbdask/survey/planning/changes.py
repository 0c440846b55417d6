"""What changed since a run began: inputs by size, time and header, and what decides about its results."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ChangedError, InputError
from ...store.catalog import versions
from ...store.run.folder import RunFolder, write_json
from ...store.run.items import Item, ItemTable, read_items, write_items
from ...store.run.ledger import Ledger
from ...store.run.units import REDUCE, WHOLE_RUN
from ..config import SurveyConfig, read_config
from ..pipelines import make
from .inputs import THREADS, Identity, identity_of, make_items_again
from .pinning import pinned_again
from .plan import Plan
from .project import with_costs

if TYPE_CHECKING:
    from ..running.chronicle import Chronicle

#: Differences that a message lists.
SHOWN = 8
#: Inputs that a thread looks at before it is asked again.
BATCH = 256


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes
    ----------
    what : str
        Path of an input, or dotted key of the configuration.
    old, new : str
    item : int
        Index of the item that is concerned, :data:`WHOLE_RUN` for all of them.
    """

    what: str
    old: str
    new: str
    item: int = WHOLE_RUN

    def __str__(self) -> str:
        return f"{self.what}: {self.old} -> {self.new}"


def compare(folder: RunFolder) -> list[Change]:
    """Find what changed since a run began.

    The configuration is read again from its file, if that is still there; only what decides about the results
    counts, so memory, cluster and the like may change. Inputs of items that are done may be gone.

    Parameters
    ----------
    folder : RunFolder

    Returns
    -------
    list of Change
        Of the configuration first; empty if nothing did.

    Raises
    ------
    RunError
        If the run is damaged.
    ConfigError
        If the configuration, or a function of the user, cannot be read any more.
    """
    run = folder.read_json(folder.run_file)
    config = current_config(run)
    now: Mapping[str, Any] = make(config).fingerprint()
    old, new = _flat(run["fingerprint"]), _flat(now)
    if new.keys() - old.keys():
        # options that the version which began the run did not have were at their defaults
        old = _flat(make(SurveyConfig.model_validate(run["config"])).fingerprint()) | old
    found = [
        Change(key, _shown(old.get(key)), _shown(new.get(key)))
        for key in dict.fromkeys((*old, *new))
        if _plain(old.get(key)) != _plain(new.get(key))
    ]
    items = read_items(folder.items_file)
    with Ledger.snapshot(folder) as ledger:
        last = len(items[0].regions) - 1 if len(items) else 0
        done = {item for stage, item in ledger.done_counts(REDUCE) if stage == last}
    return found + _changed_inputs(items, done)


def current_config(run: Mapping[str, Any]) -> SurveyConfig:
    """The configuration of a run as it is now: from its file where there is one, else as it was.

    Raises
    ------
    ConfigError, InputError
        If it cannot be read any more, or its network is gone.
    """
    before = SurveyConfig.model_validate(run["config"])
    file = run.get("config_file")
    if not file or not os.path.isfile(file):
        return pinned_again(before, before, None)
    now = read_config(file)
    # relative paths of the file belong to the folder where the run was begun: those that were given stay
    kept = {"output": before.output, "inputs": before.inputs}
    if Path(now.pipeline).name == Path(before.pipeline).name and not _exists(now.pipeline):
        kept["pipeline"] = before.pipeline
    return pinned_again(now.model_copy(update=kept), before, Path(file))


def _exists(pipeline: str) -> bool:
    place = pipeline.rpartition(":")[0]
    return not place.endswith(".py") or os.path.isfile(place)


def _changed_inputs(items: ItemTable, done: set[int]) -> list[Change]:
    usable = items.usable

    def batch(start: int) -> list[Change]:
        return list(_look(usable[start : start + BATCH], done))

    with ThreadPoolExecutor(THREADS) as pool:
        return [c for part in pool.map(batch, range(0, len(usable), BATCH)) for c in part]


def _look(items: Sequence[Item], done: set[int]) -> Iterator[Change]:
    for item in items:
        was = Identity(item.size, item.mtime_ns, item.header)
        what = item.path if not item.path.startswith("[") else f"an exposure of {item.name}"
        try:
            now = identity_of(item.path, header=bool(item.header))
        except InputError as error:
            if item.index not in done:
                yield Change(what, _identity(was), str(error), item.index)
            continue
        if (now.size, now.mtime_ns, now.header) != (was.size, was.mtime_ns, was.header):
            yield Change(what, _identity(was), _identity(now), item.index)


def _identity(identity: Identity) -> str:
    time = datetime.fromtimestamp(identity.mtime_ns / 1e9, UTC).isoformat(timespec="milliseconds")
    header = f", header {identity.header}" if identity.header else ""
    return f"{identity.size} bytes of {time}{header}"


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _shown(value: Any) -> str:
    return "default" if value is None else str(value)


def refuse(folder: RunFolder, found: Sequence[Change]) -> None:
    """Refuse to go on with a run that would mix results.

    Raises
    ------
    ChangedError
        With what changed.
    """
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    shown = "; ".join(str(change) for change in found[:SHOWN])
    raise ChangedError(
        f"{len(found)} change{'s' * (len(found) != 1)} since the run in {folder.path} began: "
        f"{shown}{more}: restore what was there, or begin what is concerned anew with --accept-changes"
    )


def accept(chronicle: Chronicle, found: Sequence[Change]) -> None:
    """Begin anew what is concerned, with the inputs and the configuration as they are now."""
    folder = chronicle.folder
    run = folder.read_json(folder.run_file)
    config = current_config(run)
    plan = Plan.load(folder.path)
    whole = any(change.item == WHOLE_RUN for change in found)
    concerned = {change.item for change in found if change.item != WHOLE_RUN}
    pipeline = make(config)
    again = [item for index in sorted(concerned) for item in [plan.items.by_index[index]]]
    described = with_costs(make_items_again(pipeline, again), pipeline, plan.calibration)
    fresh = {item.index: item for item in described}
    for item in plan.items:
        if whole or item.index in concerned:
            chronicle.anew(0, item.index, "its input or the configuration changed")
    chronicle.anew(0, WHOLE_RUN, "inputs or the configuration changed")
    chronicle.event(f"{len(found)} changes accepted: {'; '.join(map(str, found[:SHOWN]))}")
    chronicle.commit()
    write_items(folder.items_file, [fresh.get(item.index, item) for item in plan.items])
    if whole:
        kept = {"config": config.as_json(), "pipeline": config.pipeline, "versions": versions()}
        write_json(folder.run_file, run | kept | {"fingerprint": pipeline.fingerprint()})


def other_versions(folder: RunFolder) -> list[str]:
    """Packages that are of another version than when the run began: worth a word, no reason to refuse."""
    old: Mapping[str, str] = folder.read_json(folder.run_file).get("versions", {})
    new = versions()
    return [
        f"{name}: {old.get(name, 'none')} -> {new.get(name, 'none')}"
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name)
    ]
