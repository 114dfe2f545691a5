"""DistributedDataParallel: two processes learn what one learns of the joined batch."""

import copy
import os
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from support.kornia_scenes import OBJ_TO_IMG, SQUARES, picture
from support.training import Model, step
from torch.nn.parallel import DistributedDataParallel

pytestmark = pytest.mark.slow

STEPS, RATE = 4, 3.0


def batch(rank, number):
    """The batch of a rank at a step. In one step the second rank has no objects at all."""
    rows = slice(0) if (rank, number) == (1, 2) else slice(3 - rank)
    classes = torch.tensor([0, 1, 1] if rank == 0 else [1, 0, 0])
    images = picture(seed=10 * number + rank)
    return {"images": images, "boxes": SQUARES[rows], "obj_to_img": OBJ_TO_IMG[rows], "classes": classes[rows]}


def seeded(rank, number):
    torch.manual_seed(100 * number + rank)


def train(rank, folder):
    """What each process runs."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo0" if sys.platform == "darwin" else "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2, timeout=timedelta(seconds=120)
    )
    model = DistributedDataParallel(torch.load(f"{folder}/start.pt", weights_only=False))
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for number in range(STEPS):
        seeded(rank, number)
        step(optimizer, model(**batch(rank, number)))
    torch.save(model.module.state_dict(), f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def train_alone(model):
    """The same in one process: the objects of both ranks, with the thetas that each rank draws, in one batch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    for number in range(STEPS):
        batches = [batch(rank, number) for rank in (0, 1)]
        thetas = []
        for rank, given in enumerate(batches):
            seeded(rank, number)
            model(**given)
            thetas.append(model.augment._params["theta"][0])
        joined = {name: torch.cat([given[name] for given in batches]) for name in ("images", "boxes")}
        obj_to_img = torch.cat([batches[0]["obj_to_img"], batches[1]["obj_to_img"] + 2])
        warped = model.augment(joined["images"], joined["boxes"], torch.cat(thetas), obj_to_img)
        step(optimizer, model.head(warped).square().mean())
    return model.state_dict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """State dicts at the start, of both ranks, and of one process with all."""
    folder = tmp_path_factory.mktemp("distributed")
    torch.manual_seed(0)
    model = Model()
    start = copy.deepcopy(model.state_dict())
    torch.save(model, folder / "start.pt")
    torch.multiprocessing.spawn(train, (str(folder),), nprocs=2)
    return start, torch.load(folder / "rank0.pt"), torch.load(folder / "rank1.pt"), train_alone(model)


def test_both_ranks_hold_the_same_bits(trained):
    _, first, second, _ = trained
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_they_learn_is_what_one_process_learns_of_the_joined_batch(trained):
    start, first, _, alone = trained
    for name, value in alone.items():
        moved = (value - start[name]).abs()
        assert moved.max() > 1e-3 * value.abs().max(), name
        torch.testing.assert_close(first[name], value, rtol=1e-5, atol=1e-3 * moved.max().item())
