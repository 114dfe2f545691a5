"""The kernels of CUDA devices, in Triton."""

from kornia_patchaug.kernels.cuda_composite import composite, composite_backward
from kornia_patchaug.kernels.cuda_sample import sample, sample_backward

__all__ = ["composite", "composite_backward", "sample", "sample_backward"]
