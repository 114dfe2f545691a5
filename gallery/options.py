"""The rows of the table that show options: padding modes, the box frame, order, opacity and box formats."""

from __future__ import annotations

from gallery.row import AFTER, BEFORE, Row, Section, Tile

PADDINGS = Section(
    "Padding modes",
    "What is painted where the warped patch does not reach. One object, one theta, five modes.",
    tuple(
        Row(
            "affine_patches",
            f'images, boxes, theta, padding_mode="{mode}"',
            caption,
            f"A head in its box; then the head turned and smaller, and the rest of the box {alt}.",
            option=f'padding_mode="{mode}"',
        )
        for mode, caption, alt in (
            ("zeros", "Black, as in `grid_sample`; the default.", "is black"),
            ("border", "The outermost pixels of the patch go on.", "is filled with streaks of the patch's edge"),
            ("reflection", "The patch is mirrored at its edges.", "is filled with mirror images of it"),
            ("image", "What lies around the object in the image.", "is filled with the background, turned as well"),
            ("transparent", "Nothing: the canvas shows, as it was before.", "shows the head as it was, behind it"),
        )
    ),
    code="""
images, boxes = load("astronaut.jpg", 1, crop=(115, 0, 345, 215))
angle, scale = torch.tensor([30.0]), torch.tensor([0.65])
still = torch.zeros(1, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)""",
)

ALIGN_CORNERS = Section(
    "The box frame",
    "Theta counts from -1 to 1 within the box. The thick outline runs through -1 and 1, before and after. This theta "
    "moves content by half of the frame's width. Pixels are shown as squares: the light column is a rocket.",
    tuple(
        Row(
            "affine_patches",
            f"images, boxes, theta, align_corners={align}",
            caption,
            f"A light column of pixels in a box of four by four; then {alt}.",
            option=f"align_corners={align}",
            tiles=(
                Tile("before", "images", f"frame(boxes, {align})"),
                Tile("after", outlines=f"moved(boxes, theta, {align})"),
            ),
        )
        for align, caption, alt in (
            (
                False,
                "-1 and 1 are the edges of the box; the default. Half of the width is two of four pixels, and the "
                "column stays sharp.",
                "the column two pixels to the right, as sharp as before",
            ),
            (
                True,
                "-1 and 1 are the centres of the outermost pixels. Half of the width is a pixel and a half, and the "
                "column is spread over two.",
                "the column one and a half pixels to the right, as two dimmer columns",
            ),
        )
    ),
    code="""
images, _ = load("rocket.jpg", crop=(228, 170, 444, 332), size=(6, 8))
boxes = torch.tensor([[2, 1, 6, 5]])
theta = torch.tensor([[1.0, 0, -1, 0, 1, 0]])""",
    suffix="png",
)

SEQUENTIAL = Section(
    "Overlapping objects",
    "Later objects paint over earlier ones. Object 1 turns a quarter clockwise, object 2, inside it, a quarter back.",
    tuple(
        Row(
            "affine_patches",
            f"images, boxes, theta, sequential={sequential}",
            caption,
            f"A cat's eye in a box within a larger box; then the fur turned clockwise, and {alt}.",
            option=f"sequential={sequential}",
        )
        for sequential, caption, alt in (
            (
                False,
                "Every object is cropped from the input. The eye has turned by its own quarter: its pupil is level.",
                "in the inner box the eye turned the other way, its pupil level",
            ),
            (
                True,
                "Every object is cropped from what those before it have left. The turns add up: the pupil is upright.",
                "in the inner box the eye as it was, its pupil upright",
            ),
        )
    ),
    code="""
images, _ = load("chelsea.jpg", crop=(90, 20, 390, 290))
boxes = torch.tensor([[38, 35, 238, 235], [96, 93, 180, 177]])
angle, one = torch.tensor([90.0, -90.0]), torch.ones(2)
still = torch.zeros(2, 2)
theta = kp.theta_from_components(angle, one, still, still, boxes=boxes)""",
)

