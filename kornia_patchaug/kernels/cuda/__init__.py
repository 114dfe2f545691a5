"""The backend of CUDA devices, in Triton: one operation a file."""

from kornia_patchaug.kernels.cuda.composite import composite, composite_backward
from kornia_patchaug.kernels.cuda.sample import sample, sample_backward

__all__ = ["composite", "composite_backward", "sample", "sample_backward"]
