"""The rules of the house: who may import whom and open files, how long modules may be, what texts may say."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"fmbdask": ROOT / "fmbdask", "fmbdask_kernels": ROOT / "kernels" / "fmbdask_kernels"}

#: Rooms by floor, highest first: a module imports from its own room and from floors below it, never
#: sideways and never up. `config`, `regions`, `atomic` and `checkpoints` are
#: modules of the ground floor above the kernels.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"survey", "review"},
    {"ramps", "images", "anomaly", "analysis", "viz", "store", "cluster"},
    {"models"},
    {"config", "regions", "sequences", "checkpoints"},
    {"atomic"},
    {"fmbdask_kernels", "errors"},
)
#: The package itself lends its public names from everywhere, lazily.
FACADE = "fmbdask"
SCIENCE = {"ramps", "images", "anomaly", "analysis", "models", "viz"}
FILE_LIBRARIES = {"zarr", "h5py", "fitsio", "pyarrow", "tifffile", "numcodecs"}
FILE_CALLS = {
    "open",
    "memmap",
    "fromfile",
    "tofile",
    "savez",
    "savefig",
    "to_zarr",
    "to_parquet",
    "open_zarr",
}
FILE_CALLS |= {"read_parquet", "read_csv", "to_csv", "read_text", "write_text", "read_bytes", "write_bytes"}
KERNEL_LIBRARIES = {"numpy", "numba", "scipy", "llvmlite", "cupy", "math", "fmbdask_kernels"}
LONGEST_MODULE = 400
HEAVY = (
    "torch",
    "numba",
    "dask",
    "distributed",
    "astropy",
    "zarr",
    "xarray",
    "pandas",
    "matplotlib",
    "scipy",
    "pyarrow",
)
# Written in pieces, so that this file does not break its own rule.
FORBIDDEN_TEXT = (
    "/" + "work/",
    "/" + "opt/py",
    "pypi" + ".org",
    "files.python" + "hosted",
    "/root" + "/",
    "conda" + ".org",
)


def modules() -> list[tuple[str, Path]]:
    """Every module of both packages, as (dotted name, path)."""
    found = []
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found.append((".".join((package, *parts)), path))
    return found


MODULES = modules()
each_module = pytest.mark.parametrize(("name", "path"), MODULES, ids=[name for name, _ in MODULES])


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def imports(name: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute name of all a module imports, also inside functions and for typing."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def room(name: str) -> str | None:
    """Room of a dotted name: `ramps` for `fmbdask.ramps.detect`; None for what is not ours."""
    parts = name.split(".")
    if parts[0] == "fmbdask_kernels":
        return "fmbdask_kernels"
    if parts[0] != "fmbdask":
        return None
    return parts[1] if len(parts) > 1 else FACADE


def floor(room_name: str) -> int:
    for level, rooms in enumerate(FLOORS):
        if room_name in rooms:
            return level
    raise AssertionError(
        f"{room_name} is not a room that the house knows: add it to FLOORS in tests/test_house.py"
    )


def breaches(name: str, path: Path) -> list[str]:
    """Imports of one module that go sideways or up."""
    here = room(name)
    if here is None or here == FACADE:
        return []
    found = []
    for line, target in imports(name, path):
        there = room(target)
        if there in (None, here):
            continue
        if there == FACADE or floor(there) <= floor(here):
            found.append(f"{path.relative_to(ROOT)}:{line}: {here} must not import {target}")
    return found


def file_access(name: str, path: Path) -> list[str]:
    """Places where a module could open a file."""
    found = []
    for line, target in imports(name, path):
        if target.split(".")[0] in FILE_LIBRARIES or target.startswith("astropy.io"):
            found.append(f"{path.relative_to(ROOT)}:{line}: imports {target}")
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = node.func
            label = called.id if isinstance(called, ast.Name) else getattr(called, "attr", None)
            if label in FILE_CALLS:
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}: calls {label}")
    return found


@each_module
def test_imports_go_down_only(name: str, path: Path) -> None:
    assert breaches(name, path) == []


@each_module
def test_modules_are_short(name: str, path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize(
    ("name", "path"), [pytest.param(*each, id=each[0]) for each in MODULES if room(each[0]) in SCIENCE]
)
def test_science_never_opens_files(name: str, path: Path) -> None:
    assert file_access(name, path) == []


@pytest.mark.parametrize(
    ("name", "path"),
    [pytest.param(*each, id=each[0]) for each in MODULES if room(each[0]) == "fmbdask_kernels"],
)
def test_kernels_know_arrays_only(name: str, path: Path) -> None:
    foreign = {
        f"{path.relative_to(ROOT)}:{line}: imports {target}"
        for line, target in imports(name, path)
        if target.split(".")[0] not in KERNEL_LIBRARIES | set(sys.stdlib_module_names)
    }
    assert foreign == set()


def test_breaches_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    path = tmp_path / "made_up.py"
    path.write_text(
        "import zarr\nfrom fmbdask.store import ramps\n"
        "from ..survey import work\nfrom ..errors import InputError\n"
    )
    lines = breaches("fmbdask.ramps.made_up", path)
    assert [line.split(": ")[0] for line in lines] == ["made_up.py:2", "made_up.py:3"]
    assert file_access("fmbdask.ramps.made_up", path) == ["made_up.py:1: imports zarr"]


def test_importing_fmbdask_is_light() -> None:
    code = "import sys, fmbdask; print(' '.join(sorted(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "fmbdask" in loaded
    assert [module for module in HEAVY if module in loaded] == []


def test_asking_for_help_is_light() -> None:
    code = "import sys, fmbdask.cli.app; print(' '.join(sorted(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "fmbdask.cli.app" in loaded
    assert [module for module in HEAVY if module in loaded] == []


def test_text_names_no_machine_and_no_registry() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if not path.is_file() or b"\0" in path.read_bytes()[:4096]:
            continue
        text = path.read_text(errors="replace")
        found += [f"{name}: {word}" for word in FORBIDDEN_TEXT if word in text]
    assert found == []
