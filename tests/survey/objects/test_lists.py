"""The lists against what their formulas give on a few objects, worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fmbdask.survey.objects.detecting import SearchConfig
from fmbdask.survey.objects.joining import join
from fmbdask.survey.objects.lists import write_mismatches, write_outliers, write_rates
from fmbdask.survey.objects.multimodal import columns_of, passing
from fmbdask.survey.objects.ranking import ordered

from .made import listing

NAN = math.nan
#: Five objects; the last one has no spectrum, the fourth no image.
IDS = [11, 12, 13, 14, 15]
SCORES = {
    "flow_image": [14.0, 8.0, 12.0, NAN, 99.0],
    "flow_spectrum": [9.0, 11.0, 10.0, 50.0, NAN],
    "cosine": [-0.9, -0.2, -0.5, NAN, NAN],
}
PAIR = ("image", "spectrum")


def test_outliers(tmp_path: Path) -> None:
    made = listing(tmp_path, IDS, SCORES, {"flow_image": [0.01, 0.9, 0.2, NAN, 1e-9]})
    (path,) = write_outliers(made)
    table = pd.read_csv(path)
    assert path.name == "anomaly_scores_aion.csv"
    assert list(table) == [
        "object_id", "embedding_key", "log_prob", "neg_log_prob", "anomaly_sigma", "rank", "p_value",
    ]  # fmt: skip
    image = table[table.embedding_key == "embedding_image"]
    assert image.object_id.tolist() == [15, 11, 13, 12]
    assert image["rank"].tolist() == [1, 2, 3, 4]
    assert image.log_prob.tolist() == [-99.0, -14.0, -12.0, -8.0]
    assert image.neg_log_prob.tolist() == [99.0, 14.0, 12.0, 8.0]
    assert image.anomaly_sigma.tolist() == [44.5, 2.0, 1.0, -1.0]  # mean 10, deviation 2
    assert image.p_value.tolist() == [1e-9, 0.01, 0.2, 0.9]
    spectrum = table[table.embedding_key == "embedding_spectrum"]
    assert spectrum.object_id.tolist() == [14, 12, 13, 11]
    pd.testing.assert_frame_equal(pd.read_parquet(path.with_suffix(".parquet")), table, check_dtype=False)


def test_mismatches(tmp_path: Path) -> None:
    made = listing(tmp_path, IDS, SCORES, {"cosine": [0.9, 0.01, 0.5, NAN, NAN]})
    (path,) = write_mismatches(made)
    assert path.read_text() == (
        "object_id,cosine_similarity,rank,p_value\n12,0.2,1,0.01\n13,0.5,2,0.5\n11,0.9,3,0.9\n"
    )


def test_rates(tmp_path: Path) -> None:
    made = listing(tmp_path, IDS, SCORES, {"cosine": [0.9, 0.0005, 0.05, NAN, NAN]})
    table = pd.read_csv(write_rates(made))
    cosine = table[table.detector == "cosine"].set_index("p_value")
    assert cosine.objects.unique().tolist() == [3]
    assert cosine.found.tolist() == [2, 1, 1, 0, 0, 0]
    np.testing.assert_allclose(cosine.expected, [0.3, 0.03, 0.003, 3e-4, 3e-5, 3e-6])


@pytest.mark.parametrize(
    ("fusion", "wanted"),
    [
        # ranks among the three complete objects: mismatch 3, 1, 2; image 1, 3, 2; spectrum 3, 1, 2
        ("geo", [1 / 3 * math.sqrt(1 * 1 / 3), 1 * math.sqrt(1 / 3 * 1), 2 / 3 * math.sqrt(2 / 3 * 2 / 3)]),
        ("min", [1 / 3 * 1 / 3, 1 * 1 / 3, 2 / 3 * 2 / 3]),
        ("avg", [1 / 3 * 2 / 3, 1 * 2 / 3, 2 / 3 * 2 / 3]),
    ],
)
def test_fusion_of_ranks(tmp_path: Path, fusion: str, wanted: list[float]) -> None:
    made = listing(tmp_path, IDS, SCORES, {})
    search = SearchConfig(fusion=fusion, t_img=0.6, t_spec=0.6, t_mis=0.6)
    joined = join(search, made, "aion", PAIR)
    order = ordered(joined.final, made.scratch)
    assert order.tolist() == sorted(range(3), key=lambda i: (-wanted[i], i))
    table = pd.DataFrame(columns_of(search, made, joined)(order, 1)).set_index("object_id")
    assert list(table)[:13] == [
        "cosine_similarity", "rank_cosine", "model", "nf_img_sigma", "nf_spec_sigma", "rank_img", "rank_spec",
        "p_mis", "p_img", "p_spec", "score_mm_geo", "score_mm_min", "uplift_mm",
    ]  # fmt: skip
    score = {"geo": "score_mm_geo", "min": "score_mm_min", "avg": "score_mm_avg"}[fusion]
    np.testing.assert_allclose(table.loc[[11, 12, 13], score], wanted, rtol=1e-14)
    assert table.loc[[11, 12, 13], "rank_cosine"].tolist() == [3, 1, 2]
    assert table.loc[[11, 12, 13], "rank_img"].tolist() == [1, 3, 2]
    assert table.loc[[11, 12, 13], "rank_spec"].tolist() == [3, 1, 2]
    np.testing.assert_allclose(table.loc[[11, 12, 13], "p_img"], [1, 1 / 3, 2 / 3])
    assert table.loc[11, "nf_img_sigma"] == 2.0
    geo = 1 / 3 * math.sqrt(1 / 3)
    np.testing.assert_allclose(table.loc[11, "uplift_mm"], geo - 1)
    assert table["rank"].tolist() == [1, 2, 3]
    assert order[passing(search, joined, order)].tolist() == [2]  # the only one with all shares above .6


def test_combined_p_values(tmp_path: Path) -> None:
    ids = list(range(20))
    p = {"residual_image": [1e-6, 0.5, NAN, *[0.6] * 17], "alignment": [0.4, 2e-3, NAN, *[0.7] * 17]}
    scores = {name: [0.0 if value == value else NAN for value in values] for name, values in p.items()}
    made = listing(tmp_path, ids, scores | {"flow_image": [1.0] * 20}, p | {"flow_image": [1e-12] * 20})
    search = SearchConfig(fusion="pvalue", fdr=0.1)
    joined = join(search, made, "aion", PAIR)
    assert joined.combined == ("residual_image", "alignment")  # flows do not count
    assert joined.p is not None
    # Cauchy combination of two: p = atan2 of the mean of the cotangents
    mean = (1 / math.tan(math.pi * 1e-6) + 1 / math.tan(math.pi * 0.4)) / 2
    np.testing.assert_allclose(joined.p[0], math.atan(1 / mean) / math.pi, rtol=1e-9)
    assert np.isnan(joined.p[2])
    order = ordered(joined.final, made.scratch)
    assert order[:2].tolist() == [0, 1]
    assert len(order) == 19
    # 19 tested at .1: the second one is listed if its p-value is at most .1 * 2 / 19
    assert joined.p[1] <= 0.1 * 2 / 19
    assert joined.listed(0.1, order) == 2
    assert joined.listed(0.001, order) == 1
    table = columns_of(search, made, joined)(order[:2], 1)
    assert table["reason"].tolist() == ["residual_image", "alignment"]