OPACITY = Section(
    "Opacity",
    "`alpha` mixes what is painted with what was there.",
    (
        Row(
            "affine_patches",
            "images, boxes, theta, alpha=alpha",
            "A number per object: 1, 0.75, 0.5 and 0.25.",
            "Four coins; then each also smaller and turned, with ever less opacity from the first to the fourth.",
            option="alpha, a number per object",
            setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))
angle, scale = torch.full((4,), 45.0), torch.full((4,), 0.6)
still = torch.zeros(4, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)
alpha = torch.tensor([1, 0.75, 0.5, 0.25])""",
        ),
        Row(
            "affine_patches",
            "images, boxes, theta, alpha=alpha",
            "A matte, `(N, 1, h, w)`, is stretched over the box and moves with the patch. A soft one leaves no seam.",
            "A cat with its eyes in boxes; a white disk with soft edges; then the eyes turned, without a seam.",
            option="alpha, a matte",
            setup="""
images, boxes = load("chelsea.jpg", 1, 2, crop=(140, 80, 500, 380))
angle, scale = torch.tensor([60.0, -60.0]), torch.full((2,), 1.2)
still = torch.zeros(2, 2)
theta = kp.theta_from_components(angle, scale, still, still, boxes=boxes)
square = torch.linspace(-1, 1, 64).square()
radius = (square + square[:, None]).sqrt()
alpha = (3 - 3 * radius).clamp(0, 1).expand(2, 1, 64, 64)""",
            tiles=(
                BEFORE,
                Tile("alpha of each", "alpha[:1]", "", ""),
                Tile("after", outlines="", boxes=""),
            ),
        ),
        Row(
            "affine_patches",
            'images, boxes, theta, alpha=alpha, clip=False, fill="surroundings"',
            "Masks, `(N, H, W)`, bool or floating, over the image: of each, what lies in the object's box counts. Here "
            "the rocket is whatever is bright.",
            "A rocket in its box; its mask, white on black; then the rocket higher up, leaning, without sky around it.",
            option="alpha, masks",
            setup="""
images, boxes = load("rocket.jpg", 1, crop=(210, 10, 435, 400))
angle, one = torch.tensor([15.0]), torch.ones(1)
shift, still = torch.tensor([[-0.5, -0.2]]), torch.zeros(1, 2)
theta = kp.theta_from_components(angle, one, shift, still, boxes=boxes)
alpha = images[:, 0] > 0.22""",
            tiles=(
                BEFORE,
                Tile("alpha", "alpha[:, None].float()", "boxes", ""),
                Tile("after", outlines="", boxes=""),
            ),
        ),
        Row(
            "soft_mattes",
            'len(boxes), 64, shape="ellipse", feather=0.4',
            "Mattes that fade towards the edge of the box, or of the ellipse in it.",
            "Four coins in boxes; a white disk that fades; then the coins turned, without a seam.",
            setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))
angle, one = torch.tensor([60.0, -60, 120, -120]), torch.ones(4)
still = torch.zeros(4, 2)
theta = kp.theta_from_components(angle, one, still, still, boxes=boxes)""",
            gives="alpha",
            then="""
after = kp.affine_patches(images, boxes, theta, alpha=alpha)""",
            tiles=(
                BEFORE,
                Tile("alpha of each", "alpha[:1]", "", ""),
                Tile("after", outlines="", boxes=""),
            ),
        ),
    ),
)

SIZE = (20, 30)
FORMATS = Section(
    "Box formats",
    "What the four numbers of a format measure, each arrow as long as its number says; then the object turned in that "
    "box. Pixels are shown as squares.",
    tuple(
        Row(
            "convert_boxes",
            f'given, "{mode}", "xyxy"' + (f", size={SIZE}" if mode.endswith("n") else ""),
            caption,
            f"An eye of a cat in a box, and arrows that measure {alt}; then the eye turned in its box.",
            option=mode,
            setup=f"""
given = torch.tensor([{numbers}])""",
            gives="boxes",
            then="""
after = kp.affine_patches(images, boxes, theta)""",
            tiles=(
                Tile(mode, "images", "boxes", "", dimensions=f'dimensions(given[0], "{mode}", {SIZE})'),
                AFTER,
            ),
        )
        for mode, numbers, caption, alt in (
            (
                "xyxy",
                [9, 7, 21, 17],
                "Two corners; the second is one past the last pixel, as in the slice `[y1:y2, x1:x2]`. torchvision.",
                "its two corners from the image's borders",
            ),
            (
                "xyxy_plus",
                [9, 7, 20, 16],
                "Two corners; the second names the last pixel itself. Kornia's `bbox_xyxy` key.",
                "its two corners from the image's borders, the second a pixel short of the edge",
            ),
            (
                "pascal_voc",
                [10, 8, 21, 17],
                "Two corners that name the first and the last pixel, counted from 1. The files of PASCAL VOC.",
                "its two corners from the image's borders, the first a pixel within the edge",
            ),
            (
                "xywh",
                [9, 7, 12, 10],
                "Corner and size. COCO, and so also called `coco`.",
                "its corner from the image's borders, and its width and height",
            ),
            (
                "cxcywh",
                [15, 12, 12, 10],
                "Centre and size.",
                "its centre from the image's borders, and its width and height",
            ),
            (
                "xyxyn",
                [0.3, 0.35, 0.7, 0.85],
                "Two corners, as shares of the image's width and height.",
                "its two corners from the image's borders, as shares of the image",
            ),
            (
                "xywhn",
                [0.3, 0.35, 0.4, 0.5],
                "Corner and size, as shares.",
                "its corner, width and height as shares of the image",
            ),
            (
                "cxcywhn",
                [0.5, 0.6, 0.4, 0.5],
                "Centre and size, as shares. YOLO, and so also called `yolo`; DETR.",
                "its centre, width and height as shares of the image",
            ),
        )
    ),
    code=f"""
images, _ = load("chelsea.jpg", crop=(102, 54, 354, 222), size={SIZE})
theta = torch.tensor([[0.0, 1, 0, -1, 0, 0]])  # a quarter turn""",
    suffix="png",
)
