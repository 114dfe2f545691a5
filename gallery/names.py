"""The rows of the table that show public names, one each."""

from __future__ import annotations

from gallery.row import BEFORE, Row, Section, Tile

FUNCTIONS = Section(
    "Functions",
    "Crop, warp and paste; and all three in one call, which resamples once.",
    (
        Row(
            "affine_patches",
            "images, boxes, theta",
            "Every object is warped by its own theta and painted back into its box. Nothing else changes.",
            "Six coins in numbered boxes; then each coin turned and scaled by itself, within its box.",
            setup="""
images, boxes = load("coins.jpg", 4, 5, 6, 10, 11, 12, crop=(300, 245, 640, 495))
angle = torch.tensor([-75.0, -45, 90, 30, -60, 45])
scale = torch.tensor([0.8, 0.9, 1, 1.1, 1, 0.7])
still = torch.zeros(6, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)""",
        ),
        Row(
            "crop_patches",
            "images, boxes, size=(96, 96)",
            "Every box is cut out and resized to one size.",
            "An astronaut, with head, helmet, shuttle and badge in boxes; then the four as squares of one size.",
            setup="""
images, boxes = load("astronaut.jpg", 1, 2, 3, 5)""",
            gives="patches",
            tiles=(BEFORE, Tile("patches", "patches", "whole(patches)", "", "range(4)", columns=2)),
        ),
        Row(
            "warp_patches",
            'patches, theta, padding_mode="border"',
            "Patches that are cut out already are warped each by its own theta: `grid_sample` on `affine_grid`.",
            "Four square patches; then each turned and scaled by itself.",
            setup="""
images, boxes = load("astronaut.jpg", 1, 2, 3, 5)
patches = kp.crop_patches(images, boxes, size=(96, 96))
angle = torch.tensor([-30.0, 45, -20, 180])
scale = torch.tensor([0.9, 1.2, 0.8, 1])
still = torch.zeros(4, 2)
theta = kp.theta_from_components(angle, scale, still, still)""",
            tiles=(
                Tile("before", "patches", "whole(patches)", "", "range(4)", columns=2),
                Tile("after", "after", "whole(patches)", "", "range(4)", columns=2),
            ),
        ),
        Row(
            "paste_patches",
            "images, patches.roll(1, 0), boxes",
            "Patches are resized to boxes and painted into the images. Here each goes into the next object's box.",
            "A cat with eyes and nose in boxes; then nose, eye and eye in the places of eye, eye and nose.",
            setup="""
images, boxes = load("chelsea.jpg", 1, 2, 3, crop=(140, 80, 500, 380))
patches = kp.crop_patches(images, boxes, size=(96, 96))""",
            tiles=(BEFORE, Tile("after", outlines="boxes")),
        ),
    ),
)

