"""What the 3D U-Nets cost: nanoseconds a voxel by precision, layout and batch, and a step of the large one.

    python benchmarks/unet.py [--threads 2] [--patch 64 32 32] [--batches 1 2 8] [--large-patch 32 32 32]

The small network (8-16-32, 85 204 parameters): contiguous float32, then channels last in float32 and in
bfloat16, norms folded; medians of repetitions that take turns, so that all meet the same load of the machine.
The way through `fmbdask.models.batches` is measured with them: its batches, softmax and copies included. The
large network (32-64-128-256-512, 22.6 million): steps of one batch that lower its loss, a round trip through
a checkpoint, and the cost of a voxel.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fmbdask.models.handles import OpenNetwork, Saved, load_network, save_network
from fmbdask.models.patches import classify_patches
from fmbdask.models.unet import LARGE, SMALL, Architecture, UNet3D, build_unet, folded
from fmbdask.models.voxels import segmentation_loss


@dataclass(frozen=True)
class Cost:
    """Seconds by the clock, and of all threads of this process."""

    wall: float
    cpu: float

    def per(self, voxels: int) -> str:
        """Nanoseconds a voxel of both."""
        return f"{1e9 * self.wall / voxels:.0f} / {1e9 * self.cpu / voxels:.0f}"


def cost_of(way: Callable[[], object]) -> Cost:
    """What a way costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    way()
    return Cost(time.perf_counter() - wall, time.process_time() - cpu)


def medians(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, Cost]:
    """Cost of each way: the median over repetitions that take turns, after one that warms up."""
    taken: dict[str, list[Cost]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            cost = cost_of(way)
            if repeat:
                taken[name].append(cost)
    return {
        name: Cost(statistics.median(one.wall for one in costs), statistics.median(one.cpu for one in costs))
        for name, costs in taken.items()
    }


def sent(network: torch.nn.Module, voxels: torch.Tensor) -> Callable[[], object]:
    """A way through a network."""

    def way() -> object:
        with torch.inference_mode():
            return network(voxels)

    return way


def small(patch: tuple[int, ...], batches: list[int], repeats: int) -> None:
    """Inference of the small network."""
    trained = build_unet(Architecture(widths=SMALL)).eval()
    plain = folded(trained)
    last = folded(trained).to(memory_format=torch.channels_last_3d)
    half = folded(trained).to(torch.bfloat16).to(memory_format=torch.channels_last_3d)
    print(
        f"small network {'-'.join(map(str, SMALL))}, patches of {' x '.join(map(str, patch))}: ns a voxel, "
        "clock / CPU"
    )
    print(f"  {'batch':>5} {'float32':>15} {'channels last':>15} {'bfloat16':>15} {'batches, bfloat16':>19}")
    for batch in batches:
        voxels = torch.randn(batch, 1, *patch, generator=torch.Generator().manual_seed(1))
        turned = voxels.to(memory_format=torch.channels_last_3d)
        model = OpenNetwork(Saved(trained), device="cpu", precision="bfloat16", size=batch)
        rows = list(voxels.numpy())
        costs = medians(
            {
                "float32": sent(plain, voxels),
                "last": sent(last, turned),
                "half": sent(half, turned.to(torch.bfloat16)),
                "way": lambda rows=rows, model=model: classify_patches(model, rows, one_thread=False),
            },
            repeats,
        )
        each = {name: cost.per(voxels.numel()) for name, cost in costs.items()}
        print(
            f"  {batch:>5} {each['float32']:>15} {each['last']:>15} {each['half']:>15} {each['way']:>19}",
            flush=True,
        )


def small_training(patch: tuple[int, ...], repeats: int) -> None:
    """A step of a training of the small network, in both precisions."""
    architecture = Architecture(widths=SMALL)
    voxels, classes = made(4, patch, len(architecture.classes))
    ways = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        ways[name] = step_of(build_unet(architecture), voxels, classes, dtype)
    costs = medians(ways, repeats)
    print(
        f"small network, a step of training: {costs['float32'].per(classes.numel())} ns a voxel in float32, "
        f"{costs['bfloat16'].per(classes.numel())} in bfloat16",
        flush=True,
    )


def made(batch: int, patch: tuple[int, ...], classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise, with a class for each voxel that its level tells."""
    generator = torch.Generator().manual_seed(2)
    truth = torch.randint(0, classes, (batch, *patch), generator=generator, dtype=torch.uint8)
    voxels = truth[:, None].float() + 0.3 * torch.randn(batch, 1, *patch, generator=generator)
    return voxels.to(memory_format=torch.channels_last_3d), truth


def step_of(
    network: UNet3D, voxels: torch.Tensor, classes: torch.Tensor, dtype: torch.dtype
) -> Callable[[], float]:
    """A step of training; it returns the loss before it."""
    network = network.to(memory_format=torch.channels_last_3d).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    balance = torch.ones(len(network.architecture.classes))

    def step() -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits = network(voxels)
        loss = segmentation_loss(logits.float(), classes, None, balance, 0.0)
        torch.autograd.backward(loss)
        optimizer.step()
        return float(loss.detach())

    return step


def large(patch: tuple[int, ...]) -> None:
    """A step of the large network, its checkpoint, and its cost."""
    architecture = Architecture(widths=LARGE)
    network = build_unet(architecture)
    count = sum(values.numel() for values in network.parameters())
    voxels, classes = made(2, patch, len(architecture.classes))
    step = step_of(network, voxels, classes, torch.bfloat16)
    losses: list[float] = []
    first, second = (cost_of(lambda: losses.append(step())) for _ in range(2))
    cost = min(first, second, key=lambda one: one.cpu)
    fell = "fell" if losses[1] < losses[0] else "did not fall"
    print(f"large network {'-'.join(map(str, LARGE))}, {count} parameters, patches of {patch}")
    print(
        f"  a step of two patches: {cost.per(classes.numel())} ns a voxel; the loss {fell}, "
        f"{losses[0]:.4f} -> {losses[1]:.4f}",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        network.eval()
        save_network(Path(folder) / "unet", network)
        size = sum(path.stat().st_size for path in (Path(folder) / "unet").iterdir())
        back = load_network(Path(folder) / "unet").network.state_dict()
    same = all(torch.equal(values, back[name]) for name, values in network.state_dict().items())
    print(f"  a checkpoint of {size / 1e6:.1f} MB comes back {'the same' if same else 'CHANGED'}")
    model = OpenNetwork(Saved(network), device="cpu", precision="bfloat16", size=2)
    rows = list(np.ascontiguousarray(voxels.numpy()))
    ways = {"way": lambda: classify_patches(model, rows, one_thread=False)}
    print(f"  inference in bfloat16: {medians(ways, 1)['way'].per(classes.numel())} ns a voxel")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--patch", type=int, nargs=3, default=(64, 32, 32), help="frames, rows and columns")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--large-patch", type=int, nargs=3, default=(32, 32, 32))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.threads} threads, torch {torch.__version__}; load of the machine {os.getloadavg()[0]:.1f}")
    small(tuple(given.patch), given.batches, given.repeats)
    small_training(tuple(given.patch), max(1, given.repeats // 2))
    large(tuple(given.large_patch))


if __name__ == "__main__":
    main()
