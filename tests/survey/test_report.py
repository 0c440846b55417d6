"""The page of a run: everything in one file, everything escaped."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmbdask.store.run.epochs import acquire
from fmbdask.store.run.folder import RunFolder, write_json
from fmbdask.store.run.units import PREPARE, WHOLE_RUN, Record, Unit
from fmbdask.survey.reporting.report import write_report
from fmbdask.viz.runs import spread

from .runs import BEGIN, item_done, make_run, run_done, write


class Page(HTMLParser):
    """Tags, texts and addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with a failure and a lost worker."""
    folder = make_run(tmp_path / "run")
    acquire(folder.epochs).release()
    event = Unit(0, WHOLE_RUN, PREPARE)
    write(
        folder,
        [
            Record("event", event, epoch=1, time=BEGIN, note="began", extra={"event": "began", "slots": 2}),
            Record("event", event, epoch=1, time=BEGIN + 5, note="job 7 was lost with node n2"),
            Record("event", event, epoch=1, time=BEGIN + 30, note="done", extra={"event": "ended"}),
        ],
        "coordinator",
    )
    evil = "<script>alert(1)</script> & 'x'"
    bad = Record("failed", Unit(0, 2, 1), epoch=1, cause="data", final=True, note=evil, log=evil)
    write(folder, [*item_done(0, 1.0), *item_done(1, 8.0), bad, *run_done(20.0)])
    return folder


def test_the_page_stands_alone_and_says_what_happened(folder: RunFolder) -> None:
    page = Page(write_report(folder.path).read_text())
    text = " ".join(page.texts)
    assert all(a.startswith("data:image/png;base64,") for a in page.addresses)
    assert page.addresses
    assert "2 of 4 inputs done, 1 failed" in text
    assert "job 7 was lost with node n2" in text
    assert "30 s" in text
    assert "in the program" not in text


def test_what_comes_from_outside_is_escaped(folder: RunFolder) -> None:
    page = Page(write_report(folder.path).read_text())
    assert "script" not in page.tags
    assert any("<script>alert(1)</script> & 'x'" in t for t in page.texts)


def test_projections_stand_beside_what_was_measured(folder: RunFolder) -> None:
    write_json(folder.plan_file, {"seconds": 20.0, "worker_memory": 4 * 10**8, "allowance": 10**9})
    text = " ".join(Page(write_report(folder.path).read_text()).texts)
    # 11 seconds of work, peaks of 300 MB
    assert "0.55" in text
    assert "0.75" in text


def test_a_run_that_has_not_begun_has_a_page(tmp_path: Path) -> None:
    assert "planned" in write_report(make_run(tmp_path / "run").path).read_text()


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.01, 9), st.floats(0, 5)), min_size=1, max_size=20))
def test_amounts_are_spread_evenly_over_their_time(units: list[tuple[float, float, float]]) -> None:
    begin, length, amount = np.array(units).T
    edges = 1.7e9 + np.linspace(0, 60, 7)
    found = spread(1.7e9 + begin, 1.7e9 + begin + length, amount, edges)
    plain = [
        sum(
            a * max(min(b + s, high) - max(b, low), 0) / s
            for b, s, a in zip(begin, length, amount, strict=True)
        )
        for low, high in zip(edges[:-1] - 1.7e9, edges[1:] - 1.7e9, strict=True)
    ]
    np.testing.assert_allclose(found, plain, atol=1e-4)