AUGMENTATIONS = Section(
    "Kornia augmentations",
    "Modules, for Kornia's containers or on their own.",
    (
        Row(
            "RandomPatchAffine",
            """
    degrees=25, translate=(0.1, 0.1), scale=(0.8, 1.1),
    p=1.0, padding_mode="image",
""",
            "At every call a theta is drawn for each object, from ranges as `RandomAffine` has them. Here the picture "
            "is in the batch twice.",
            "Four coins; then two draws, in which each coin is turned, shifted and scaled by itself.",
            seed=1,
            setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))""",
            gives="augment",
            then="""
after = augment(images.expand(2, -1, -1, -1), [boxes, boxes])""",
            tiles=(
                BEFORE,
                Tile("a draw", "after[:1]", 'moved(boxes, augment._params["theta"][0, :4])'),
                Tile("another", "after[1:]", 'moved(boxes, augment._params["theta"][0, 4:])'),
            ),
        ),
        Row(
            "PatchAffine",
            'padding_mode="image"',
            "The theta of each object is given.",
            "A head and a shuttle in boxes; then the head leans left, and the shuttle right, smaller and higher up.",
            setup="""
images, boxes = load("astronaut.jpg", 1, 3, crop=(112, 0, 482, 285))
angle, scale = torch.tensor([-25.0, 15]), torch.tensor([0.85, 0.75])
shift, still = torch.tensor([[0, 0], [0, -0.1]]), torch.zeros(2, 2)
theta = kp.theta_from_components(angle, scale, shift, still, boxes=boxes)""",
            gives="augment",
            then="""
after = augment(images, boxes, theta)""",
        ),
        Row(
            "PatchAugmentationSequential",
            """
    K.RandomHorizontalFlip(p=1.0),
    kp.RandomPatchAffine(30, scale=(0.6, 0.8), p=1.0, padding_mode="image"),
    data_keys=["input", "bbox_xyxy"],
""",
            "Kornia's container, whose children see the objects where they now are. The picture is flipped, each "
            "object is turned and made smaller in its flipped box, and the labels come along.",
            "An astronaut with helmet, shuttle and badge in boxes; then mirrored, the three turned and smaller, in "
            "boxes that fit them.",
            seed=12,
            setup="""
images, boxes = load("astronaut.jpg", 2, 3, 5)
inclusive = kp.convert_boxes(boxes, "xyxy", "xyxy_plus")""",
            gives="augment",
            then="""
after, labels = augment(images, [inclusive])""",
            tiles=(
                BEFORE,
                Tile(
                    "after",
                    outlines='kp.convert_boxes(labels[0], "xyxy_plus", "xyxy")',
                    boxes='augment[1]._params["boxes"][0]',
                ),
            ),
        ),
    ),
)

TRANSFORMS = Section(
    "Transforms",
    "What makes theta, and what follows from it.",
    (
        Row(
            "theta_from_components",
            "angle, scale, translate, shear, boxes=boxes",
            "Angle, scale, shift and shear, as `RandomAffine` reads them; here one for each object.",
            "Four coins; then the first turned, the second smaller, the third shifted, the fourth sheared.",
            setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))
angle, scale = torch.tensor([30.0, 0, 0, 0]), torch.tensor([1, 0.6, 1, 1])
translate = torch.tensor([[0, 0], [0, 0], [0.3, 0.2], [0, 0]])
shear = torch.tensor([[0.0, 0], [0, 0], [0, 0], [20, 0]])""",
            gives="theta",
            then="""
after = kp.affine_patches(images, boxes, theta)""",
        ),
        Row(
            "theta_from_lie",
            "params",
            "The matrix exponential of six numbers is always invertible, and the negative numbers are the inverse.",
            "A cup; then turned one way and smaller; then turned the other way and larger.",
            setup="""
images, boxes = load("coffee.jpg", 2, crop=(150, 0, 430, 325))
params = torch.tensor([[0.2, -0.4, 0, 0.4, 0.2, 0]])""",
            gives="theta",
            then="""
after = kp.affine_patches(images, boxes, theta)
other = kp.affine_patches(images, boxes, kp.theta_from_lie(-params))""",
            tiles=(BEFORE, Tile("params"), Tile("-params", "other", "moved(boxes, kp.theta_from_lie(-params))")),
        ),
        Row(
            "invert_theta",
            "theta",
            "The theta that undoes. What stayed within the box comes back.",
            "A head; then turned and smaller; then as before, a little softer.",
            setup="""
images, boxes = load("astronaut.jpg", 1, crop=(125, 0, 330, 200))
angle, scale = torch.tensor([-40.0]), torch.tensor([0.7])
still = torch.zeros(1, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)
warped = kp.affine_patches(images, boxes, theta)""",
            gives="inverse",
            then="""
after = kp.affine_patches(warped, boxes, inverse)""",
            tiles=(BEFORE, Tile("theta", "warped"), Tile("then inverse", outlines="boxes")),
        ),
        Row(
            "compose_theta",
            "first, then",
            "Two warps in turn as one theta, so that pixels are interpolated once.",
            "A coin; then turned; then turned, smaller and to the right.",
            setup="""
images, boxes = load("coins.jpg", 6, crop=(505, 240, 640, 385))
one, still, right = torch.ones(1), torch.zeros(1, 2), torch.tensor([[0.2, 0]])
first = kp.theta_from_components(60 * one, one, still, still, boxes=boxes)
then = kp.theta_from_components(0 * one, 0.6 * one, right, still, boxes=boxes)""",
            gives="theta",
            then="""
halfway = kp.affine_patches(images, boxes, first)
after = kp.affine_patches(images, boxes, theta)""",
            tiles=(BEFORE, Tile("first", "halfway", "moved(boxes, first)"), Tile("composed")),
        ),
        Row(
            "move_points",
            "points, boxes, theta",
            "Where content goes: landmarks follow the object that they lie on.",
            "A head with coloured dots on eyes, nose and mouth; then turned, the dots at the same places of the face.",
            setup="""
images, boxes = load("astronaut.jpg", 1, crop=(125, 0, 330, 200))
angle, scale = torch.tensor([-35.0]), torch.tensor([0.85])
still = torch.zeros(1, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)
after = kp.affine_patches(images, boxes, theta, padding_mode="image")
spots = [[79.0, 101], [122, 103], [100, 125], [80, 141], [118, 143]]
points = torch.tensor([spots])  # (N, K, 2)""",
            gives="landmarks",
            tiles=(
                Tile("points", "images", "boxes", points="points"),
                Tile("landmarks", points="landmarks"),
            ),
        ),
        Row(
            "move_boxes",
            "boxes, theta",
            "The labels of the moved objects: the box around the moved corners of each, clipped to what is painted.",
            "Four coins in their boxes; then each turned, smaller and shifted, in a box that fits it.",
            setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))
