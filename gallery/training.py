"""The rows of the table that show what detectors are trained with: copies, patches of their own, targets."""

from __future__ import annotations

from gallery.row import BEFORE, Row, Section, Tile

COINS = 'images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))'
HALF_OF_THEM = 'images, boxes = load("coins.jpg", 4, 11, crop=(300, 270, 556, 494))'
PASTED = """
seq = kp.PatchAugmentationSequential(paste, data_keys=["input", "bbox_xyxy"])
after, labels = seq(images, [kp.convert_boxes(boxes, "xyxy", "xyxy_plus")])
labels = kp.convert_boxes(labels[0], "xyxy_plus", "xyxy")"""
WITH_COPIES = Tile("after", outlines="labels", boxes="labels[:0]")

TRAINING = Section(
    "Training",
    "What a detector is trained with: copies of objects, augmentations of each object, and its targets.",
    (
        Row(
            "RandomPatchPaste",
            '4, degrees=180, scale=(0.6, 0.9), matte="ellipse", max_cover=0.0, p=1.0',
            "Copies of objects, each turned by its own angle, where they cover little of what is there. Their labels "
            "are appended: here to those of two coins.",
            "Two numbered coins among others; then copies of them, turned and smaller, with numbers of their own.",
            seed=4,
            setup=HALF_OF_THEM,
            gives="paste",
            then=PASTED,
            tiles=(BEFORE, WITH_COPIES),
        ),
        Row(
            "PatchwiseApply",
            """
    K.ColorJiggle(0.3, 0.5, 0.5, 0.5, p=1.0), K.RandomGaussianBlur((5, 5), (2.0, 2.0), p=0.5),
    matte="ellipse",
""",
            "Any of Kornia's augmentations on the patch of each object alone, with a draw of its own.",
            "An astronaut with head, helmet, shuttle and badge in boxes; then each in other colours, with soft edges.",
            seed=3,
            setup='images, boxes = load("astronaut.jpg", 1, 2, 3, 5)',
            gives="jitter",
            then="after = jitter(images, boxes)",
            tiles=(BEFORE, Tile("after", outlines="boxes")),
        ),
        Row(
            "DetectionSequential",
            """
    K.RandomHorizontalFlip(p=1.0), kp.RandomPatchAffine(180, p=1.0, matte="ellipse", padding_mode="image"),
    K.RandomResizedCrop((224, 256), (0.7, 0.7), (1.1, 1.1), p=1.0),
    min_visible=0.5,
""",
            "Images and targets as torchvision's detectors take them. What is cut off has no label any more.",
            "Four coins; then mirrored, each turned, cut to a part that shows some of them, in boxes that fit.",
            seed=2,
            setup=COINS,
            gives="augment",
            then="""
target = {"boxes": boxes, "labels": torch.ones(len(boxes), dtype=torch.int64)}
after, targets = augment(images, [target])""",
            tiles=(BEFORE, Tile("after", outlines='targets[0]["boxes"]', boxes='targets[0]["boxes"][:0]')),
        ),
        Row(
            "RandomPatchPaste",
            '3, donors=bank, degrees=20, scale=(0.6, 0.9), matte="ellipse", max_cover=0.0, p=1.0',
            "Donors of a bank, which are pictures and targets of their own.",
            "A cup of coffee on a table; then three numbered badges of another picture on it.",
            option="donors=bank",
            seed=1,
            setup="""
other, badges = load("astronaut.jpg", 5)
bank = other, [{"boxes": badges}]
images, boxes = load("coffee.jpg")""",
            gives="paste",
            then=PASTED,
            tiles=(BEFORE, WITH_COPIES),
        ),
        Row(
            "RandomPatchPaste",
            '4, place=density, degrees=180, scale=(0.5, 0.6), matte="ellipse", max_cover=0.0, p=1.0',
            "Centres are drawn from a density `(H, W)`: here from a stripe across the middle.",
            "Two numbered coins; then small copies of them in a row across the middle.",
            option="place=density",
            seed=1,
            setup=HALF_OF_THEM
            + """
density = torch.zeros(224, 256)
density[110:125] = 1""",
            gives="paste",
            then=PASTED,
            tiles=(BEFORE, WITH_COPIES),
        ),
        Row(
            "PatchwiseApply",
            'K.RandomAffine(40, shear=20, padding_mode="border", p=1.0), K.RandomHorizontalFlip(p=1.0)',
            "Augmentations that move pixels see their own patch, and labels move in it.",
            "Four coins in boxes; then each turned, sheared and mirrored in its box, with a label that fits it.",
            option="augmentations that move pixels",
            seed=2,
            setup=COINS,
            gives="warp",
            then="""
seq = kp.PatchAugmentationSequential(warp, data_keys=["input", "bbox_xyxy"])
after, labels = seq(images, [kp.convert_boxes(boxes, "xyxy", "xyxy_plus")])
labels = kp.convert_boxes(labels[0], "xyxy_plus", "xyxy")""",
            tiles=(BEFORE, Tile("after", outlines="labels")),
        ),
        Row(
            "PatchAugmentationSequential",
            """
    kp.RandomPatchAffine(60, p=1.0, clip=False, translate=(0.4, 0.4), fill="surroundings", matte="ellipse"),
    data_keys=["input", "bbox_xyxy", "mask"], instance_masks=True, boxes_from_masks=True,
""",
            "A mask for each object, which moves with it and loses what is painted over it, and boxes around what is "
            "seen.",
            "Four coins; then they overlap, and of their masks, which are discs, those below lack what others cover.",
            option="instance_masks=True",
            seed=5,
            setup="""
images, boxes = load("coins.jpg", 4, 5, 10, 11, crop=(300, 270, 556, 494))
blank, disc = torch.zeros(4, 1, *images.shape[2:]), kp.soft_mattes(4, 128, shape="ellipse", feather=0.0)
masks = kp.paste_patches(blank, disc, boxes, torch.arange(4), mode="nearest")[None, :, 0]""",
            gives="augment",
            then="""
after, labels, seen = augment(images, [kp.convert_boxes(boxes, "xyxy", "xyxy_plus")], masks)
labels = kp.convert_boxes(labels[0], "xyxy_plus", "xyxy")
shades = (seen * torch.tensor([0.4, 0.6, 0.8, 1.0]).view(1, 4, 1, 1)).sum(1, keepdim=True)""",
            tiles=(
                BEFORE,
                Tile("after", outlines="labels", boxes="labels"),
                Tile(
                    "masks",
                    "(seen * torch.tensor([0.4, 0.6, 0.8, 1.0]).view(1, 4, 1, 1)).sum(1, keepdim=True)",
                    "labels",
                    "labels",
                ),
            ),
        ),
    ),
)
