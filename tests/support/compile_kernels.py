"""Compile the Triton kernels for a GPU, which need not be there; print the name of each that compiled."""

from dataclasses import replace
from importlib import import_module
from itertools import product

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kornia_patchaug.kernels.backend import Inputs, Wanted
from kornia_patchaug.plan import Beyond, Sampling, image_plan

# The package has functions of these names.
cuda_sample = import_module("kornia_patchaug.kernels.cuda.sample")
cuda_composite = import_module("kornia_patchaug.kernels.cuda.composite")
cuda_frames = import_module("kornia_patchaug.kernels.cuda.frames")
TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int64: "i64",
}


class Compiled:
    """Stands for a kernel: compiles it for the arguments that it is launched with."""

    def __init__(self, kernel):
        self.kernel = kernel

    def __getitem__(self, grid):
        return self

    def __call__(self, *arguments, enable_fp_fusion, **constants):
        signature, known = {}, {}
        for parameter, value in zip(self.kernel.params, [*arguments, *constants.values()], strict=True):
            constant = value is None or parameter.name in constants or (isinstance(value, int) and value == 1)
            if constant:
                known[parameter.name] = constants.get(parameter.name, value)
            pointer = isinstance(value, torch.Tensor) and f"*{TYPES[value.dtype]}"
            signature[parameter.name] = "constexpr" if constant else pointer or "i32"
        source = ASTSource(self.kernel, signature, known)
        options = {"enable_fp_fusion": enable_fp_fusion}
        compiled = triton.compile(source, target=GPUTarget("cuda", 80, 32), options=options)
        if self.kernel.__name__ == "_sample_kernel":  # the sum of taps begins there; the interpreter takes any spelling
            assert "-0.0" in compiled.asm["ttir"], "-0 was compiled to 0"
        print(self.kernel.__name__)


def main() -> None:
    for module, name in product((cuda_frames, cuda_sample, cuda_composite), ("frames", "sample", "composite")):
        for kernel in (f"_{name}_kernel", f"_{name}_backward_kernel"):
            if hasattr(module, kernel):
                setattr(module, kernel, Compiled(getattr(module, kernel)))

    boxes, image, theta = np.array([[0, 0, 5, 4], [1.5, 1, 6, 5]]), np.array([0, 1]), torch.zeros(2, 2, 3)
    for picture, real, sampling, box_coverage in (
        (torch.float32, torch.float32, Sampling(False, Beyond.ZERO, False, True), True),
        (torch.float32, torch.float32, Sampling(False, Beyond.ZERO, False, True), False),
        (torch.float64, torch.float64, Sampling(False, Beyond.MIRROR, False, False), True),
        (torch.bfloat16, torch.float32, Sampling(True, Beyond.NEAREST, True, False), False),
    ):
        pixels = torch.zeros(2, 3, 13, 17, dtype=picture).to(memory_format=torch.channels_last)
        of_objects = theta.to(real), torch.from_numpy(boxes).to(real)
        inputs = Inputs(pixels, *of_objects, of_objects[1] if box_coverage else None)
        plan = replace(image_plan(boxes, image, pixels, sampling, False), box_coverage=box_coverage)
        values, coverage = cuda_sample.sample(inputs, plan)
        cuda_sample.sample_backward(
            values, coverage, inputs, plan, Wanted(source=box_coverage, source_boxes=box_coverage)
        )
        opacity = torch.zeros(plan.windows.total, dtype=real)
        _, under = cuda_composite.composite(pixels, values, opacity, plan.windows, box_coverage, False)
        cuda_composite.composite_backward(pixels, opacity, under, plan.windows)


if __name__ == "__main__":
    main()
