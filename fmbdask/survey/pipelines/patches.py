"""Training patches: each input is the recipe of an exposure, which is simulated, searched and cut up.

A region is a whole exposure. Its product is a store of its patches; the reduction of the run puts them all
into one, ``catalog/patches.zarr``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ...errors import ConfigError, FmbdaskError
from ...ramps.detect import detect
from ...store.patches import PatchStore, join_patches, write_patches
from ...store.run.items import Item
from ..config import SurveyConfig
from ..exposures.compiling import compile_kernels, tiny
from ..patches.drawing import KINDS, patch_shape, patches_of
from ..patches.recipes import SPLITS, read_recipe
from ..patches.settings import PatchSettings
from .inline import inline
from .protocol import Context, Memory

#: The store of patches, in products and in the catalogue of a run.
PATCHES = "patches.zarr"
#: Memory of a unit beside arrays [byte].
BASE = 64 * 2**20
#: Bytes of memory for each value of an exposure: counts, charges, and what the search takes.
PER_VALUE = 24
#: Proposals for each pixel of an exposure, at most: noise that is no noise of the model makes most.
PROPOSALS = 0.02
#: Bytes of a voxel of a patch: three values and a class.
PER_VOXEL = 7


class PatchPipeline:
    """Simulated training patches, one stage; a :class:`~fmbdask.survey.pipelines.protocol.Pipeline`.

    Parameters
    ----------
    config : SurveyConfig
        Its ``options`` are the fields of :class:`~fmbdask.survey.patches.settings.PatchSettings`.

    Raises
    ------
    ConfigError
        If the options cannot be used.
    """

    name = "patches"

    def __init__(self, config: SurveyConfig) -> None:
        try:
            self.settings = PatchSettings.model_validate(config.options)
        except ValidationError as error:
            said = error.errors()[0]
            where = ".".join(map(str, said["loc"]))
            raise ConfigError(
                f"options.{where} of the patches pipeline cannot be used ({said['msg']}): it takes "
                f"{', '.join(PatchSettings.model_fields)}"
            ) from None
        self.stages = (PatchStage(self.settings),)

    def items(self, paths: Sequence[str], first: int) -> list[Item]:
        """Describe exposures from their recipes."""
        return [self._item(path, index) for index, path in enumerate(paths, first)]

    def _item(self, path: str, index: int) -> Item:
        item = Item(index, "", path)
        try:
            recipe = read_recipe(path)
        except FmbdaskError as error:
            return replace(item, problem=str(error))
        return self.shaped(item, (1, recipe.frames, *recipe.shape), "uint16")

    def shaped(self, item: Item, shape: Sequence[int], dtype: str) -> Item:
        """Complete an item: it is one region."""
        full = (1, *shape) if len(shape) == 3 else tuple(shape)
        return replace(
            item, shape=full, dtype=dtype, edge=max(full[2:]), regions=(1,), nbytes=2 * prod(full),
            nbytes_out=PER_VOXEL * self.stages[0].patches(full) * prod(patch_shape(self.settings)),
        )  # fmt: skip

    def fingerprint(self) -> Mapping[str, Any]:
        """What the results depend on beside the recipes."""
        return {"pipeline": self.name, "options": self.settings.model_dump(mode="json")}

    def warm(self) -> None:
        """Compile the kernels."""
        compile_kernels()
        detect(tiny())


class PatchStage:
    """The one stage; a :class:`~fmbdask.survey.pipelines.protocol.Stage`."""

    name = "patches"
    resources: Mapping[str, float] = {}

    def __init__(self, settings: PatchSettings) -> None:
        self.settings = settings

    def patches(self, shape: Sequence[int]) -> int:
        """How many patches an exposure may have."""
        own = self.settings
        if own.grid is None:
            return own.events + own.background + round(PROPOSALS * shape[2] * shape[3])
        step = (own.grid.patch_frames, *(n - own.grid.overlap for n in own.grid.patch_size))
        return prod(-(-n // s) for n, s in zip(shape[1:], step, strict=True))

    def memory(self, item: Item) -> Memory:
        """The exposure while it is simulated and searched, and its patches, also as they are kept."""
        patches = PER_VOXEL * self.patches(item.shape) * prod(patch_shape(self.settings))
        return Memory(BASE, BASE + PER_VALUE * prod(item.shape) + 3 * patches, BASE + 2 * patches)

    def prepare(self, item: Item, context: Context) -> None:
        """Nothing is shared."""

    def map(self, item: Item, region: int, prepared: Any, context: Context) -> dict[str, Any]:
        """Simulate an exposure, and cut its patches out."""
        recipe = read_recipe(item.path)
        with inline():
            found = patches_of(recipe, self.settings)
        context.nbytes += item.nbytes
        return found | {"recipe": recipe.model_dump(mode="json")}

    def reduce(
        self, item: Item, prepared: Any, results: Iterator[Any], target: Path, context: Context
    ) -> None:
        """Write the patches of an exposure."""
        found = next(results)
        recipe = found.pop("recipe")
        context.extra["patches"] = len(found["classes"])
        with context.writing():
            write_patches(target / PATCHES, found, {"recipe": recipe})

    def reduce_run(self, products: Sequence[tuple[Item, Path]], target: Path, context: Context) -> None:
        """Put the patches of all exposures together."""
        if not products:
            return
        parts = [folder / PATCHES for _, folder in products]
        attrs = {
            "settings": self.settings.model_dump(mode="json"),
            "exposures": {
                str(item.index): PatchStore.open(part).attrs["recipe"]
                for (item, _), part in zip(products, parts, strict=True)
            },
            "kinds": list(KINDS),
            "splits": list(SPLITS),
        }  # fmt: skip
        with context.writing():
            join_patches(parts, [item.index for item, _ in products], target / PATCHES, attrs)
