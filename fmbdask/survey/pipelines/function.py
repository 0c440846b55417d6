"""A user's own functions as a pipeline of survey runs; see :mod:`.declare` for how they are declared."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import xxhash

from ...errors import ConfigError
from ...regions import edge_for
from ...store.run.items import Item
from ..config import SurveyConfig
from ..planning.inputs import stacked
from .declare import Declaration, Output, declaration_of
from .describing import contents, described_item, shaped_item
from .function_stage import ExposureStage, FunctionStage, StackStage

#: Largest region of a stack of exposures [byte].
STACK_BYTES = 64 * 2**20


class FunctionPipeline:
    """Functions of regions, one a stage; a :class:`~fmbdask.survey.pipelines.protocol.Pipeline`.

    Stages over exposures work on one item, the stack of all exposures; those over an exposure on one item
    each. An item has no regions in a stage of the other kind.

    Parameters
    ----------
    config : SurveyConfig
    declarations : sequence of Declaration
    source : str
        Checksum of the file that the functions are in.
    """

    def __init__(self, config: SurveyConfig, declarations: Sequence[Declaration], source: str) -> None:
        names = [d.name for d in declarations]
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ConfigError(f"two stages of {config.pipeline} are called {twice[0]}: give them other names")
        self.config, self.source = config, source
        self.name = config.pipeline.rpartition(":")[2]
        self.declarations = tuple(declarations)
        kinds: dict[str, type[FunctionStage]] = {"exposure": ExposureStage, "exposures": StackStage}
        self.stages: tuple[FunctionStage, ...] = tuple(
            kinds[d.over](d, config, n, names[:n]) for n, d in enumerate(declarations)
        )
        #: Whether inputs become one item together, which no input can be added to.
        self.together = any(d.over == "exposures" for d in declarations)

    @staticmethod
    def load(config: SurveyConfig) -> FunctionPipeline:
        """Load the functions that a configuration names.

        Raises
        ------
        ConfigError
            If there are none, or they are not declared.
        """
        place, _, name = config.pipeline.rpartition(":")
        module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
        found = getattr(module, name, None)
        members = found if isinstance(found, list | tuple) else [found]
        declarations = [d for d in map(declaration_of, members) if d is not None]
        if not declarations or len(declarations) != len(members):
            known = [n for n, value in vars(module).items() if declaration_of(value) is not None]
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; the nearest is {near[0]}" if near else f"; declared are {', '.join(known) or 'none'}"
            raise ConfigError(
                f"{place} has no pipeline {name}{hint}: put @fmbdask.survey.pipeline(...) before the "
                "function, or make a list of such functions"
            )
        file = inspect.getsourcefile(module)
        source = xxhash.xxh3_128_hexdigest(Path(file).read_bytes()) if file else ""
        return FunctionPipeline(config, declarations, source)

    def items(self, paths: Sequence[str], first: int) -> list[Item]:
        """Describe exposures from their headers, and put those of one shape together where that is asked."""
        overrides, edge = self.config.exposure.given(), self.config.edge
        alone = [described_item(path, first + i, overrides, edge) for i, path in enumerate(paths)]
        if not self.together:
            return [self._complete(item) for item in alone]
        whole = any(d.over == "exposures" and d.frames is None for d in self.declarations)
        keys = [i.shape if whole else i.shape[:1] + i.shape[2:] for i in alone]
        most = Counter(k for k, i in zip(keys, alone, strict=True) if not i.problem).most_common(1)
        common = most[0][0] if most else ()
        alone = [_checked(item, key, common) for item, key in zip(alone, keys, strict=True)]
        good = [item for item in alone if not item.problem]
        found = [self._stack(good)] if good else []
        each = any(d.over == "exposure" for d in self.declarations)
        found += [self._complete(item) for item in alone if item.problem or each]
        return [replace(item, index=first + place) for place, item in enumerate(found)]

    def _stack(self, items: Sequence[Item]) -> Item:
        """The item of all exposures together."""
        stages = [d for d in self.declarations if d.over == "exposures"]
        counts = [_frame_count(d.frames, item.shape[1]) for d in stages for item in items]
        first = items[0]
        dtype = str(np.result_type(*(np.dtype(item.dtype) for item in items)))
        shape = (len(items), first.shape[0], max(counts), *first.shape[2:])
        depth = shape[0] * shape[1] * shape[2]
        edge = self.config.edge or edge_for(depth, np.dtype(dtype).itemsize, STACK_BYTES)
        regions = -(-shape[3] // edge) * -(-shape[4] // edge)
        wanted = sum(
            item.nbytes // item.shape[1] * _frame_count(d.frames, item.shape[1])
            for d in stages
            for item in items
        )
        made = Item(
            0, stages[0].name, stacked([item.path for item in items]), shape=shape, dtype=dtype, edge=edge,
            regions=tuple(regions if d.over == "exposures" else 0 for d in self.declarations),
            nbytes=wanted,
        )  # fmt: skip
        return replace(made, nbytes_out=sum(_size(o, made) for d in stages for o in d.outputs.values()))

    def _complete(self, item: Item) -> Item:
        """Regions of an exposure in every stage, and the size of its outputs."""
        none = (0,) * len(self.declarations)
        if item.problem:
            return replace(item, regions=none)
        own = [d for d in self.declarations if d.over == "exposure"]
        count = item.regions[0]
        return replace(
            item,
            regions=tuple(count if d.over == "exposure" else 0 for d in self.declarations),
            nbytes_out=sum(_size(o, item) for d in own for o in d.outputs.values()),
        )

    def shaped(self, item: Item, shape: Sequence[int], dtype: str) -> Item:
        """Complete an item whose shape a manifest gives."""
        return self._complete(shaped_item(item, shape, dtype, self.config.edge))

    def fingerprint(self) -> Mapping[str, Any]:
        """What the results depend on beside the inputs: the function may, also on the edge of its regions."""
        kept = self.config.as_json()
        maps = [v for v in self.config.exposure.given().values() if isinstance(v, str)]
        own = {
            "source": self.source,
            "stages": [d.name for d in self.declarations],
            "contents": contents(maps),
        }
        return own | {key: kept[key] for key in ("pipeline", "exposure", "options", "edge")}

    def warm(self) -> None:
        """Nothing to compile but what the functions compile themselves."""


def _checked(item: Item, own: tuple[int, ...], common: tuple[int, ...]) -> Item:
    if item.problem or own == common:
        return item
    return replace(
        item,
        problem=f"{item.path} has shape {item.shape}, most of the stack another one: leave it out",
    )


def _frame_count(frames: tuple[int, ...] | None, total: int) -> int:
    return total if frames is None else len(frames)


def _size(output: Output, item: Item) -> int:
    """Bytes of an output of an item, uncompressed."""
    lengths = dict(zip(("integration", "frame", "y", "x"), item.shape[-4:], strict=True)) | dict(output.sizes)
    return int(np.prod([lengths[d] for d in output.dims])) * np.dtype(output.dtype).itemsize


def _load_file(path: Path) -> ModuleType:
    """Run a file as a module of its own name."""
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file: give file.py:function as pipeline")
    name = f"fmbdask_user_{xxhash.xxh3_64_hexdigest(str(path).encode())}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} is no Python file: give file.py:function as pipeline")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ConfigError(f"{path} cannot be run ({type(error).__name__}: {error}): mend it") from error
    return module


def _load_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the module {name} of the pipeline cannot be imported ({error}): install it, or give "
            "file.py:function"
        ) from None
