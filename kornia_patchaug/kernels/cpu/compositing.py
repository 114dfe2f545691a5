"""The loops of *composite* on the CPU: bands of rows of the canvas, in each of which windows are painted one by one.

Pictures, paint and opacity are flat and contiguous; ``table`` is as ``reference.py`` has it.
"""

from __future__ import annotations

from kornia_patchaug.kernels.cpu.jit import compiled


@compiled
def composite(begin, end, *rest):
    for k in range(begin, end):
        composite_task(k, *rest)


@compiled
def composite_task(k, bands, order, first, canvas, paint, opacity, table, job, out, under):
    """Copy a band of rows of one image, and paint what lies in it of each of its windows, in row order."""
    real = paint.dtype.type
    image, row0, row1 = bands[k]
    for channel in range(job.channels):
        plane = (image * job.channels + channel) * job.height
        begin, end = (plane + row0) * job.width, (plane + row1) * job.width
        out[begin:end] = canvas[begin:end]
    for n in order[first[image] : first[image + 1]]:
        x, y, columns, rows, start = table[n, 1], table[n, 2], table[n, 3], table[n, 4], table[n, 9]
        for row in range(max(row0, y), min(row1, y + rows)):
            at = start + (row - y) * columns
            through = opacity[at : at + columns]
            for channel in range(job.channels):
                begin = ((image * job.channels + channel) * job.height + row) * job.width + x
                line = out[begin : begin + columns]
                over = paint[channel * job.total + at : channel * job.total + at + columns]
                if len(under):
                    under[channel * job.total + at : channel * job.total + at + columns] = line
                for i in range(columns):
                    keeps = real(1) - through[i]
                    line[i] = over[i] if keeps == 0 else keeps * line[i] + over[i]


@compiled
def composite_backward(begin, end, *rest):
    for k in range(begin, end):
        composite_backward_task(k, *rest)


@compiled
def composite_backward_task(k, bands, order, first, grad, opacity, under, table, job, out, grad_paint, grad_opacity):
    """Copy a band of rows of the gradient, and take each window off it again, the last one first."""
    real = opacity.dtype.type
    image, row0, row1 = bands[k]
    for channel in range(job.channels):
        plane = (image * job.channels + channel) * job.height
        begin, end = (plane + row0) * job.width, (plane + row1) * job.width
        out[begin:end] = grad[begin:end]
    for n in order[first[image] : first[image + 1]][::-1]:
        x, y, columns, rows, start = table[n, 1], table[n, 2], table[n, 3], table[n, 4], table[n, 9]
        for row in range(max(row0, y), min(row1, y + rows)):
            at = start + (row - y) * columns
            through = opacity[at : at + columns]
            if len(under):
                grad_opacity[at : at + columns] = real(0)
            for channel in range(job.channels):
                begin = ((image * job.channels + channel) * job.height + row) * job.width + x
                line = out[begin : begin + columns]
                flat = channel * job.total + at
                grad_paint[flat : flat + columns] = line
                if len(under):
                    by_opacity, below = grad_opacity[at : at + columns], under[flat : flat + columns]
                    for i in range(columns):
                        by_opacity[i] -= line[i] * below[i]
                for i in range(columns):
                    line[i] *= real(1) - through[i]
