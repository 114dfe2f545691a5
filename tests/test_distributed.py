"""DistributedDataParallel: two processes learn what one learns of the joined batch."""

import copy
import os
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from support.kornia_scenes import OBJ_TO_IMG, SQUARES, picture
from support.training import Model, Patches, step
from torch.nn.parallel import DistributedDataParallel

pytestmark = pytest.mark.slow

STEPS, RATES = 4, {"ranges": 3.0, "patches": 0.1}


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
    states = {}
    for name, model in torch.load(f"{folder}/start.pt", weights_only=False).items():
        model = DistributedDataParallel(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=RATES[name])
        for number in range(STEPS):
            seeded(rank, number)
            step(optimizer, model(**batch(rank, number)))
        states[name] = model.module.state_dict()
    torch.save(states, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


def joined(number):
    """The objects of both ranks in one batch."""
    batches = [batch(rank, number) for rank in (0, 1)]
    together = {name: torch.cat([given[name] for given in batches]) for name in ("images", "boxes", "classes")}
    owners = torch.cat([batches[0]["obj_to_img"], batches[1]["obj_to_img"] + 2])
    return batches, {**together, "obj_to_img": owners}


def loss_of(name, model, number):
    """Of the joined batch, with the thetas that each rank draws."""
    batches, together = joined(number)
    if name == "patches":  # which draws none
        return model(**together)
    thetas = []
    for rank, given in enumerate(batches):
        seeded(rank, number)
        model(**given)
        thetas.append(model.augment._params["theta"][0])
    warped = model.augment(together["images"], together["boxes"], torch.cat(thetas), together["obj_to_img"])
    return model.head(warped).square().mean()


def train_alone(name, model):
    """The same in one process."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATES[name])
    for number in range(STEPS):
        step(optimizer, loss_of(name, model, number))
    return model.state_dict()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """For each model, state dicts at the start, of both ranks, and of one process with all."""
    folder = tmp_path_factory.mktemp("distributed")
    torch.manual_seed(0)
    models = {"ranges": Model(), "patches": Patches()}
    start = {name: copy.deepcopy(model.state_dict()) for name, model in models.items()}
    torch.save(models, folder / "start.pt")
    torch.multiprocessing.spawn(train, (str(folder),), nprocs=2)
    ranks = [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]
    return {name: (start[name], *(r[name] for r in ranks), train_alone(name, models[name])) for name in models}


each_model = pytest.mark.parametrize("name", RATES)


@each_model
def test_both_ranks_hold_the_same_bits(name, trained):
    _, first, second, _ = trained[name]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@each_model
def test_what_they_learn_is_what_one_process_learns_of_the_joined_batch(name, trained):
    start, first, _, alone = trained[name]
    for parameter, value in alone.items():
        moved = (value - start[parameter]).abs()
        assert moved.max() > 1e-3 * value.abs().max(), parameter
        torch.testing.assert_close(first[parameter], value, rtol=1e-5, atol=1e-3 * moved.max().item())
