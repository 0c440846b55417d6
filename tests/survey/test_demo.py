"""The demo, small: what it writes, what it says, and that its page stands alone."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fmbdask.errors import OutputExistsError
from fmbdask.store.catalog import read_table
from fmbdask.survey.exposures import demo
from fmbdask.survey.reporting.page import Picture, write_page


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> tuple[demo.Demo, list[tuple[int, int, str]]]:
    """A demo of two small exposures, and the progress that it reported."""
    said: list[tuple[int, int, str]] = []
    out = tmp_path_factory.mktemp("demo")
    found = demo.run(
        out, exposures=2, edge=64, frames=24, workers=1, progress=lambda *each: said.append(each)
    )
    return found, said


class Page(HTMLParser):
    """Addresses and tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


def test_everything_is_written(result: tuple[demo.Demo, list[tuple[int, int, str]]]) -> None:
    found, _ = result
    assert {path.name for path in found.out.iterdir()} == set(demo.PARTS)
    for name in ("h2rg_0000", "h2rg_0001"):
        written = {path.name for path in (found.out / "results" / name).iterdir()}
        assert {"detections.json", "detections.parquet", "products.zarr"} <= written
    assert (found.out / "figures" / "counts.png").read_bytes().startswith(b"\x89PNG")


def test_catalog_holds_all_exposures(result: tuple[demo.Demo, list[tuple[int, int, str]]]) -> None:
    found, _ = result
    events = read_table(found.out / "catalog" / "events.parquet")
    counted = events.groupby(["exposure", "type"]).size().to_dict()
    expected = {(name, kind): n for name, each in found.numbers.items() for kind, n in each.items() if n}
    assert counted == expected
    assert events.attrs["units"]["amplitude"] == "DN"


def test_progress_names_the_exposures(result: tuple[demo.Demo, list[tuple[int, int, str]]]) -> None:
    _, said = result
    assert [done for done, _, _ in said] == [0, 1, 2, 3, 4]
    assert {total for _, total, _ in said} == {4}
    names = ("h2rg_0000", "h2rg_0001")
    assert sorted(text for _, _, text in said[1:]) == sorted(
        f"{verb} {name}" for verb in ("simulated", "searched") for name in names
    )


def test_summary_says_what_and_where(result: tuple[demo.Demo, list[tuple[int, int, str]]]) -> None:
    found, _ = result
    lines = found.summary().splitlines()
    assert lines[0].split() == ["in", "the", "truth", "found", "right", "completeness", "purity"]
    tally = found.tallies["cosmic_ray"]
    assert lines[1].split()[2:5] == [str(tally.expected), str(tally.found), str(tally.right)]
    for name in ("catalog/events.parquet", "figures", "report.html"):
        assert any(line.endswith(str(found.out / name)) for line in lines)


def test_what_the_network_adds_is_counted(result: tuple[demo.Demo, list[tuple[int, int, str]]]) -> None:
    found, _ = result
    events = read_table(found.out / "catalog" / "events.parquet")
    added = int((events["found_by"] == "network").sum())
    assert found.network is not None  # the tests have torch
    assert found.network.found == added
    assert found.beside.startswith(f"{added} of the cosmic rays are too faint for the rules")
    assert found.beside in found.summary()
    assert found.beside in (found.out / "report.html").read_text()
    both = {"cosmic_ray": demo.Tally(10, 9, 12, 1)}
    rules = {"cosmic_ray": demo.Tally(10, 6, 7, 1)}
    assert demo.beside(both, rules) == demo.Tally(4, 3, 5, 0)


def test_page_stands_alone(result: tuple[demo.Demo, list[tuple[int, int, str]]]) -> None:
    found, _ = result
    page = Page()
    page.feed((found.out / "report.html").read_text())
    assert page.tags.count("img") == 3
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)


def test_page_escapes_what_it_shows(tmp_path: Path) -> None:
    tallies = dict.fromkeys(("cosmic_ray", "telegraph_noise", "snowball"), demo.Tally(4, 3, 5, 1))
    numbers = {"<script>": dict.fromkeys(tallies, 1)}
    shown = demo.Demo(tmp_path, tallies, None, numbers, frames=10, edge=20, seconds=3.0)
    write_page(shown, [Picture("a & b", "c", b"")], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert "a &amp; b" in text
    assert "that needs the extra models" in text
    assert re.search(r"<td>75\.0 %</td><td>75\.0 %</td>", text)


def test_shares_of_nothing() -> None:
    assert (demo.Tally().completeness, demo.Tally().purity) == ("-", "-")


def test_another_demo_overwrites_only_when_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        demo.run(tmp_path)
    assert (tmp_path / "report.html").read_text() == "old"
    demo.clear(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