angle = torch.tensor([30.0, 0, 45, 20])
scale = torch.tensor([0.6, 0.7, 0.65, 0.6])
translate = torch.tensor([[0, 0], [0.25, 0.1], [0, 0], [-0.2, 0.1]])
still = torch.zeros(4, 2)
theta = kp.theta_from_components(angle, scale, translate, still, boxes=boxes)
after = kp.affine_patches(images, boxes, theta)""",
            gives="labels",
            tiles=(Tile("boxes", "images", "boxes"), Tile("labels", outlines="labels")),
        ),
        Row(
            "move_boxes",
            'boxes, theta, outline="ellipse"',
            "Of what is round, the box around the moved ellipse: one around the moved corners is too large.",
            "A coin in its box; then turned and smaller, in a box with room on all sides; then in a box that fits it.",
            option='outline="ellipse"',
            setup="""
images, boxes = load("coins.jpg", 6, crop=(505, 240, 640, 385))
angle, scale = torch.tensor([45.0]), torch.tensor([0.65])
still = torch.zeros(1, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)
after = kp.affine_patches(images, boxes, theta, padding_mode="image")
corners = kp.move_boxes(boxes, theta)""",
            gives="labels",
            tiles=(
                Tile("boxes", "images", "boxes"),
                Tile('"box"', outlines="corners"),
                Tile('"ellipse"', outlines="labels"),
            ),
        ),
    ),
)

BOXES = Section(
    "Boxes",
    "Flat rows of half-open `x1 y1 x2 y2`; whatever else comes is converted at the door.",
    (
        Row(
            "convert_boxes",
            'coco, "xywh", "xyxy"',
            "The same numbers are other boxes in another format, some of them inside out. "
            "[The formats](#box-formats) are below.",
            "A cat with three boxes that hit nothing; then three boxes on its eyes and its nose.",
            setup="""
images, _ = load("chelsea.jpg", crop=(140, 80, 500, 380))
coco = torch.tensor([[40, 33, 97, 84], [253, 65, 64, 74], [178, 222, 70, 52]])""",
            gives="boxes",
            tiles=(
                Tile("taken for xyxy", "images", "coco", ""),
                Tile("converted", "images", "boxes", ""),
            ),
        ),
        Row(
            "flatten_boxes",
            "[first, second]",
            "A list of one tensor an image becomes flat rows, and `obj_to_img` says whose each is.",
            "Two pictures, with boxes numbered from 1 in each; then numbered from 1 to 5 through both.",
            setup="""
cat, first = load("chelsea.jpg", 1, 2, 3, crop=(60, 60, 480, 380))
cup, second = load("coffee.jpg", 2, 3, crop=(90, 10, 510, 330))
images = torch.cat([cat, cup])""",
            gives="boxes, obj_to_img",
            tiles=(
                Tile("a list", "images", "[first, second]", ""),
                Tile("flat rows", "images", "boxes", "", "obj_to_img"),
            ),
        ),
        Row(
            "split_boxes",
            "boxes, obj_to_img, len(images)",
            "Flat rows, in any order, become a list of one tensor an image.",
            "Two pictures, with boxes numbered from 1 to 7 through both; then numbered from 1 in each.",
            setup="""
coins, first = load("coins.jpg", 4, 5, 9, 10, 11, crop=(230, 280, 630, 485))
suit, second = load("astronaut.jpg", 2, 5, crop=(112, 307, 512, 512))
images = torch.cat([coins, suit])
boxes, obj_to_img = kp.flatten_boxes([first, second])
boxes, obj_to_img = boxes.flip(0), obj_to_img.flip(0)""",
            gives="per_image",
            tiles=(
                Tile("flat rows", "images", "boxes", "", "obj_to_img"),
                Tile("a list", "images", "per_image", ""),
            ),
        ),
    ),
)
