"""``python -m benchmarks.tilings``: what other sizes of tiles would make of the kernels of a plain call.

On a GPU microseconds of each kernel, by torch's profiler; without one registers, and bytes that find no place in them.
"""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import NamedTuple
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile

import kornia_patchaug as kp
from benchmarks.cases import Scene, make_scene
from benchmarks.compiled import compiling
from benchmarks.gpu_report import LIKE_M64, M64
from kornia_patchaug.kernels.cuda import regions

WARM, RUNS = 3, 20
SHOWN = ("_paint_kernel", "_paint_backward_kernel", "_gather_kernel")


class Tiling(NamedTuple):
    """Rows and columns of a tile, how many a program takes, its warps, and registers of a thread at most."""

    rows: int
    columns: int
    tiles: int
    warps: int
    registers: int | None = None

    @property
    def options(self) -> dict[str, int]:
        """As `regions` has them."""
        found = {"ROWS": self.rows, "COLUMNS": self.columns, "TILES": self.tiles, "num_warps": self.warps}
        return found | ({} if self.registers is None else {"maxnreg": self.registers})


TILINGS = (
    *(Tiling(4, 16, tiles, 1, registers) for tiles, registers in ((2, None), (1, None), (4, None), (2, 64), (2, 56))),
    *(Tiling(8, 16, tiles, 1, registers) for tiles, registers in ((2, None), (1, None), (2, 128), (2, 96))),
    Tiling(2, 32, 2, 1),
    Tiling(4, 32, 2, 1, 96),
    *(Tiling(8, 32, tiles, 4) for tiles in (2, 1, 4)),
    Tiling(4, 32, 2, 2),
    Tiling(8, 32, 2, 8),
)


def main() -> None:
    scene = make_scene(M64 if torch.cuda.is_available() else LIKE_M64)
    print(f"| tile | tiles | warps | registers | {' | '.join(SHOWN)} |\n|{'---|' * (4 + len(SHOWN))}")
    for tiling in TILINGS:
        found = measured(tiling, scene)
        cells = [f"{tiling.rows} x {tiling.columns}", tiling.tiles, tiling.warps, tiling.registers or "any"]
        print(f"| {' | '.join(map(str, [*cells, *(found.get(name, '') for name in SHOWN)]))} |", flush=True)


def measured(tiling: Tiling, scene: Scene) -> dict[str, str]:
    """What to say of each kernel of a plain call, forward and backward, on tiles of a size."""
    with ExitStack() as patches:
        for options in (regions.TILING, regions.ONE_WARP, regions.PAIRS):
            patches.enter_context(patch.dict(options, tiling.options))
        return timed(scene) if torch.cuda.is_available() else sized(scene)


def timed(scene: Scene) -> dict[str, str]:
    """Microseconds."""
    images, boxes, theta, obj_to_img = scene
    scene = Scene(images.cuda(), boxes, theta.cuda(), obj_to_img).learnable()
    weight = torch.ones_like(scene.images)
    for run in range(WARM + 1):
        with profile(activities=[ProfilerActivity.CUDA]) if run == WARM else nullcontext() as seen:
            for _ in range(RUNS if run == WARM else 1):
                painted = kp.affine_patches(*scene)
                torch.autograd.grad(painted, (scene.images, scene.theta), weight)
            torch.cuda.synchronize()
    return {event.key: f"{event.device_time:.0f}" for event in seen.key_averages()}


def sized(scene: Scene) -> dict[str, str]:
    """Registers of a thread, and bytes that find no place in them."""
    with compiling(90) as found:
        painted = kp.affine_patches(*scene.learnable())
        painted.backward(torch.ones_like(painted))
    return {one.name: f"{one.registers}" + f", {one.spilled} spilled" * (one.spilled > 0) for one in found}


if __name__ == "__main__":
    main()
