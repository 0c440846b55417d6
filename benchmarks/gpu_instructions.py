"""Count the instructions of the kernels for GPUs in their machine code, without a GPU.

    pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm
    python benchmarks/gpu_instructions.py [sm_80 sm_90]

Prints what a thread of each kernel takes, and the loops of the fused pass over 16 frames: reads and moments,
one look at the median and one at the deviation, the recursions forward and backward with and without offsets
that depend on the row. What the roofline of ``fmbdask bench kernels --device
gpu`` counts with stands in fmbdask/survey/bench/kernels/roofline.py.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fmbdask_kernels.cupy.nvrtc import compile_kernel, library
from fmbdask_kernels.cupy.packed import BLOCK

#: Kernels and the options they are compiled with.
VARIANTS = {
    "temporal": (), "masked": ("-DDATA=unsigned short", "-DWHOLE=1"), "rates": ("-DDATA=unsigned short",)
}  # fmt: skip
LABEL = re.compile(r"\s*(\.L_\w+):")
INSTRUCTION = re.compile(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);")
BACK = re.compile(r"\bBRA\b.*?(\.L_\w+)")
#: Shorter loops are not unrolled over a block of frames, or rare: outliers are left out of the slope.
SHORTEST = 6 * BLOCK
#: Loops of the fused pass over frames, in the order of the source.
NAMES = (
    "first pass", "its rest, of two frames", "look at the median", "look at the deviation",
    "forward, with a gradient", "backward, with a gradient", "forward", "backward",
)  # fmt: skip


def disassembler() -> str:
    """The program nvdisasm, of a toolkit or of pip."""
    spec = importlib.util.find_spec("nvidia")
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    found = [str(p) for f in folders for p in Path(f).glob("*/bin/nvdisasm")] + [shutil.which("nvdisasm")]
    for path in found:
        if path:
            return path
    sys.exit("there is no nvdisasm: pip install nvidia-cuda-nvdisasm")


def loops(text: str) -> list[tuple[int, int]]:
    """First and last instruction of every loop, by its branch back."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in text.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif instruction := INSTRUCTION.match(line):
            instructions.append(instruction[1])
    found = []
    for at, instruction in enumerate(instructions):
        back = BACK.search(instruction)
        if back and labels.get(back[1], at + 1) <= at:
            found.append((labels[back[1]], at))
    return sorted(found)


def unrolled(found: list[tuple[int, int]]) -> list[int]:
    """Lengths of loops that are unrolled over frames and hold no other such loop."""
    long = [(a, b) for a, b in found if b - a + 1 > SHORTEST]
    return [b - a + 1 for a, b in long if not any(a <= c and d <= b and (c, d) != (a, b) for c, d in long)]


def main(architectures: list[str]) -> None:
    """Print everything for each architecture."""
    nvrtc = library()
    if nvrtc is None:
        sys.exit("there is no NVRTC: pip install nvidia-cuda-nvrtc")
    for architecture in architectures:
        for kernel, options in VARIANTS.items():
            made = compile_kernel(nvrtc, kernel, architecture, options)
            print(
                f"{architecture} {kernel}: {made.registers} registers, {made.spilled} bytes spilled, "
                f"{made.stack} bytes of stack"
            )
            if kernel != "temporal":
                continue
            with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
                file.write(made.code)
                file.flush()
                text = subprocess.run(
                    [disassembler(), "-c", file.name], capture_output=True, text=True, check=True
                ).stdout
            lengths = unrolled(loops(text))
            if len(lengths) != len(NAMES):
                sys.exit(f"this compiler makes other loops than those that are named here: {lengths}")
            for name, length in zip(NAMES, lengths, strict=True):
                frames = 2 if "rest" in name else BLOCK
                print(f"  {name:25} {length:4d} instructions, {length / frames:5.1f} a frame")


if __name__ == "__main__":
    main(sys.argv[1:] or ["sm_80", "sm_90"])
