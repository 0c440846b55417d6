"""The 3D U-Net: any patch size, norms that fold away, and architectures that can be."""

from __future__ import annotations

import json
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fmbdask.errors import ConfigError  # noqa: E402
from fmbdask.models.unet import LARGE, SMALL, Architecture, build_unet, folded, hollow  # noqa: E402

from .made import network  # noqa: E402


def size(architecture: Architecture) -> int:
    return sum(values.numel() for values in hollow(architecture).parameters())


def test_sizes_of_the_two_networks() -> None:
    assert size(Architecture(widths=SMALL)) == 85_204
    assert size(Architecture(widths=LARGE)) == 22_578_372


@pytest.mark.parametrize("shape", [(8, 8, 8), (1, 1, 1), (7, 5, 9), (3, 10, 1)])
@pytest.mark.parametrize("pool_time", [(2, 2), (1, 2), (1, 1)])
def test_patches_of_any_size(shape: tuple[int, ...], pool_time: tuple[int, ...]) -> None:
    made = build_unet(Architecture(channels=2, widths=(2, 3, 4), pool_time=pool_time)).eval()
    with torch.inference_mode():
        found = made(torch.randn(2, 2, *shape))
    assert found.shape == (2, 4, *shape)
    assert bool(torch.isfinite(found).all())


def test_a_step_in_time_reaches_no_frame_that_pooling_keeps_apart() -> None:
    """Without pooling of time, frames further than all convolutions reach say nothing."""
    made = network(channels=1, widths=(2, 3), pool_time=(1,))
    voxels = torch.zeros(2, 1, 30, 4, 4)
    later = voxels.clone()
    later[:, :, 29] = 5.0
    with torch.inference_mode():
        one, other = made(voxels), made(later)
    assert torch.equal(one[:, :, :23], other[:, :, :23])  # six convolutions of three frames
    assert not torch.equal(one[:, :, 24:], other[:, :, 24:])


def test_folded_norms_compute_the_same() -> None:
    made = network()
    before = {name: values.clone() for name, values in made.state_dict().items()}
    voxels = torch.randn(2, 2, 9, 8, 10)
    with torch.inference_mode():
        torch.testing.assert_close(folded(made)(voxels), made(voxels), rtol=1e-4, atol=1e-5)
    assert not any("running_mean" in name for name in folded(made).state_dict())
    assert all(torch.equal(values, before[name]) for name, values in made.state_dict().items())


def test_the_same_seed_gives_the_same_weights() -> None:
    one, same, other = (build_unet(Architecture(), seed).head.weight for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_architectures_go_through_json() -> None:
    one = Architecture(channels=3, classes=("a", "b"), widths=(4, 8, 16), pool_time=(1, 2))
    assert Architecture.from_dict(json.loads(json.dumps(one.as_dict()))) == one
    assert Architecture(widths=(4, 8)).pool_time == (2,)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"channels": 0}, "channels of a U-Net cannot be 0"),
        ({"classes": ["one"]}, "classes of a U-Net"),
        ({"classes": ["a", "a"]}, "different names"),
        ({"widths": []}, "widths of a U-Net"),
        ({"widths": [8, 10**9]}, "numbers from 1 to 4096"),
        ({"widths": [1] * 99, "pool_time": [2] * 98}, "1 to 8 numbers"),
        ({"pool_time": [3, 2]}, "give 2 times 1 or 2"),
        ({"widths": "88"}, "values of another type"),
        ({"widths": [8.0, 16.0, 32.0]}, "values of another type"),
        ({"channels": True}, "values of another type"),
        ({"classes": None}, "values of another type"),
    ],
)
def test_architectures_that_cannot_be(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Architecture.from_dict(Architecture().as_dict() | wrong)


def test_what_is_missing_from_an_architecture_is_named() -> None:
    with pytest.raises(ConfigError, match="'widths' is missing"):
        Architecture.from_dict({"channels": 1, "classes": ["a", "b"]})
    with pytest.raises(ConfigError, match="missing"):
        Architecture.from_dict(None)  # type: ignore[arg-type]


def test_tiny_levels_leave_no_gradient_as_memory_was() -> None:
    """The deepest levels of a small patch are trained in float32, however the others are."""
    made = build_unet(Architecture(widths=(32, 64))).train().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    seen: list[torch.dtype] = []
    for block in made.down:
        block[0].register_forward_hook(lambda layer, given, found: seen.append(found.dtype))
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)  # memory that nobody has written to is NaN
    try:
        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16):
                loss = made(torch.randn(2, 1, 4, 4, 4)).float().square().sum()
            torch.autograd.backward(loss)
            assert all(
                bool(torch.isfinite(one.grad).all()) for one in made.parameters() if one.grad is not None
            )
    finally:
        torch.use_deterministic_algorithms(before)
    assert seen[:2] == [torch.bfloat16, torch.float32]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        made(torch.randn(2, 1, 4, 4, 4))
    assert seen[-2:] == [torch.bfloat16, torch.bfloat16]
