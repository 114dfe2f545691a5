"""Videos whose frames share a draw: the boxes of clips or of frames -> the boxes of frames, and one draw per object."""

from __future__ import annotations

import torch
from kornia.geometry.boxes import Boxes
from torch import Tensor

from kornia_patchaug.boxes import BoxesLike
from kornia_patchaug.kornia_names import valid_rows
from kornia_patchaug.objects import as_flat, checked_index


def boxes_of_frames(boxes: BoxesLike, obj_to_img: Tensor | None, clips: int, frames: int) -> tuple[Tensor, Tensor, int]:
    """``boxes (N, 4)``, the frame ``(N,)`` of each, and how often each row was repeated: 1, or ``frames`` for a clip's.

    ``boxes`` are given per clip or per frame. Frames are numbered clip by clip.
    """
    if isinstance(boxes, Tensor) and boxes.ndim == 2:
        per_clip = clips == 1 and obj_to_img is None
        if obj_to_img is not None:
            index = checked_index(as_flat(boxes, obj_to_img, 0)[1], clips * frames, "obj_to_img")
            per_clip = _counts_clips(index, clips, frames)
    else:
        per_clip = len(valid_rows(boxes) if isinstance(boxes, Boxes) else boxes) == clips
    if not per_clip:
        return *as_flat(boxes, obj_to_img, clips * frames), 1
    flat, clip = as_flat(boxes, obj_to_img, clips)
    frame = torch.arange(frames, device=flat.device).repeat_interleave(len(flat))
    return flat.repeat(frames, 1), clip.repeat(frames) * frames + frame, frames


def _counts_clips(index: Tensor, clips: int, frames: int) -> bool:
    """Whether flat boxes with this ``obj_to_img`` are given per clip and not per frame, or raise."""
    per_frame = torch.bincount(index, minlength=clips * frames).reshape(clips, frames)
    below = bool((index < clips).all())
    if below and len(index) and (per_frame == per_frame[:, :1]).all():
        raise ValueError(
            f"obj_to_img: may number the {clips} clips or the {clips * frames} frames. Pass boxes as a list of one "
            "(n_i, 4) tensor a clip, or a frame, as all frames of a clip share a draw (same_on_frame=True)."
        )
    return below


def rows_of_draws(frame: Tensor, clips: int, frames: int) -> tuple[Tensor, int]:
    """Which draw ``(N,)`` each object takes, and the number of draws; the k-th objects of a clip's frames share one."""
    counts = torch.bincount(frame, minlength=clips * frames)
    per_frame = counts.reshape(clips, frames)
    uneven = (per_frame != per_frame[:, :1]).any(1)
    if uneven.any():
        clip = int(uneven.nonzero()[0])
        raise ValueError(
            f"boxes: expected as many in each frame of a clip, as they share a draw (same_on_frame=True), got "
            f"{per_frame[clip].tolist()} in clip {clip}. An object that is not seen in a frame has an empty box there."
        )
    of_clip = per_frame[:, 0]
    order = frame.argsort(stable=True)
    first_draw = (of_clip.cumsum(0) - of_clip).repeat_interleave(frames)  # of each frame
    first_row = counts.cumsum(0) - counts
    draws = torch.arange(len(frame), device=frame.device) + (first_draw - first_row)[frame[order]]
    return torch.empty_like(draws).index_put((order,), draws), int(of_clip.sum())
