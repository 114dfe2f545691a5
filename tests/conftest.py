"""One thread for each of the workers that share the cores: torch's threads would spin and wait for one another."""

import os

import pytest
import torch

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
torch.set_num_threads(1)


@pytest.fixture
def both(monkeypatch):
    """What runs behind the operators while a test lasts: the CPU kernels beside the reference."""
    from compared import Both

    from kornia_patchaug.kernels import operators

    kernels = Both()
    monkeypatch.setattr(operators, "kernels", lambda device: kernels)
    return kernels
