"""What a plan says of its objects before anything is painted."""

import pytest
import torch
from support.scenes import MODES, scene

from kornia_patchaug.kernels import reference
from kornia_patchaug.kernels.backend import Inputs, Wanted
from kornia_patchaug.objects import Source, check_objects
from kornia_patchaug.painting import planned
from kornia_patchaug.plan import PADDINGS, Sampling

MARGIN = 3  # pixels: of a pixel and its neighbour, of which the one may have the weight 0, and of rounding


def random_source(count: int) -> Source:
    """Pictures of other sizes than the images, and boxes of other sizes than those that are painted."""
    generator = torch.Generator().manual_seed(3)
    first = torch.tensor([30.0, 20.0]) * torch.rand(count, 2, generator=generator)
    boxes = torch.cat([first, first + 4 + 30 * torch.rand(count, 2, generator=generator)], dim=1).double()
    pictures = torch.rand(3, 1, 60, 80, generator=generator).double()
    return Source(pictures, boxes, torch.arange(count) % 3, ("source", "source_boxes", "source_to_img"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("of_others", [False, True], ids=["own place", "others"])
@pytest.mark.parametrize("padding_mode", ["zeros", "border", "image"])
def test_areas_hold_what_objects_read_and_little_more(padding_mode, of_others, align_corners, mode):
    images, boxes, theta, obj_to_img = scene("fractional", channels=1)
    source = random_source(len(boxes)) if of_others else None
    objects = check_objects(images, boxes, obj_to_img, theta, None, source)
    beyond, surroundings, by_reach = PADDINGS[padding_mode]
    pictures = images if source is None else source.pictures
    sampling = Sampling(mode == "nearest", beyond, align_corners, by_reach)
    objects, plan = planned(images, pictures, objects, sampling, surroundings, clip=True)
    inputs = Inputs(pictures, objects.theta, objects.boxes, objects.source_boxes)
    owner = plan.windows.flat_pixels(images.device)[0]
    for n, (picture, left, top, width, height, _) in enumerate(plan.areas.host.tolist()):
        of_its_pixels = (owner == n).double()[None]
        wanted = Wanted(theta=False, boxes=False)
        read = reference.sample_backward(of_its_pixels, None, inputs, plan, wanted).source
        image, _, y, x = read.nonzero().T
        assert len(x) and (image == picture).all()
        assert left <= x.min() and x.max() < left + width and top <= y.min() and y.max() < top + height
        if padding_mode == "image":
            assert left >= x.min() - MARGIN and left + width <= x.max() + 1 + MARGIN
            assert top >= y.min() - MARGIN and top + height <= y.max() + 1 + MARGIN


def test_areas_that_are_what_is_painted_are_the_windows_themselves():
    """So that nothing is made of them, or copied to a device, that is there already."""
    images, boxes, theta, obj_to_img = scene("partly outside", channels=1)
    objects = check_objects(images, boxes, obj_to_img, theta)
    for padding_mode, same in (("zeros", True), ("image", False)):
        beyond, surroundings, by_reach = PADDINGS[padding_mode]
        sampling = Sampling(False, beyond, False, by_reach)
        plan = planned(images, images, objects, sampling, surroundings, clip=True)[1]
        assert (plan.areas is plan.windows) == same
