"""The rows of the table that show reach: objects that leave their boxes and their pictures, and what is still seen."""

from __future__ import annotations

from gallery.row import AFTER, BEFORE, Row, Section, Tile

PLAIN = Tile("after", outlines="", boxes="")

CLIP = Section(
    "Beyond the box",
    "One object, one theta that shifts it by more than half of its box.",
    tuple(
        Row(
            "affine_patches",
            f'images, boxes, theta, padding_mode="transparent", clip={clip}',
            caption,
            f"A coin in its box; then {alt}.",
            option=f"clip={clip}",
        )
        for clip, caption, alt in (
            (
                True,
                "An object is painted within its box; the default. What would lie beyond is cut off.",
                "the coin as it was, with part of it again, turned, in a corner of the box",
            ),
            (
                False,
                "An object is painted wherever it lands, and nothing is cut off. It is seen twice: nothing fills the "
                "place that it left.",
                "the coin as it was, and again whole, turned, half beside its box",
            ),
        )
    ),
    code="""
images, boxes = load("coins.jpg", 4, crop=(300, 270, 556, 494))
angle, scale = torch.tensor([30.0]), torch.tensor([0.7])
shift, still = torch.tensor([[0.5, 0.6]]), torch.zeros(1, 2)
theta = kp.theta_from_components(angle, scale, shift, still, boxes=boxes)""",
)

FILLS = Section(
    "What an object leaves behind",
    "With a `fill` objects are taken off their picture first, and their holes are filled. So each is there once.",
    (
        *(
            Row(
                "affine_patches",
                f"images, boxes, theta, alpha=alpha, clip=False, fill={fill}",
                caption,
                f"Two coins among others; then one between them and one smaller, with {alt} where they were.",
                option=f"fill={fill}",
                setup="""
images, boxes = load("coins.jpg", 4, 11, crop=(300, 270, 556, 494))
angle, scale = torch.tensor([30.0, -30]), torch.tensor([0.7, 0.6])
shift, still = torch.tensor([[0.66, 0.72], [0, 0]]), torch.zeros(2, 2)
theta = kp.theta_from_components(angle, scale, shift, still, boxes=boxes)
alpha = kp.soft_mattes(len(boxes), 64, shape="ellipse", feather=0.1)""",
            )
            for fill, caption, alt in (
                ("0.6", "A number. Holes have the shape of what was taken off: here soft ellipses.", "grey"),
                ("(0.8, 0.4, 0.2)", "A colour, a number for each channel.", "orange"),
                (
                    '"surroundings"',
                    "A smooth continuation of the pixels around the hole, made up from them alone.",
                    "dark cloth as around it",
                ),
            )
        ),
        Row(
            "affine_patches",
            "images, boxes, theta, alpha=alpha, clip=False, fill=background",
            "Clean pictures `(B, C, H, W)`, if there are any: of an empty street, say, or of the scene before.",
            "A sky with a badge; then the badge elsewhere, turned, and the sky whole.",
            option="fill=background",
            setup="""
background, _ = load("rocket.jpg", crop=(210, 0, 550, 230))
badge, _ = load("astronaut.jpg", crop=(133, 348, 208, 423))
boxes = torch.tensor([[16, 120, 91, 195]])
alpha = kp.soft_mattes(1, 64, shape="ellipse", feather=0.1)
images = kp.paste_patches(background, badge, boxes, alpha=alpha)
angle, one = torch.tensor([20.0]), torch.ones(1)
shift, still = torch.tensor([[2.0, -1.0]]), torch.zeros(1, 2)
theta = kp.theta_from_components(angle, one, shift, still, boxes=boxes)""",
        ),
        *(
            Row(
                "affine_patches",
                f'images, boxes, theta, alpha=alpha, clip=False, fill="surroundings", grow={grow}',
                caption,
                f"A coin; then the coin to the right, and {alt} where it was.",
                option=f"grow={grow}",
                setup="""
images, boxes = load("coins.jpg", 4, crop=(300, 270, 476, 374))
angle, one = torch.tensor([45.0]), torch.ones(1)
shift, still = torch.tensor([[1.1, 0]]), torch.zeros(1, 2)
theta = kp.theta_from_components(angle, one, shift, still, boxes=boxes)
alpha = kp.soft_mattes(1, 64, shape="ellipse", feather=0.3)""",
            )
            for grow, caption, alt in (
                (0.0, "A matte ends short of its object. A hole of its size leaves a rim of it.", "a faint ring"),
                (
                    0.3,
                    "The hole is larger by this share of the box's size, and nothing is left; 0.1 by default.",
                    "nothing",
                ),
            )
        ),
    ),
)

