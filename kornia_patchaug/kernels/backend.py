"""What a backend has: the functions of `Backend`, and those of `Fused` if it can paint in one sweep."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, Protocol

from torch import Tensor

from kornia_patchaug.plan import Plan, Windows

Maybe = Tensor | None  # an input that may be left out, or a gradient that may not be wanted
Sampled = tuple[Tensor, Tensor]  # values (C, P), and coverage (P,), which is empty where it would be 1 throughout
Composited = tuple[Tensor, Tensor]  # the canvas, and what was under each flat pixel (C, P), empty if not to be kept
Kept = tuple[Tensor, ...]  # what was under each flat pixel, (C P,) or (0,); and what else a backend wants backward
Painted = tuple[Tensor, Kept, Maybe]  # the canvas; what is kept; A sampled from a matte (P,)
Found = tuple[Maybe, ...]  # gradients, one for each input


class Inputs(NamedTuple):
    """What *sample* is differentiable in."""

    source: Tensor  # (S, C, H, W)
    theta: Tensor  # (N, 2, 3), in the dtype to compute in, as boxes
    boxes: Tensor  # (N, 4) the boxes that are painted
    source_boxes: Maybe = None  # (N, 4) the boxes that are read; the same place of the source without them


class Wanted(NamedTuple):
    """Which gradients are wanted: of the inputs, and of what *paint* takes besides."""

    source: bool = True
    theta: bool = True
    boxes: bool = True
    source_boxes: bool = False
    canvas: bool = False
    opacity: bool = False
    opacity_boxes: bool = False


class Gradients(NamedTuple):
    """The gradients with respect to the inputs, None where not wanted."""

    source: Maybe
    theta: Maybe
    boxes: Maybe
    source_boxes: Maybe


Opacity = Tensor | Inputs | None  # A of each object (N, 1), of each flat pixel (P,), or what it is sampled from; or 1


class Read(Enum):
    """Which picture the objects of *paint* read."""

    SOURCE = "a picture of its own"
    CANVAS = "the canvas as it came"
    PAINTED = "the canvas as the objects before left it"


class Backend(Protocol):
    """The functions that ``reference.py`` defines, for one kind of device."""

    def sample(self, inputs: Inputs, plan: Plan) -> Sampled:
        """A value for every window pixel."""

    def sample_backward(
        self,
        grad_values: Maybe,
        grad_coverage: Maybe,
        inputs: Inputs,
        plan: Plan,
        wanted: Wanted,
        into: Maybe = None,
    ) -> Gradients:
        """The gradients with respect to the inputs; that of the source is added ``into`` a tensor, if one is given."""

    def composite(
        self, canvas: Tensor, values: Tensor, opacity: Tensor, windows: Windows, keep: bool, in_place: bool
    ) -> Composited:
        """The windows painted over the canvas, in row order."""

    def composite_backward(
        self, grad: Tensor, opacity: Tensor, under: Tensor, windows: Windows, in_place: bool = False
    ) -> Found:
        """The gradients with respect to canvas, which ``grad`` becomes if ``in_place``, values and opacity; the last is
        empty if ``under`` is."""


class Fused(Backend, Protocol):
    """A backend that samples and composites in one sweep, and holds a row, tile or window at a time between the two.

    ``inputs.source`` is the canvas, but for ``Read.SOURCE``.
    """

    IN_TURN: bool  # whether it does so for ``Read.PAINTED``

    def paint(
        self,
        inputs: Inputs,
        canvas: Tensor,
        opacity: Opacity,
        plan: Plan,
        read: Read,
        keep: bool,
        in_place: bool = False,
    ) -> Painted:
        """The painted canvas; what `paint_backward` takes; and A where it is sampled.

        What was under each pixel is empty unless to ``keep``, and for ``Read.PAINTED``; the third is None unless to
        ``keep``, and sampled, as ``plan.opacity`` says. What reads a source of its own can be painted ``in_place``.
        """

    def paint_backward(
        self,
        grad: Tensor,
        kept: Kept,
        inputs: Inputs,
        opacity: Maybe,
        plan: Plan,
        read: Read,
        wanted: Wanted,
        in_place: bool = False,
    ) -> tuple[Gradients, Maybe, Maybe]:
        """The gradients with respect to inputs, canvas and opacity, that of each object or of each flat pixel ``(P,)``.

        That of the canvas is what ``grad`` becomes, if ``in_place``.

        Where the canvas is read, its gradient is whole and there is none with respect to the source.
        """
