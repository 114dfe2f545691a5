"""*paint* by *sample* and *composite* alone, for devices whose kernels have nothing better.

``turns`` says how many rows are painted at once, one turn after another, each from what those before it left;
``totals`` are their window areas.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import Protocol

import torch
from torch import Tensor

from kornia_patchaug.windows import Column

How = tuple[str, str, bool]  # mode, padding_mode, align_corners


class Kernels(Protocol):
    """The module of a device's kernels: what ``reference.py`` defines, by the same names."""

    def frames(
        self,
        theta: Tensor,
        src_boxes: Tensor | None,
        dst_boxes: Tensor,
        reads: Tensor,
        table: Tensor,
        align_corners: bool,
    ) -> Tensor: ...

    def frames_backward(
        self,
        grad: Tensor,
        theta: Tensor,
        src_boxes: Tensor | None,
        dst_boxes: Tensor,
        reads: Tensor,
        table: Tensor,
        align_corners: bool,
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def sample(
        self,
        source: Tensor,
        frames: Tensor,
        reads: Tensor,
        table: Tensor,
        total: int,
        mode: str,
        padding_mode: str,
        align_corners: bool,
        covered: bool,
    ) -> tuple[Tensor, Tensor]: ...

    def sample_backward(
        self,
        grad_values: Tensor | None,
        grad_coverage: Tensor | None,
        source: Tensor,
        frames: Tensor,
        reads: Tensor,
        table: Tensor,
        total: int,
        mode: str,
        padding_mode: str,
        align_corners: bool,
        covered: bool,
        of_source: bool,
        of_frames: bool,
    ) -> tuple[Tensor, Tensor]: ...

    def composite(
        self, canvas: Tensor, paint: Tensor, opacity: Tensor, table: Tensor, keep: bool
    ) -> tuple[Tensor, Tensor]: ...

    def composite_backward(
        self, grad: Tensor, opacity: Tensor, under: Tensor, table: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]: ...


def paint(
    run: Kernels,
    canvas: Tensor,
    frames: Tensor,
    reads: Tensor,
    table: Tensor,
    turns: list[int],
    totals: list[int],
    *how: *How,
) -> Tensor:
    """A new canvas. ``how``: mode, padding_mode and align_corners."""
    for part, total in _parts(frames, reads, table, turns, totals):
        values, coverage = run.sample(canvas, *part, total, *how, True)
        canvas = run.composite(canvas, values, coverage, part[2], False)[0]
    return canvas


def paint_backward(
    run: Kernels,
    grad: Tensor,
    canvas: Tensor,
    frames: Tensor,
    reads: Tensor,
    table: Tensor,
    turns: list[int],
    totals: list[int],
    *options: *tuple[*How, bool, bool],
) -> tuple[Tensor, Tensor]:
    """The gradients of canvas and frames. ``options``: as for `paint`, and which of the two are wanted.

    With more than one turn it paints again, and takes one turn after another off, the last one first.
    """
    how, (of_canvas, of_frames) = options[:3], options[3:]
    kept, several = [], len(turns) > 1
    for part, total in _parts(frames, reads, table, turns, totals):
        source = canvas if several else canvas[:, :0]  # of no channel: the coverage alone
        values, coverage = run.sample(source, *part, total, *how, True)
        if several:
            canvas, under = run.composite(canvas, values, coverage, part[2], True)
        kept.append((part, total, coverage, under if several else None))
    grads = []
    for part, total, coverage, below in reversed(kept):
        if below is not None:  # windows of one turn share no pixel: what was under them, painted opaque, takes them off
            canvas, _ = run.composite(canvas, below, torch.ones_like(coverage), part[2], False)
        grad, grad_paint, _ = run.composite_backward(grad, coverage, coverage.new_empty(0), part[2])
        wanted = of_canvas or several, of_frames
        grad_source, grad_frames = run.sample_backward(grad_paint, None, canvas, *part, total, *how, True, *wanted)
        if wanted[0]:
            grad = grad + grad_source
        grads.append(grad_frames)
    return grad if of_canvas else grad.new_empty(0), torch.cat(grads[::-1])


def _parts(
    frames: Tensor, reads: Tensor, table: Tensor, turns: list[int], totals: list[int]
) -> Iterator[tuple[tuple[Tensor, Tensor, Tensor], int]]:
    """Frames, reads and table of each turn, laid out anew, and its window area."""
    for stop, count, total in zip(accumulate(turns), turns, totals, strict=True):
        rows = slice(stop - count, stop)
        part = table[rows].clone()
        part[:, Column.START] -= part[:1, Column.START].clone()
        yield (frames[rows], reads[rows], part), total