FROM_ELSEWHERE = Section(
    "Patches from elsewhere",
    "What is painted may be any picture, or part of one, warped by a theta of its own.",
    (
        Row(
            "paste_patches",
            'images, patches.roll(1, 0), boxes, theta=theta, padding_mode="transparent"',
            "Each patch is turned and scaled on its way into its box, and resampled once.",
            "A cat with eyes and nose in boxes; then nose, eye and eye in each other's places, turned and smaller.",
            option="theta=theta",
            setup="""
images, boxes = load("chelsea.jpg", 1, 2, 3, crop=(140, 80, 500, 380))
patches = kp.crop_patches(images, boxes, size=(96, 96))
angle, scale = torch.tensor([90.0, -20, 45]), torch.tensor([0.8, 0.9, 0.7])
still = torch.zeros(3, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)""",
        ),
        Row(
            "paste_patches",
            "images, bank, boxes, patch_index=index, alpha=alpha",
            "A bank of patches, of which each object shows one. Gradients to a patch add up over its uses.",
            "Six coins in boxes; two patches, a badge and a cat's eye; then badges and eyes in the place of the coins.",
            option="patch_index=index",
            setup="""
images, boxes = load("coins.jpg", 4, 5, 6, 10, 11, 12, crop=(300, 245, 640, 495))
badge, _ = load("astronaut.jpg", crop=(133, 348, 208, 423), size=(64, 64))
eye, _ = load("chelsea.jpg", crop=(180, 110, 274, 204), size=(64, 64))
bank, index = torch.cat([badge, eye]), torch.tensor([0, 1, 1, 0, 0, 1])
alpha = kp.soft_mattes(len(boxes), 64, shape="ellipse", feather=0.1)""",
            tiles=(
                BEFORE,
                Tile("bank", "bank", "whole(bank)", "", "range(2)"),
                Tile("after", outlines="boxes", boxes="", texts="[str(int(k) + 1) for k in index]"),
            ),
        ),
        Row(
            "paste_patches",
            "images, badge, boxes, theta=theta, patch_index=index, clip=False",
            "A patch is painted wherever it lands, so that it may turn, and lie beside its box. Within boxes, the "
            "default, it would be cut off.",
            "Two coins in boxes; then a square badge over each, turned, its corners cut off at the box; then whole.",
            option="clip=False",
            setup="""
images, boxes = load("coins.jpg", 4, 10, crop=(300, 270, 496, 494))
badge, _ = load("astronaut.jpg", crop=(133, 348, 208, 423))
index, angle, one = torch.tensor([0, 0]), torch.tensor([45.0, 30]), torch.ones(2)
shift, still = torch.tensor([[0, 0], [0.3, -0.3]]), torch.zeros(2, 2)
theta = kp.theta_from_components(angle, one, shift, still, boxes=boxes)""",
            then="""
within = kp.paste_patches(images, badge, boxes, theta=theta, patch_index=index, padding_mode="transparent")""",
            tiles=(BEFORE, Tile("clip=True", "within"), Tile("clip=False")),
        ),
        Row(
            "transplant_patches",
            "images, boxes, source=source, source_boxes=there, alpha=alpha",
            "What boxes of other pictures show goes into boxes of images, read where it is, at its own resolution.",
            "Three coins in boxes; an evening sky with three boxes; then the coins in the sky.",
            setup="""
source, there = load("coins.jpg", 4, 6, 11, crop=(300, 245, 640, 495))
images, _ = load("rocket.jpg", crop=(180, 40, 460, 300))
boxes = torch.tensor([[20, 40, 60, 80], [170, 20, 260, 110], [75, 15, 115, 55]])
alpha = kp.soft_mattes(len(boxes), 64, shape="ellipse", feather=0.1)""",
            tiles=(Tile("source", "source", "there", ""), Tile("images", "images", "boxes"), PLAIN),
        ),
        *(
            Row(
                "transplant_patches",
                "images, boxes, source=source, source_boxes=there, theta=theta, "
                f'padding_mode="transparent", clip={clip}',
                caption,
                f"A shuttle in its box; a sky with a box; then the shuttle in the sky, leaning, {alt}.",
                option=f"clip={clip}",
                setup="""
source, there = load("astronaut.jpg", 3, crop=(300, 0, 512, 290))
images, _ = load("china.jpg", crop=(400, 0, 612, 290))
boxes = torch.tensor([[60.0, 30, 130, 217]])
angle, one = torch.tensor([25.0]), torch.ones(1)
still = torch.zeros(1, 2)
theta = kp.theta_from_components(angle, one, still, still, boxes=boxes)""",
                tiles=(Tile("source", "source", "there", ""), Tile("images", "images", "boxes"), AFTER),
            )
            for clip, caption, alt in (
                (False, "Objects are painted wherever they land; the default here.", "whole"),
                (True, "Objects are painted within their boxes only.", "cut off at the box"),
            )
        ),
    ),
)

