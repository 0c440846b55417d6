"""The templates of `configs/` and `jobs/`, wherever they are installed."""

from __future__ import annotations

import shutil
from pathlib import Path

from fmbdask.errors import InputError, OutputExistsError

FOLDERS = ("configs", "jobs")
#: Templates that stand at the top of the user's folder.
TOP = {Path("configs/paths.yaml"): Path("paths.yaml")}


def templates_root() -> Path:
    """Folder that holds `configs/` and `jobs/`: in an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parent.parent
    for candidate in (package / "templates", package.parent):
        if (candidate / "configs").is_dir():
            return candidate
    raise InputError(f"{package}: the templates are not installed here: install fmbdask again")


def write_templates(folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Copy all templates into a folder and return the files written.

    Raises
    ------
    OutputExistsError
        A file is already there and `overwrite` is False; nothing is written then.
    """
    root = templates_root()
    names = [
        path.relative_to(root)
        for top in FOLDERS
        for path in sorted((root / top).rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    ]
    targets = {name: folder / TOP.get(name, name) for name in names}
    taken = [target for target in targets.values() if target.exists()]
    if taken and not overwrite:
        others = f" and {len(taken) - 1} more are" if len(taken) > 1 else " is"
        raise OutputExistsError(
            f"{taken[0]}{others} already there: choose another folder or give --overwrite"
        )
    for name, target in targets.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target)
    return list(targets.values())
