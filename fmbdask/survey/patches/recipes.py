"""Recipes of simulated exposures: small files, each of which says all that decides about one exposure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from ...atomic import atomic
from ...errors import ConfigError, InputError
from ...ramps.simulation.config import SimulationConfig
from ..bench.settings import SETTINGS
from .settings import Exposures, UNetConfig

#: Sets that an exposure may belong to, by their codes.
SPLITS = ("train", "validation")


class Recipe(Exposures):
    """One simulated exposure.

    Its ``count`` is one; ``number`` counts the exposures of a group, which takes turns among the backgrounds
    of a setting that has several.
    """

    number: int = 0
    seed: int
    split: Literal["train", "validation"] = "train"

    def simulation_config(self) -> SimulationConfig:
        """What is simulated.

        Raises
        ------
        ConfigError
            If a field of the simulation cannot be used.
        """
        base = SETTINGS[self.setting].sized(self.frames, *self.shape, self.number)
        if not self.simulation:
            return base
        merged = dict(_merged(base.model_dump(), self.simulation))
        try:
            return SimulationConfig.read(merged)
        except ConfigError as error:
            raise ConfigError(f"simulation of the {self.setting} exposures: {error}") from None


def _merged(below: Mapping[str, Any], over: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values over others, key by key where both are tables."""
    return {
        **below,
        **{
            key: _merged(below[key], value)
            if isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
            else value
            for key, value in over.items()
        },
    }


def recipes(config: UNetConfig) -> list[Recipe]:
    """List the exposures of a configuration; of those of each setting that may, evenly spread ones validate.

    Raises
    ------
    ConfigError
        If none would train, or none validate, or an exposure cannot be simulated.
    """
    seen: Counter[str] = Counter()
    found: list[Recipe] = []
    for group in config.exposures:
        for number in range(group.count):
            past, now = (int(0.5 + (seen[group.setting] + k) * config.validation) for k in (0, 1))
            seen[group.setting] += group.validates
            own = {"count": 1, "number": number, "seed": config.first_seed + len(found)}
            found.append(Recipe(**group.model_dump() | own, split=SPLITS[group.validates and now > past]))
        found[-1].simulation_config()
    split = Counter(recipe.split for recipe in found)
    if len(split) < len(SPLITS):
        raise ConfigError(
            f"{split['train']} of {len(found)} exposures would train and {split['validation']} validate: "
            "give more exposures, or another share of validation"
        )
    return found


def write_recipes(folder: Path, wanted: list[Recipe]) -> list[Path]:
    """Write recipes into a folder; those that are there already stay as they are."""
    paths = []
    for place, recipe in enumerate(wanted):
        path = folder / f"{place:05d}_{recipe.setting}.json"
        content = json.dumps(recipe.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"
        if not path.is_file() or path.read_text() != content:
            with atomic(path, overwrite=True) as temporary:
                temporary.write_text(content)
        paths.append(path)
    return paths


def read_recipe(path: str) -> Recipe:
    """Read a recipe.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        return Recipe.model_validate(json.loads(Path(path).read_bytes()))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check the path") from None
    except ValidationError as error:
        said = error.errors()[0]
        where = ".".join(map(str, said["loc"])) or "it"
        raise InputError(
            f"{path} is no recipe of an exposure ({where}: {said['msg'].removeprefix('Value error, ')}): "
            "have it written by `fmbdask train unet`"
        ) from None
    except ValueError as error:
        raise InputError(
            f"{path} is no recipe of an exposure ({error}): have it written by `fmbdask train unet`"
        ) from None