PASTE_PADDINGS = Section(
    "Beyond a pasted patch",
    "What is painted in the box where a warped patch does not reach. There are no surroundings to read.",
    tuple(
        Row(
            "paste_patches",
            f'images, badge, boxes, theta=theta, padding_mode="{mode}"',
            caption,
            f"A box on a cup; then a badge in it, turned and smaller, and the rest of the box {alt}.",
            option=f'padding_mode="{mode}"',
        )
        for mode, caption, alt in (
            ("zeros", "Black.", "is black"),
            ("border", "The outermost pixels of the patch go on; the default within boxes.", "is streaks of its edge"),
            ("reflection", "The patch is mirrored at its edges.", "is mirror images of it"),
            ("transparent", "Nothing: the canvas shows; the default with `clip=False`.", "shows the cup"),
        )
    ),
    code="""
images, _ = load("coffee.jpg", crop=(150, 20, 430, 240))
badge, _ = load("astronaut.jpg", crop=(133, 348, 208, 423))
boxes = torch.tensor([[60, 40, 220, 200]])
angle, scale = torch.tensor([30.0]), torch.tensor([0.6])
still = torch.zeros(1, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)""",
)

VISIBLE = Section(
    "What is still seen",
    "Labels of what is hidden, or out of the picture, are better dropped.",
    (
        Row(
            "visible_share",
            "boxes, theta, size=(224, 256), alpha=alpha, clip=False",
            "The share of each object that is seen after `affine_patches`: less where it left the picture, and where "
            "later objects lie above it.",
            "Four coins in boxes; then the first half below the second, the third half out of the picture, the fourth "
            "whole, each with its share in percent.",
            gives="share",
            setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))
angle, one = torch.tensor([30.0, 0, 20, 60]), torch.ones(4)
shift = torch.tensor([[1.25, 0.45], [0, -0.1], [-1.3, 0], [0, -0.15]])
theta = kp.theta_from_components(angle, one, shift, torch.zeros(4, 2), boxes=boxes)
alpha = kp.soft_mattes(len(boxes), 64, shape="ellipse")""",
            then="""
after = kp.affine_patches(
    images, boxes, theta, alpha=alpha, clip=False, fill="surroundings"
)""",
            tiles=(BEFORE, Tile("share that is seen", boxes="", texts='[f"{100 * s:.0f} %" for s in share]')),
        ),
    ),
)

DRAWS = (
    BEFORE,
    Tile("a draw", "after[:1]", 'moved(boxes, augment._params["theta"][0, :4])'),
    Tile("another", "after[1:]", 'moved(boxes, augment._params["theta"][0, 4:])'),
)
CLASSES = Section(
    "Reach in augmentations",
    "`PatchAffine` and `RandomPatchAffine` have these options alike.",
    (
        *(
            Row(
                "RandomPatchAffine",
                f"""
    25, translate=(0.7, 0.7), scale=(0.5, 0.8), p=1.0,
    clip=False,{more}
""",
                caption,
                f"Four coins; then two draws, in which each coin is elsewhere, turned and smaller, {alt}.",
                option=option,
                seed=3,
                setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))""",
                gives="augment",
                then="""
after = augment(images.expand(2, -1, -1, -1), [boxes, boxes])""",
                tiles=DRAWS,
            )
            for option, more, caption, alt in (
                (
                    "clip=False",
                    "",
                    "Objects go where they are drawn to; `translate` may be above 1. Each is seen where it was, too.",
                    "and also where it was",
                ),
                (
                    'fill="surroundings"',
                    ' fill="surroundings", matte="ellipse",',
                    "Each object is taken off first and its hole filled; also with a number, a colour, clean pictures. "
                    "With `matte` there are no corners.",
                    "and the cloth is dark where it was",
                ),
            )
        ),
        *(
            Row(
                "PatchAffine",
                f'matte="{matte}"' + (f", feather={feather}" if feather else ""),
                caption,
                f"A cat with its eyes in boxes; then the eyes turned by a quarter, {alt}.",
                option=f"feather={feather}" if feather else f'matte="{matte}"',
                setup="""
images, boxes = load("chelsea.jpg", 1, 2, crop=(140, 80, 500, 300))
angle, one, still = torch.tensor([90.0, -90]), torch.ones(2), torch.zeros(2, 2)
theta = kp.theta_from_components(angle, one, still, still, boxes=boxes)""",
                gives="augment",
                then="""
after = augment(images, boxes, theta)
hard = kp.PatchAffine()(images, boxes, theta)""",
                tiles=(BEFORE, Tile("no matte", "hard", "", ""), Tile(option_caption, outlines="", boxes="")),
            )
            for matte, feather, option_caption, caption, alt in (
                ("box", None, 'matte="box"', "Soft edges, for objects that fill their boxes.", "with soft edges"),
                ("ellipse", None, 'matte="ellipse"', "And without corners, for what is round.", "in soft ellipses"),
                (
                    "ellipse",
                    0.8,
                    "feather=0.8",
                    "How wide edges are, as a share of the half size; 0.2 by default.",
                    "in ellipses that fade from the middle on",
                ),
            )
        ),
        Row(
            "PatchAffine",
            'clip=False, fill="surroundings", matte="mask"',
            "What moves is what each object's own mask shows: here what is brighter than the cloth.",
            "Four coins in boxes; their masks in white; then each is turned and elsewhere, without cloth around it.",
            option='matte="mask"',
            setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))
