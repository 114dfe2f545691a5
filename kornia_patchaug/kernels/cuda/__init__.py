"""The backend of CUDA devices, in Triton: one operation a file."""

from kornia_patchaug.kernels.cuda.composite import composite, composite_backward
from kornia_patchaug.kernels.cuda.paint import paint, paint_backward
from kornia_patchaug.kernels.cuda.sample import sample, sample_backward

IN_TURN = False  # programs do not wait for one another

__all__ = ["IN_TURN", "composite", "composite_backward", "paint", "paint_backward", "sample", "sample_backward"]
