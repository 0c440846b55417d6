"""The command line itself: help, exit statuses, one-line errors, templates and the configuration in force."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from fmbdask.cli import progress, templates
from fmbdask.cli.app import app, main
from fmbdask.cli.exposures import border, number_or_file


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def commands() -> list[list[str]]:
    """Every command, as the words that call it."""
    found = []
    root = typer.main.get_command(app)
    waiting = [([], root)]
    while waiting:
        words, command = waiting.pop()
        inner = getattr(command, "commands", None)
        if inner is None:
            found.append(words)
        else:
            waiting += [([*words, name], child) for name, child in inner.items()]
    return sorted(found)


def status(*words: str) -> int | str | None:
    """Exit status of a call."""
    with pytest.raises(SystemExit) as caught:
        main(list(words))
    return caught.value.code


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_explains_itself_with_an_example(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*words, "--help") == 0
    shown = capsys.readouterr().out
    assert re.search(rf"Example: fmbdask {' '.join(words)}\b", shown)


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_unknown_options_are_bad_arguments(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status(*words, "--no-such-option") == 2
    assert "--no-such-option" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    assert re.fullmatch(r"fmbdask \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_errors_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "fmbdask.yaml").write_text("ramps: {simulate: {num_framse: 3}}\n")
    assert status("config", "show", "ramps.simulate") == 1
    shown = capsys.readouterr().err
    assert shown == "Error: fmbdask.yaml: there is no setting num_framse; the nearest is num_frames\n"


def test_debug_shows_where_it_happened(folder: Path) -> None:
    (folder / "fmbdask.yaml").write_text("nonsense: 1\n")
    with pytest.raises(ValueError, match="nonsense"):
        main(["config", "show", "ramps.simulate", "--debug"])


def test_unexpected_errors_are_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(templates, "write_templates", lambda *_, **__: {}["missing"])
    assert status("init", "here") == 1
    expected = "Error: KeyError: 'missing' (unexpected; --debug shows where it happened)\n"
    assert capsys.readouterr().err == expected


def test_config_show_names_the_origin(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "fmbdask.yaml").write_text("ramps: {simulate: {num_frames: 30}}\n")
    (folder / "task.yaml").write_text("effects: {settling: false}\n")
    assert status("config", "show", "ramps.simulate", "--config", "task.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "local file: fmbdask.yaml"
    rows = {line.split()[0]: line.split()[-1] for line in lines[3:]}
    assert rows["num_frames"] == "fmbdask.yaml"
    assert rows["effects.settling"] == "task.yaml"
    assert rows["image_shape"] == "default"


def test_init_writes_templates_and_overwrites_only_when_told(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("init", "survey") == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert Path("survey/configs/ramps/simulate.yaml") in written
    assert all(path.is_file() for path in written)
    written[0].write_text("changed\n")
    assert status("init", "survey") == 1
    assert "--overwrite" in capsys.readouterr().err
    assert written[0].read_text() == "changed\n"
    assert status("init", "survey", "--overwrite") == 0
    assert written[0].read_text() != "changed\n"


def test_templates_of_an_installed_package_come_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = folder / "site" / "fmbdask" / "templates" / "configs"
    inside.mkdir(parents=True)
    monkeypatch.setattr(templates, "__file__", str(folder / "site" / "fmbdask" / "cli" / "templates.py"))
    assert templates.templates_root() == inside.parent


def test_progress_in_a_log_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress() as report:
        for done in range(3):
            report(done + 1, 3, f"item {done}")
        for done in range(0, 1001, 10):
            report(done, 1000, "many")
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == ["1/3 item 0", "2/3 item 1", "3/3 item 2", "0/1000 many"]
    assert lines[4:] == [f"{done}/1000 many" for done in range(100, 1001, 100)]


def test_numbers_and_maps() -> None:
    assert number_or_file("1.5") == 1.5
    assert number_or_file("gain.fits") == Path("gain.fits")
    assert number_or_file(None) is None
    assert border("4") == [4, 4, 4, 4]
    assert border("4,4,0,0") == [4, 4, 0, 0]


@pytest.mark.parametrize("text", ["four", "1,2", "1,2,3,-4"])
def test_bad_borders(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="one number or bottom,top,left,right"):
        border(text)
