"""The primitives that everything is made of: *sample* and *composite*, and *paint*, which is both in one."""

from kornia_patchaug.kernels.operators import composite, paint, sample

__all__ = ["composite", "paint", "sample"]
