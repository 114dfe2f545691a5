"""The kernels of CUDA devices: those in Triton, and what is small enough for torch."""

from kornia_patchaug.kernels.cuda.composite import composite, composite_backward
from kornia_patchaug.kernels.cuda.sample import sample, sample_backward
from kornia_patchaug.kernels.reference import frames, frames_backward

__all__ = ["composite", "composite_backward", "frames", "frames_backward", "sample", "sample_backward"]
