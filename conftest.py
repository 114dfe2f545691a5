"""What must be said before anything is imported: threads, Triton without a GPU; and fixtures for all tests."""

import os

import pytest
import torch

# Workers share the cores: torch's threads would spin and wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of processes that tests start
torch.set_num_threads(1)
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it as it is imported, which importing torch does not do


@pytest.fixture(autouse=True)
def names_in_docstrings(doctest_namespace):
    """Examples call what they show as a reader does."""
    import kornia_patchaug

    doctest_namespace |= {"kp": kornia_patchaug, "torch": torch}


@pytest.fixture
def both(monkeypatch):
    """The backend while a test lasts: the CPU kernels beside the reference."""
    from support.compared import Both

    from kornia_patchaug import kernels

    backend = Both()
    monkeypatch.setattr(kernels, "backend_of", lambda device: backend)
    return backend
