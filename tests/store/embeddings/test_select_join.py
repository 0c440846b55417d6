"""Objects chosen by id, and stores joined by id and by position."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fmbdask.errors import InputError
from fmbdask.regions import BLOCK
from fmbdask.store.embeddings import (
    join_embeddings,
    open_embeddings,
    read_ids,
    select_objects,
    write_embeddings,
)
from fmbdask.store.embeddings.matching import match_ids, match_positions

from .made_up import vectors, write


def test_objects_are_chosen_by_id_in_the_order_of_the_store(tmp_path: Path) -> None:
    n = 2 * BLOCK + 3
    image = vectors(n, 3)
    ds = open_embeddings(
        write(tmp_path / "e.zarr", np.arange(n) + 5, {"image": image}, {"z": np.arange(n) / 2})
    )
    wanted = [n + 4, 5, BLOCK + 5, 5]
    for dataset in (ds, ds.assign(image=ds["image"] * 1)):  # as stored, and through dask's own indexing
        chosen = select_objects(dataset, wanted)
        assert chosen["object_id"].values.tolist() == [5, BLOCK + 5, n + 4]
        np.testing.assert_array_equal(chosen["image"], image[[0, BLOCK, n - 1]])
        np.testing.assert_array_equal(chosen["z"], np.array([0, BLOCK, n - 1]) / 2)
    again = open_embeddings(write_embeddings(chosen, tmp_path / "f.zarr"))
    np.testing.assert_array_equal(again["image"], chosen["image"])
    assert select_objects(ds, ["5"]).sizes["object"] == 1
    assert select_objects(ds, [1, 6], missing_ok=True).sizes["object"] == 1
    assert select_objects(ds, [1], missing_ok=True)["image"].values.shape == (0, 3)
    with pytest.raises(InputError, match="the object 1 is not in the store"):
        select_objects(ds, [6, 1])


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("a.txt", "3\n1\n\n", [3, 1]),
        ("a.txt", "007\n1\n", ["007", "1"]),
        ("a.txt", "object_id\nJ 1\n", ["J 1"]),
        ("a.csv", "rank,object_id\n1,9\n2,8\n", [9, 8]),
    ],
)
def test_ids_from_files(tmp_path: Path, name: str, content: str, ids: list[object]) -> None:
    (tmp_path / name).write_text(content)
    assert read_ids(tmp_path / name).tolist() == ids


def test_files_without_ids_are_refused(tmp_path: Path) -> None:
    for content, sentence in (("", "holds no ids"), ("a,b\n1,2\n", "no column object_id")):
        (tmp_path / "a.csv").write_text(content)
        with pytest.raises(InputError, match=sentence):
            read_ids(tmp_path / "a.csv")
    with pytest.raises(InputError, match="cannot be read"):
        read_ids(tmp_path / "none.txt")


ids = st.lists(st.integers(0, 12), unique=True, max_size=12)


@given(ids, ids)
def test_ids_are_matched_as_sets_are(left: list[int], right: list[int]) -> None:
    a, b = match_ids(np.array(left, np.int64), np.array(right, np.int64), ("a", "b"))
    found = [left[i] if i >= 0 else right[j] for i, j in zip(a, b, strict=True)]
    assert found == left + [x for x in right if x not in left]
    assert all(left[i] == right[j] for i, j in zip(a, b, strict=True) if i >= 0 and j >= 0)
    assert {left[i] for i, j in zip(a, b, strict=True) if i >= 0 and j >= 0} == set(left) & set(right)


def separation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Vincenty's formula [arcsec], another way than the one that is tested."""
    (l1, p1), (l2, p2) = np.deg2rad(a), np.deg2rad(b)
    d = l2 - l1
    y = np.hypot(np.cos(p2) * np.sin(d), np.cos(p1) * np.sin(p2) - np.sin(p1) * np.cos(p2) * np.cos(d))
    x = np.sin(p1) * np.sin(p2) + np.cos(p1) * np.cos(p2) * np.cos(d)
    return float(np.rad2deg(np.arctan2(y, x)) * 3600)


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from([(0.0, 0.0), (359.9999, 30.0), (10.0, 89.9)]))
def test_positions_are_matched_nearest_first(seed: int, centre: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    sky = []
    for _ in range(2):
        x, y = rng.normal(0, 2 / 3600, (2, 8))
        ra = (centre[0] + x / np.cos(np.deg2rad(centre[1]))) % 360
        sky.append(np.stack([ra, centre[1] + y], axis=1))
    sky[0][3] = np.nan
    a, b, apart = match_positions(sky[0].T, sky[1].T, 1.5)  # type: ignore[arg-type]
    pairs = sorted(
        (separation(sky[0][i], sky[1][j]), i, j)
        for i in range(8)
        for j in range(8)
        if np.isfinite(sky[0][i, 0])
    )
    taken: dict[int, int] = {}
    for distance, i, j in pairs:
        if distance <= 1.5 and i not in taken and j not in taken.values():
            taken[i] = j
    found = {int(i): int(j) for i, j in zip(a, b, strict=True) if i >= 0 and j >= 0}
    assert found == taken
    assert sorted([*a[a >= 0]]) == sorted([*b[b >= 0]]) == list(range(8))
    for i, j, s in zip(a, b, apart, strict=True):
        if i >= 0 and j >= 0:
            assert s == pytest.approx(separation(sky[0][i], sky[1][j]), abs=1e-8)
        else:
            assert np.isnan(s)


def test_a_radius_that_is_none_is_refused() -> None:
    here = (np.zeros(300), np.zeros(300))
    for radius in (0.0, -1.0, 3601.0, np.nan):
        with pytest.raises(InputError, match="between 0 and 3600"):
            match_positions(here, here, radius)
    with pytest.raises(InputError, match="90000 pairs"):
        match_positions(here, here, 1.0)


def test_stores_are_joined_by_id(tmp_path: Path) -> None:
    n = BLOCK + 10
    rng = np.random.default_rng(0)
    ids_b = rng.permutation(n) + 100
    image_a, image_b, joint = vectors(n, 3, 1), vectors(n, 2, 2), vectors(n, 4, 3)
    image_a[0] = np.nan
    z_a, z_b = np.where(np.arange(n) % 2, 1.0, np.nan), np.full(n, 2.0)
    a = write(tmp_path / "a.zarr", np.arange(n), {"image": image_a}, {"z": z_a}, model="aion")
    b = write(tmp_path / "b.zarr", ids_b, {"image": image_b, "joint": joint}, {"z": z_b, "t": ids_b})
    joined = join_embeddings(open_embeddings(a), open_embeddings(b), names=("aion", "astropt"))
    out = open_embeddings(write_embeddings(joined, tmp_path / "c.zarr"))
    assert set(out.data_vars) == {"aion_image", "astropt_image", "joint"}
    assert out.sizes["object"] == n + 100
    row_b = {int(i): k for k, i in enumerate(ids_b)}
    for k, i in enumerate(out["object_id"].values.tolist()):
        j = row_b.get(i)
        assert out["valid_joint"].values[k] == (j is not None)
        assert out["valid_aion_image"].values[k] == (0 < i < n)
    rows = np.array([row_b.get(i, -1) for i in out["object_id"].values.tolist()])
    expected = np.where((rows >= 0)[:, None], joint[rows], np.nan)
    np.testing.assert_array_equal(out["joint"], expected)
    np.testing.assert_array_equal(out["aion_image"][:n], image_a)
    assert out["aion_image"].attrs["model"] == "aion"
    z = out["z"].values
    assert np.isnan(z[0])  # only in the first, which does not know it
    assert (z[101], z[102], z[-1]) == (1, 2, 2)
    assert out["t"].values[0] == np.iinfo(np.int64).min


def test_stores_are_joined_by_position(tmp_path: Path) -> None:
    ra, dec = np.array([0.0, 10, 20]), np.array([0.0, 10, 20])
    a = write(tmp_path / "a.zarr", [1, 2, 3], {"image": vectors(3, 2)}, {"ra": ra, "dec": dec})
    other = {"ra": [359.9999, 20, 30], "dec": [0, 20, 30]}
    b = write(tmp_path / "b.zarr", ["x", "y", "z"], {"spectrum": vectors(3, 2, 1)}, other)
    joined = join_embeddings(open_embeddings(a), open_embeddings(b), on="position", radius=1)
    out = open_embeddings(write_embeddings(joined, tmp_path / "c.zarr"))
    assert out["object_id"].values.tolist() == ["1", "2", "3", "b:z"]
    assert out["object_id_b"].values.tolist() == ["x", "", "y", "z"]
    np.testing.assert_allclose(out["separation"], [0.36, np.nan, 0, np.nan], atol=1e-6)
    np.testing.assert_array_equal(out["spectrum"][[0, 2, 3]], vectors(3, 2, 1))
    assert out["valid_spectrum"].values.tolist() == [True, False, True, True]
    assert out["ra"].values.tolist() == [0, 10, 20, 30]
    assert out["separation"].attrs["units"] == "arcsec"


def test_stores_that_do_not_go_together_are_told_so(tmp_path: Path) -> None:
    number = open_embeddings(write(tmp_path / "a.zarr", [1], {"image": vectors(1, 2)}))
    text = open_embeddings(
        write(tmp_path / "b.zarr", ["1"], {"a_image": vectors(1, 2), "image": vectors(1, 2)})
    )
    with pytest.raises(InputError, match="ids are integers in a and text in b"):
        join_embeddings(number, text)
    with pytest.raises(InputError, match="has no ra"):
        join_embeddings(number, text, on="position")
    with pytest.raises(InputError, match="a_image would stand twice"):
        join_embeddings(number, text.assign_coords(object_id=("object", [1])))
    for left, right in combinations(("a", "a", "b c"), 2):
        with pytest.raises(InputError, match="cannot tell two stores apart"):
            join_embeddings(number, number, names=(left, right))
