"""The backend of the CPU, in numba: one operation a file, what they share beside it."""

from kornia_patchaug.kernels.cpu.composite import composite, composite_backward
from kornia_patchaug.kernels.cpu.paint import paint, paint_backward
from kornia_patchaug.kernels.cpu.sample import sample
from kornia_patchaug.kernels.cpu.sample_backward import sample_backward

IN_TURN = True

__all__ = ["IN_TURN", "composite", "composite_backward", "paint", "paint_backward", "sample", "sample_backward"]
