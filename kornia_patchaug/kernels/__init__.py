"""The two primitives that everything is made of: *sample* and *composite*."""

from kornia_patchaug.kernels.operators import composite, sample

__all__ = ["composite", "sample"]
