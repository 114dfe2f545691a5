"""The table of the gallery: all sections, in the order of the page."""

from gallery.names import AUGMENTATIONS, BOXES, FUNCTIONS, TRANSFORMS
from gallery.options import ALIGN_CORNERS, FORMATS, OPACITY, PADDINGS, SEQUENTIAL
from gallery.reach import CLASSES, CLIP, FILLS, FROM_ELSEWHERE, PASTE_PADDINGS, VISIBLE
from gallery.row import Section
from gallery.training import TRAINING

SECTIONS: tuple[Section, ...] = (
    FUNCTIONS,
    PADDINGS,
    ALIGN_CORNERS,
    SEQUENTIAL,
    OPACITY,
    CLIP,
    FILLS,
    FROM_ELSEWHERE,
    PASTE_PADDINGS,
    VISIBLE,
    AUGMENTATIONS,
    TRAINING,
    CLASSES,
    TRANSFORMS,
    BOXES,
    FORMATS,
)
