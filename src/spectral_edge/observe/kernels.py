"""Compiled kernels; importing this module needs numba (extra `fast`)."""

# pyright: basic
import numba
import numpy as np


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _one(values, first, count, cells, start, sign, table, place) -> None:
    """Adds `count` values from `first` on, which lie in one chunk, into cells from `start` on."""
    width = cells.shape[0]
    flip = np.float32(sign)
    head = min(count, width - start)
    out, v, t = cells[start : start + head], values[first : first + head], table[place : place + head]
    for i in range(head):
        out[i] += np.float64(v[i] * (t[i] * flip))
    if count > head:
        v, t = values[first + head : first + count], table[place + head : place + count]
        for i in range(count - head):
            cells[i] += np.float64(v[i] * (t[i] * flip))


@numba.njit(cache=True, nogil=True, fastmath={"contract"})
def _four(values, first, chunk, cells, rotation, sign, table, places) -> None:
    """Adds four whole chunks from `first` on; cells are walked once, in runs between the places where a chunk wraps."""
    width = cells.shape[0]
    cuts = np.empty(6, np.int64)
    cuts[0], cuts[5] = 0, width
    for j in range(4):
        cuts[1 + j] = rotation[chunk + j]
    cuts.sort()
    f0, f1 = np.float32(sign[chunk]), np.float32(sign[chunk + 1])
    f2, f3 = np.float32(sign[chunk + 2]), np.float32(sign[chunk + 3])
    for q in range(5):
        low, length = cuts[q], cuts[q + 1] - cuts[q]
        if length <= 0:
            continue
        i0 = low - rotation[chunk] + (width if low < rotation[chunk] else 0)
        i1 = low - rotation[chunk + 1] + (width if low < rotation[chunk + 1] else 0)
        i2 = low - rotation[chunk + 2] + (width if low < rotation[chunk + 2] else 0)
        i3 = low - rotation[chunk + 3] + (width if low < rotation[chunk + 3] else 0)
        v0 = values[first + i0 : first + i0 + length]
        v1 = values[first + width + i1 : first + width + i1 + length]
        v2 = values[first + 2 * width + i2 : first + 2 * width + i2 + length]
        v3 = values[first + 3 * width + i3 : first + 3 * width + i3 + length]
        t0 = table[places[0] + i0 : places[0] + i0 + length]
        t1 = table[places[1] + i1 : places[1] + i1 + length]
        t2 = table[places[2] + i2 : places[2] + i2 + length]
        t3 = table[places[3] + i3 : places[3] + i3 + length]
        out = cells[low : low + length]
        for i in range(length):
            a = np.float64(v0[i] * (t0[i] * f0)) + np.float64(v1[i] * (t1[i] * f1))
            b = np.float64(v2[i] * (t2[i] * f2)) + np.float64(v3[i] * (t3[i] * f3))
            out[i] += a + b


@numba.njit(cache=True, nogil=True)
def fold(values, position, cells, rotation, sign, offset, table, block) -> None:
    """Adds values that start at `position` of a group's concatenation into the group's cells."""
    width, size = cells.shape[0], values.shape[0]
    places = np.empty(4, np.int64)
    done = 0
    while done < size:
        here = position + done
        chunk, cell = here // width, here % width
        if cell == 0 and size - done >= 4 * width:
            for j in range(4):
                start = here + j * width
                places[j] = offset[start // block] + start % block
            _four(values, done, chunk, cells, rotation, sign, table, places)
            done += 4 * width
            continue
        count = min(size - done, width - cell)
        start = cell + rotation[chunk]
        if start >= width:
            start -= width
        _one(values, done, count, cells, start, sign[chunk], table, offset[here // block] + here % block)
        done += count
