"""Flows: what they find, that nothing but the row decides its score, and that a saved one is the same."""

from __future__ import annotations

import pickle
import runpy
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
from numpy.typing import NDArray

from fmbdask.anomaly.flow import CLIP, Flow
from fmbdask.anomaly.network import LARGEST
from fmbdask.errors import ConfigError, InputError

from .made import chunked, same_bits, store, vectors

pytest.importorskip("torch")
pytest.importorskip("zuko")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TURNED = np.linalg.qr(np.random.default_rng(9).normal(size=(6, 6)))[0]
#: A flow that is trained in a second.
TINY: dict[str, Any] = {"n_layers": 2, "hidden_dim": 16, "epochs": 3, "batch": 128, "learning_rate": 1e-2}


def bent(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors (count, 6) of which the second feature follows the square of the first: no normal law."""
    normal = np.random.default_rng(seed).normal(size=(count, 6))
    normal[:, 1] = normal[:, 0] ** 2 + 0.2 * normal[:, 1]
    return (normal @ TURNED + 3.0).astype(np.float32)


@pytest.fixture(scope="module")
def fitted() -> Flow:
    return Flow(**TINY).fit(bent(1500))


def test_it_learns_what_a_normal_law_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    flow = Flow(n_layers=4, hidden_dim=32, epochs=30, batch=128, learning_rate=1e-2).fit(bent(3000))
    overlap = flow.overlap
    assert overlap["gain"] > 0.5
    assert 0.3 < overlap["spearman"] < 0.95
    assert 0.0 <= overlap["top_percent"] <= 1.0
    printed = capsys.readouterr().out
    assert f"Spearman {overlap['spearman']:.3f}" in printed
    assert len(printed.splitlines()) == 1
    new = bent(2000, seed=1)
    latent = (new[:100] - 3.0) @ TURNED.T
    latent[:, 0], latent[:, 1] = 0.0, 2.5  # no more than two deviations, but off the bend
    planted = (latent @ TURNED + 3.0).astype(np.float32)
    scores = flow.score(np.concatenate([new, planted])).compute().values
    assert np.median(scores[2000:]) > np.quantile(scores[:2000], 0.97)


def test_a_normal_law_is_what_mahalanobis_says() -> None:
    flow = Flow(**TINY).fit(vectors(2000, 5))
    assert flow.overlap["spearman"] > 0.95
    assert abs(flow.overlap["gain"]) < 0.3


def test_histories_are_kept(fitted: Flow) -> None:
    assert len(fitted.training) == fitted.networks == 2
    for one in fitted.training:
        assert len(one["validation"]) == 1 + len(one["training"]) == 4
        assert one["validation"][one["best"]] == min(one["validation"])
        assert one["rows"] < 1500


def test_progress_is_told_instead_of_printed(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int, str]] = []
    Flow(**TINY).fit(bent(400), progress=lambda *said: told.append(said))
    assert capsys.readouterr().out == ""
    own = [said for said in told if "flow of" in said[2]]
    assert [said[:2] for said in own] == [*((k, 6) for k in range(1, 7)), (2, 2)]
    assert "Spearman" in own[-1][2]


def test_the_same_seed_gives_the_same_bits_in_any_chunks_and_order_of_threads() -> None:
    import torch

    data = store(1500, image=8)
    torch.manual_seed(1)
    one = Flow(**TINY).fit(data)
    before = torch.get_rng_state()
    made: list[Flow] = []
    cut = chunked(data, [1, 700, 701], features=3)

    def again() -> None:
        made.append(Flow(**TINY).fit(cut, threads=1))

    threads = [threading.Thread(target=again) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same_bits(one, made[0])
    assert same_bits(one, made[1])
    assert one.training == made[0].training
    assert not same_bits(one, Flow(**TINY, seed=1).fit(data))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_score_depends_on_nothing_but_its_row() -> None:
    data = store(1400, image=8)
    flow = Flow(**TINY).fit(data)
    whole = flow.score(data).compute()
    for cuts, workers in (([3, 700], 1), ([512, 513, 1000], 2), (list(range(100, 1400, 100)), 4)):
        with dask.config.set(scheduler="threads", num_workers=workers):
            found = flow.score(chunked(data, cuts)).compute()
        np.testing.assert_array_equal(found, whole)
    order = np.random.default_rng(0).permutation(1400)
    np.testing.assert_array_equal(flow.score(data.isel(object=order)).compute(), whole[order])
    few = data.isel(object=[17, 3, 900])
    np.testing.assert_array_equal(flow.score(few).compute(), whole[[17, 3, 900]])
    others = data.copy(deep=True)
    others["image"][20:] *= 3.0
    np.testing.assert_array_equal(flow.score(others).compute()[:20], whole[:20])


def test_no_row_is_scored_by_a_network_that_saw_it(fitted: Flow) -> None:
    folds = np.arange(5)
    assert fitted.network_of(folds).tolist() == [0, 0, 0, 1, 1]
    assert Flow(folds=4, networks=9).networks == 4
    assert Flow(folds=1).networks == 1
    data = store(1200, image=6)
    flow = Flow(**TINY).fit(data)
    from fmbdask.anomaly.objects import Objects

    rows = Objects.of(data).rows(0, 1200)
    own = flow.network_of(rows.folds(5)) == 0
    changed = data.copy(deep=True)
    changed["image"][:] = np.where(own[:, None], data["image"] * 5.0, data["image"])
    again = Flow(**TINY).fit(changed)
    np.testing.assert_array_equal(flow.score(data).values[own], again.score(data).values[own])
    assert (flow.score(data).values[~own] != again.score(data).values[~own]).all()


@pytest.mark.parametrize("model_type", ["coupling", "autoregressive"])
def test_a_saved_one_gives_the_same_bits(tmp_path: Path, model_type: str) -> None:
    data = bent(600)
    flow = Flow(**TINY, model_type=model_type).fit(data)
    flow.save(tmp_path / "flow")
    loaded = Flow.load(tmp_path / "flow")
    sent = pickle.loads(pickle.dumps(flow))
    for other in (loaded, sent):
        assert same_bits(flow, other)
        assert other.training == flow.training
        assert other.overlap == flow.overlap
        np.testing.assert_array_equal(other.score(data).compute(), flow.score(data).compute())
    assert loaded.settings == flow.settings
    assert loaded.epochs == 3
    names = {p.name for p in (tmp_path / "flow").iterdir()}
    assert names == {"model.json", "arrays.safetensors"}


def test_a_damaged_one_is_refused(tmp_path: Path, fitted: Flow) -> None:
    from fmbdask.checkpoints import Checkpoint, load_checkpoint, save_checkpoint

    fitted.save(tmp_path / "flow")
    saved = load_checkpoint(tmp_path / "flow")
    for name, change in (("0.axes", lambda a: a[:4]), ("1.mean", lambda a: a * np.nan), ("1.rest", None)):
        arrays = dict(saved.arrays)
        if change is None:
            del arrays[name]
        else:
            arrays[name] = change(arrays[name])
        save_checkpoint(tmp_path / "bad", Checkpoint("flow", arrays, saved.meta), overwrite=True)
        with pytest.raises(InputError, match="holds no flow model that can be used"):
            Flow.load(tmp_path / "bad")


def test_outliers_come_first_the_farther_the_higher_and_never_as_nan(fitted: Flow) -> None:
    data = bent(40)
    data[5] += 1e3
    data[6] += 1e5
    data[7] = 3e38
    data[8, 2] = -1e30
    scores = fitted.score(data).compute().values
    assert np.isfinite(scores).all()
    assert np.argsort(-scores)[:4].tolist()[0] == 7
    assert set(np.argsort(-scores)[:4]) == {5, 6, 7, 8}
    assert scores[6] > scores[5] > 10 * CLIP
    assert scores.max() <= LARGEST
    data[9] = np.nan
    with pytest.warns(UserWarning, match="not finite"):
        assert np.isnan(fitted.score(data).compute().values[9])


def test_a_large_mean_costs_no_digits() -> None:
    data = bent(1000)
    near, far = (Flow(**TINY).fit(v) for v in (data, (data + np.float32(4096)).astype(np.float32)))
    rounded = (data + np.float32(4096)).astype(np.float32)
    np.testing.assert_allclose(far.score(rounded).values, near.score(data).values, atol=0.3)


def test_what_cannot_be_is_said_in_one_sentence(fitted: Flow) -> None:
    with pytest.raises(InputError, match="the flow detector is not fitted"):
        Flow().score(bent(10))
    with pytest.raises(InputError, match="have 5 features, the model was fitted to 6"):
        fitted.score(bent(10)[:, :5])
    with pytest.raises(InputError, match="differ along 1 directions, a flow needs 2"):
        Flow().fit(bent(500)[:, :1])
    with pytest.raises(InputError, match="differ along 0 directions"):
        Flow().fit(np.ones((500, 4), np.float32))
    with pytest.raises(InputError, match="objects to train a flow of feature on are too few"):
        Flow().fit(bent(130))
    with pytest.raises(ConfigError, match="1 networks for 5 folds cannot leave any out"):
        Flow(networks=1)
    with pytest.raises(ConfigError, match=r"validation is 1\.5"):
        Flow(validation=1.5)
    with pytest.raises(ConfigError, match="1 components are too few"):
        Flow(components=1)
    with pytest.raises(ConfigError, match="no flow of type spline"):
        Flow(model_type="spline").fit(bent(300))


def test_a_gpu_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU here"):
        Flow(**TINY, device="cuda").fit(bent(300))


def test_torch_is_only_wanted_where_it_is_used(monkeypatch: pytest.MonkeyPatch, fitted: Flow) -> None:
    code = "import sys, fmbdask.anomaly.flow; print('torch' in sys.modules, 'zuko' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.split() == ["False", "False"]
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setitem(sys.modules, "zuko", None)
    sentence = r"normalizing flows need torch and zuko: install the extra models"
    with pytest.raises(InputError, match=sentence):
        Flow(**TINY).fit(bent(300))
    with pytest.raises(InputError, match=sentence):
        fitted.score(bent(10)).compute()


def test_the_benchmark_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    small = "--objects 1500 --scored 600 --width 16 --components 8 --layers 2 --hidden 8 --epochs 2"
    monkeypatch.setattr(sys, "argv", ["flow.py", *small.split()])
    runpy.run_path(str(BENCHMARKS / "flow.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "microseconds of CPU a vector" in printed
    assert "with Mahalanobis" in printed
    assert "ms an object" in printed
