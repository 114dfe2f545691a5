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
    monkeypatch.setattr(kernels, "backend_of", lambda *_: backend)
    return backend


@pytest.fixture
def native(monkeypatch):
    """The kernels while a test lasts, and in processes that it starts, whatever the rest of the suite runs on."""
    monkeypatch.delenv("KORNIA_PATCHAUG_KERNELS", raising=False)


@pytest.fixture(autouse=True)
def interpreted(request, monkeypatch):
    """Makes Triton's interpreter bearable, where it runs."""
    if request.node.get_closest_marker("cuda") and not torch.cuda.is_available():
        from support.interpreter import hurry

        hurry(monkeypatch)


@pytest.fixture(autouse=True, scope="session")
def kernels_are_compiled():
    """Before the first test, as that is said once, and in a cache that processes which tests start find."""
    import kornia_patchaug as kp

    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KORNIA_PATCHAUG_KERNELS", raising=False)
        for dtype in (torch.float32, torch.float64):
            image, theta = torch.rand(1, 3, 8, 9, dtype=dtype), torch.eye(2, 3, dtype=dtype)[None].requires_grad_()
            kp.affine_patches(image.requires_grad_(), torch.tensor([[1, 2, 7, 6]]), theta).sum().backward()
