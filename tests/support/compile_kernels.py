"""Compile the Triton kernels for a GPU, which need not be there; print the name of each that compiled."""

from importlib import import_module
from itertools import product

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

# The package has functions of these names.
cuda_sample = import_module("kornia_patchaug.kernels.cuda.sample")
cuda_composite = import_module("kornia_patchaug.kernels.cuda.composite")
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
        triton.compile(source, target=GPUTarget("cuda", 80, 32), options={"enable_fp_fusion": enable_fp_fusion})
        print(self.kernel.__name__)


def main() -> None:
    for module, name in product((cuda_sample, cuda_composite), ("sample", "composite")):
        for kernel in (f"_{name}_kernel", f"_{name}_backward_kernel"):
            if hasattr(module, kernel):
                setattr(module, kernel, Compiled(getattr(module, kernel)))

    table = torch.tensor([[0, 0, 0, 4, 5, 0, 0, 3, 4, 0], [0, 0, 0, 4, 5, 0, 0, 3, 4, 20]])
    for source, dtype, mode, padding_mode in (
        (torch.float32, torch.float32, "bilinear", "transparent"),
        (torch.float64, torch.float64, "bilinear", "reflection"),
        (torch.bfloat16, torch.float32, "nearest", "border"),
    ):
        pixels = torch.zeros(2, 3, 13, 17, dtype=source).to(memory_format=torch.channels_last)
        frames, reads = torch.zeros(2, 12, dtype=dtype), torch.zeros(2, 7, dtype=torch.int64)
        values, coverage = torch.zeros(3, 40, dtype=dtype), torch.zeros(40, dtype=dtype)
        given = pixels, frames, reads, table, 40, mode, padding_mode, False
        cuda_sample.sample(*given, True)
        cuda_sample.sample_backward(values, coverage, *given, True, True, True)
        cuda_sample.sample_backward(values, None, *given, False, False, True)
        cuda_composite.composite(pixels, values, coverage, table, True)
        cuda_composite.composite_backward(pixels, coverage, values, table)
        cuda_composite.composite_backward(pixels, coverage, values[:, :0], table)


if __name__ == "__main__":
    main()