bright = torch.nn.functional.max_pool2d(images.mean(1), 7, stride=1, padding=3) > 0.4
masks = bright.expand(4, -1, -1)
angle, scale = torch.tensor([40.0, -60, 120, -30]), torch.tensor([0.9, 0.8, 1.0, 0.9])
shift = torch.tensor([[0.6, 0.6], [0.7, 0.3], [-1.0, -0.2], [0.1, -0.4]])
theta = kp.theta_from_components(angle, scale, shift, torch.zeros(4, 2), boxes=boxes)""",
            gives="augment",
            then="""
after = augment(images, boxes, theta, masks=masks)""",
            tiles=(BEFORE, Tile("masks", "masks[:1, None].float()", "", ""), AFTER),
        ),
        *(
            Row(
                "PatchAffine",
                f'fill="surroundings", order="{order}"',
                caption,
                f"A cat's eye in a box within a larger box; then {alt}.",
                option=f'order="{order}"',
                setup="""
images, _ = load("chelsea.jpg", crop=(90, 20, 390, 290))
boxes = torch.tensor([[96, 93, 180, 177], [78, 65, 278, 255]])
angle, one, still = torch.tensor([0.0, 180]), torch.ones(2), torch.zeros(2, 2)
theta = kp.theta_from_components(angle, one, still, still, boxes=boxes)""",
                gives="augment",
                then="""
after = augment(images, boxes, theta)""",
                tiles=(BEFORE, Tile("after", outlines="moved(boxes, theta)", boxes="")),
            )
            for order, caption, alt in (
                (
                    "area",
                    "Large objects are painted first, so that small ones lie above them; the default. The eye stays, "
                    "the fur around it turns.",
                    "the fur upside down, and the eye as it was, in its box",
                ),
                (
                    "rows",
                    "Later rows lie above earlier ones. The fur, here the last, takes the eye with it, and the eye's "
                    "label is wrong.",
                    "the fur upside down and the eye with it, out of its box",
                ),
            )
        ),
        Row(
            "PatchAffine",
            'clip=False, fill="surroundings", matte="ellipse", min_visible=0.8',
            "Labels are removed where a smaller share of the object is seen.",
            "Four coins in boxes; then one below another and one half out of the picture, each with its share in "
            "percent; then boxes around the two others alone.",
            option="min_visible=0.8",
            setup="""
images, boxes = load("coins.jpg", 5, 11, 4, 10, crop=(300, 270, 556, 494))
inclusive = kp.convert_boxes(boxes, "xyxy", "xyxy_plus")
angle, one = torch.tensor([0.0, 60, 30, 20]), torch.ones(4)
shift = torch.tensor([[0, -0.1], [0, -0.15], [1.25, 0.5], [-1.3, 0]])
theta = kp.theta_from_components(angle, one, shift, torch.zeros(4, 2), boxes=boxes)""",
            gives="augment",
            then="""
augment.bind(theta=theta)
container = kp.PatchAugmentationSequential(augment, data_keys=["input", "bbox_xyxy"])
after, (labels,) = container(images, [inclusive])
share = augment._params["visible"][0]
labels = kp.convert_boxes(labels[labels.any(dim=1)], "xyxy_plus", "xyxy")""",
            tiles=(
                BEFORE,
                Tile("share that is seen", boxes="", texts='[f"{100 * s:.0f} %" for s in share]'),
                Tile("labels", outlines="labels", boxes=""),
            ),
        ),
    ),
)
