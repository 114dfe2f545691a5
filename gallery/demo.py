"""The page of the demo pictures, which the documentation begins with."""

from __future__ import annotations

from pathlib import Path

from kornia_patchaug import cli
from kornia_patchaug.pages import Shown, page, read_objects
from kornia_patchaug.pictures import find_pictures
from kornia_patchaug.readers import Labels, Notes

PICTURES = Path(__file__).resolve().parent.parent / "demo_images"
COMMAND = "kornia-patchaug preview"


def demo_page() -> str:
    """The index.html that the command writes."""
    prog, *rest = COMMAND.split()
    args, notes = cli.parser_of(prog).parse_args(rest), Notes(strict=True)
    paths = find_pictures([PICTURES], notes, args.out)
    labels = Labels(paths)
    shown = [Shown(read_objects(path, labels, notes), path.read_bytes()) for path in paths]
    return page(COMMAND, shown, cli.ranges_of(args), args.seed, args.draws)
