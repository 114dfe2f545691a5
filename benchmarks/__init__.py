"""Time, growth and memory of `affine_patches` against what people write today: `python -m benchmarks`."""
