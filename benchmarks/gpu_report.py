"""``python -m benchmarks.gpu_report``: what can be counted of a GPU without one.

How the kernels are compiled, by the Triton that is installed; and how many bytes a plain call moves, on paper.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from functools import partial

import torch
import triton
from torch import Tensor

import kornia_patchaug as kp
from benchmarks.cases import CUDA_CASES, Case, Scene, make_scene
from benchmarks.compiled import Compiled, compiling
from kornia_patchaug.plan import Beyond, Sampling, image_plan

ARCHS = (80, 90, 100)
M64 = next(case for case in CUDA_CASES if case.name == "M64")
LIKE_M64 = M64._replace(batch=2, objects=20)  # kernels are the same for any number
# What the table does not show, and what is compiled anew for it: dtype, and options of a call.
VARIANTS: tuple[tuple[torch.dtype, dict[str, object]], ...] = (
    (torch.float16, {"padding_mode": "border", "mode": "nearest", "align_corners": True}),
    (torch.bfloat16, {"clip": False, "alpha": "matte"}),
    (torch.float32, {"padding_mode": "reflection", "alpha": "number"}),
    (torch.float64, {"padding_mode": "transparent", "alpha": "number"}),
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", type=int, nargs="+", default=ARCHS, help="compute capabilities, without the point")
    archs = parser.parse_args(arguments).arch
    found, others = compiled(archs), compiled_variants(archs)
    print(f"Triton {triton.__version__}: float32, 3 channels, sides that 16 divides.\n\n{compiled_table(found)}\n")
    words = f"{len(others)} more were compiled, for other dtypes and options"
    print(f"{words}: they spill at most {max(one.spilled for one in others)} bytes.\n\n{moved_table(M64)}")


def compiled(archs: Sequence[int]) -> list[Compiled]:
    """The kernels of a plain call, of a crop, and of objects that read what is painted, forward and backward."""
    scene = make_scene(LIKE_M64).first(2).learnable()
    images, boxes, _, obj_to_img = scene
    with compiling(*archs) as found:
        for call in (
            partial(kp.affine_patches, *scene),
            partial(kp.crop_patches, images, boxes, obj_to_img, (224, 224)),
            partial(kp.affine_patches, *scene, sequential=True),
        ):
            made = call()
            made.backward(torch.ones_like(made))
    return list({(one.name, one.arch): one for one in reversed(found)}.values())[::-1]


def compiled_variants(archs: Sequence[int]) -> list[Compiled]:
    """The kernels of calls in `VARIANTS`."""
    with compiling(*archs) as found:
        for dtype, options in VARIANTS:
            images, boxes, theta, obj_to_img = make_scene(LIKE_M64)
            sizes = {"matte": (len(boxes), 1, 16, 16), "number": (len(boxes),)}
            given = {name: torch.ones(sizes[str(o)]) if name == "alpha" else o for name, o in options.items()}
            real = torch.float64 if dtype == torch.float64 else torch.float32
            learnt = [t.to(dtype if t is images else real).requires_grad_() for t in (images, boxes, theta)]
            given = {name: _learnt(o, real) if isinstance(o, Tensor) else o for name, o in given.items()}
            made = kp.affine_patches(*learnt, obj_to_img, **given)
            made.backward(torch.ones_like(made))
    return found


def _learnt(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).requires_grad_()


def compiled_table(found: list[Compiled]) -> str:
    """A row for each kernel: registers of a thread, bytes that are spilled and shared, instructions that read and
    write, with how many numbers each, and all instructions of each of its loops."""
    archs = list(dict.fromkeys(one.arch for one in found))
    names = [
        "kernel",
        *(f"registers, sm_{arch}" for arch in archs),
        "spilled",
        "shared",
        "reads",
        "writes",
        "atomics",
        "in loops",
    ]
    rows = [names, ["---"] * len(names)]
    for name in dict.fromkeys(one.name for one in found):
        of_archs = [one for one in found if one.name == name]
        most = [max(getattr(one, field) for one in of_archs) for field in ("spilled", "shared", "atomics")]
        widths = (_widths(of_archs[-1].loads), _widths(of_archs[-1].stores))
        rows.append(
            [
                f"`{name[1:-7]}`",
                *(one.registers for one in of_archs),
                *most[:2],
                *widths,
                most[2],
                _listed(of_archs[-1].loops),
            ]
        )
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _widths(counts: Counter[int]) -> str:
    return ", ".join(f"{count} of {width}" for width, count in sorted(counts.items(), reverse=True))


def moved(case: Case) -> dict[str, dict[str, float]]:
    """What each kernel of a plain call reads and writes of pixels, each once, in numbers of the batch."""
    scene: Scene = make_scene(case)
    sampling = Sampling(nearest=False, beyond=Beyond.ZERO, align_corners=False, by_reach=False)
    plan = image_plan(scene.boxes.double().numpy(), scene.obj_to_img.numpy(), scene.images, sampling, False)
    pixels = scene.images.numel() / scene.images.shape[1]
    painted, read = plan.windows.total / pixels, plan.areas.total / pixels
    values = painted * 4 / 3  # three channels lie in four planes, which are read and written at once
    return {
        "paint": {"canvas": 1, "patches": read, "painted": 1},
        "paint_backward": {"gradient": 1, "patches": read, "gradient of the canvas": 1, "of values": values},
        "gather": {"gradient of values": values, "of the images, where patches are, read": read, "written": read},
    }


def copies(case: Case) -> tuple[float, float]:
    """The bytes that a plain call moves, forward, and forward and backward, in copies of the batch, each of which reads
    and writes it."""
    forward, *backward = (sum(parts.values()) / 2 for parts in moved(case).values())
    return forward, forward + sum(backward)


def moved_table(case: Case) -> str:
    lines = ["| kernel | reads and writes, in batches | in copies of the batch |", "|---|---|---|"]
    for name, parts in moved(case).items():
        words = ", ".join(f"{part} {share:.2f}" for part, share in parts.items())
        lines.append(f"| `{name}` | {words} | {sum(parts.values()) / 2:.2f} |")
    forward, both = copies(case)
    return "\n".join([*lines, f"\n{case}: forward {forward:.2f} copies, forward and backward {both:.2f}."])


if __name__ == "__main__":
    main()
