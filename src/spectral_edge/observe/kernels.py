"""Compiled kernels for parameters in the memory of the CPU; importing this module needs numba (extra `fast`).

Tensors are handed over by address, so that one call serves a whole observation however many tensors there are. Compiled
code sees float32, float64, bfloat16 and float16 values as unsigned integers of 32 and 64 and as unsigned and signed
integers of 16 bits: numba has no half precision, and a sign is a bit. An empty array of that integer type, `like`,
chooses the version.
"""

# pyright: basic
# ruff: noqa: ANN202 (numba derives the types)
import numba
import numpy as np
from numba import types
from numba.extending import overload

from spectral_edge.observe.intrinsics import pointer, prefetch, to_bits32, to_bits64, to_float32, to_float64

LANES = 4
"""Chunks that are added at once, so that a cell is read and written once for four values."""
STRIP = 256
"""Bytes of a chunk between two rounds of prefetching: few enough for the processor's open misses."""
NEAR = 1 << 18
"""Bytes of a set of chunks that the second cache surely holds beside the cells and the sign table."""

BLOCK = 8192
"""Bytes of each row between two changes of row: 20 rows take 164 kB, which the second cache holds twice."""
SHORT = 512
"""Bytes of a row whose products are added in plain float64, a few to an accumulator of a vector unit."""

_SIGN = np.uint32(1 << 31)
_HIGH = np.uint64((1 << 64) - (1 << 41))


def _signed(bits, sign, flip):
    """A value as float64, its sign turned by the table's -1 and by the chunk's flip of the top bit; exact."""
    raise NotImplementedError


@overload(_signed)
def _signed_of_type(bits, sign, flip):
    if bits == types.uint64:

        def double(bits, sign, flip):
            turn = np.uint64((np.uint32(np.int32(sign)) & _SIGN) ^ flip)
            return to_float64(np.uint64(bits ^ (turn << np.uint64(32))))

        return double
    if bits == types.uint32:

        def single(bits, sign, flip):
            return np.float64(to_float32(np.uint32(bits ^ ((np.uint32(np.int32(sign)) & _SIGN) ^ flip))))

        return single
    if bits == types.uint16:

        def brain(bits, sign, flip):
            wide = np.uint32(bits) << np.uint32(16)
            return np.float64(to_float32(np.uint32(wide ^ ((np.uint32(np.int32(sign)) & _SIGN) ^ flip))))

        return brain
    if bits == types.int16:

        def half(bits, sign, flip):
            wide = np.uint32(np.int32(bits))
            turn = (wide & _SIGN) ^ ((np.uint32(np.int32(sign)) & _SIGN) ^ flip)
            exponent, rest = wide & np.uint32(0x7C00), (wide & np.uint32(0x7FFF)) << np.uint32(13)
            # Exponents are moved from a bias of 15 to one of 127; infinity and NaN once more, to the top exponent.
            shift = np.uint32(224 << 23) if exponent == np.uint32(0x7C00) else np.uint32(112 << 23)
            normal = np.float64(to_float32(np.uint32((rest + shift) | turn)))
            small = (
                np.float64(to_float32(np.uint32(0x3F800000 | turn))) * np.float64(wide & np.uint32(0x3FF)) * 2.0**-24
            )
            return small if exponent == np.uint32(0) else normal

        return half
    return None


@numba.njit(cache=True, nogil=True)
def _add(like, table, cells, low, count, address, place, step, flip, ahead) -> None:
    """Adds `count` values of each lane into cells from `low` on."""
    f0, f1, f2, f3 = flip[0], flip[1], flip[2], flip[3]
    most, done = STRIP // like.itemsize, 0
    while done < count:
        n = min(most, count - done)
        s0, s1, s2, s3 = done * step[0], done * step[1], done * step[2], done * step[3]
        a0, a1 = address[0] + s0 * like.itemsize, address[1] + s1 * like.itemsize
        a2, a3 = address[2] + s2 * like.itemsize, address[3] + s3 * like.itemsize
        for byte in range(ahead, ahead + n * like.itemsize, 64):
            prefetch(a0 + byte)
            prefetch(a1 + byte)
            prefetch(a2 + byte)
            prefetch(a3 + byte)
        v0, v1, v2, v3 = pointer(a0, like), pointer(a1, like), pointer(a2, like), pointer(a3, like)
        p0, p1, p2, p3 = place[0] + s0, place[1] + s1, place[2] + s2, place[3] + s3
        t0, t1, t2, t3 = table[p0 : p0 + n], table[p1 : p1 + n], table[p2 : p2 + n], table[p3 : p3 + n]
        out = cells[low + done : low + done + n]
        for i in range(n):
            first = _signed(v0[i], t0[i], f0) + _signed(v1[i], t1[i], f1)
            out[i] += first + (_signed(v2[i], t2[i], f2) + _signed(v3[i], t3[i], f3))
        done += n


@numba.njit(cache=True, nogil=True)
def _last_before(pieces, low, high, position):
    """Index of the last of the pieces low..high that starts at or before a position; low - 1 if there is none."""
    while low < high:
        middle = (low + high) // 2
        if pieces[middle, 0] <= position:
            low = middle + 1
        else:
            high = middle
    return low - 1


@numba.njit(cache=True, nogil=True)
def fold(like, groups, pieces, rotation, sign, offset, table, zeros, cells) -> None:
    """Adds all values of one dtype into the cells of their groups; one call for an observation.

    A set of four chunks is added at once. Its cells are walked in runs that end where a chunk wraps around its
    rotation or passes from one tensor to the next, and what is not held here is read from `zeros`, so that it matters
    neither where tensors end nor how many there are.

    Args:
        like: an empty array of the integer type that stands for the dtype.
        groups: first cell, cells, size, block, first entry in rotation and in offset, and the range of its pieces,
            for each group [n, 8].
        pieces: start in the group's concatenation, length and address, in order of start within a group [m, 3].
        rotation: rotation of every chunk of every group.
        sign: sign of every chunk.
        offset: place in the sign table of every block of every group.
        table: the sign table, 1 and -1.
        zeros: address of at least `STRIP` zero bytes.
        cells: what is added to, float64.
    """
    address, place, step = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.int64)
    inside, left, flip = np.zeros(LANES, np.int64), np.zeros(LANES, np.int64), np.zeros(LANES, np.uint32)
    for group in range(len(groups)):
        first, width, size, block, chunk0, block0, low, high = groups[group]
        chunks = (size + width - 1) // width
        # The next set, of which the same place of each chunk comes next, or where chunks are long the same chunk.
        ahead = LANES * width * like.itemsize
        if ahead > NEAR:
            ahead = 2048
        for base in range(0, chunks if high > low else 0, LANES):
            for lane in range(LANES):
                left[lane], inside[lane], flip[lane] = 0, 0, 0
                if base + lane < chunks:
                    inside[lane] = (width - rotation[chunk0 + base + lane]) % width
                    flip[lane] = _SIGN if sign[chunk0 + base + lane] < 0 else np.uint32(0)
            at = 0
            while at < width:
                count = width - at
                for lane in range(LANES):
                    if left[lane] == 0:
                        if inside[lane] == width:
                            inside[lane] = 0
                        here = (base + lane) * width + inside[lane]
                        end = (base + lane + 1) * width
                        piece = _last_before(pieces, low, high, here)
                        stop = pieces[piece, 0] + pieces[piece, 1] if piece >= low else 0
                        if here < stop:
                            left[lane], step[lane] = min(stop, end) - here, 1
                            address[lane] = pieces[piece, 2] + (here - pieces[piece, 0]) * like.itemsize
                            place[lane] = offset[block0 + here // block] + here % block
                        else:
                            left[lane], step[lane] = end - here, 0
                            if piece + 1 < high:
                                left[lane] = min(end, pieces[piece + 1, 0]) - here
                            address[lane], place[lane] = zeros, 0
                    count = min(count, left[lane])
                _add(like, table, cells, first + at, count, address, place, step, flip, ahead)
                at += count
                for lane in range(LANES):
                    left[lane] -= count
                    inside[lane] += count
                    address[lane] += count * step[lane] * like.itemsize
                    place[lane] += count * step[lane]


@numba.njit(cache=True, nogil=True)
def sample(like, pieces, every, run, out) -> None:
    """Copies the sampled values of all tensors of one dtype, one of `every` runs of `run` values of each tensor.

    Args:
        like: an empty array of the integer type that stands for the dtype.
        pieces: length, address, start in the tensor, and place of the first sampled value in the result [m, 4].
        every: one of so many runs is taken.
        run: length of a run.
        out: result, float32.
    """
    flip = np.uint32(0)
    for piece in range(len(pieces)):
        length, start, filled = pieces[piece, 0], pieces[piece, 2], pieces[piece, 3]
        values = pointer(pieces[piece, 1], like)
        for low in range(start // (run * every) * run * every - start, length, run * every):
            for at in range(max(low, 0), min(low + run, length)):
                out[filled] = np.float32(_signed(values[at], np.int8(1), flip))
                filled += 1


def _widened(value):
    """A value in the dtype in which its differences are formed: bfloat16 as float32, others as they are."""
    raise NotImplementedError


@overload(_widened)
def _widened_of_type(value):
    if value == types.uint16:
        return lambda value: to_float32(np.uint32(np.uint32(value) << np.uint32(16)))
    return (lambda value: value) if value in (types.float32, types.float64) else None


def _rounded(value, like):
    """A value rounded to the dtype of `like`, to nearest and ties to even."""
    raise NotImplementedError


@overload(_rounded)
def _rounded_to_type(value, like):
    if like.dtype == types.uint16:

        def brain(value, like):
            single = np.float32(value)
            bits = to_bits32(single)
            nearest = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
            return np.uint16(nearest) if single == single else np.uint16(0x7FC0)

        return brain
    if like.dtype == types.float32:
        return lambda value, like: np.float32(value)
    return (lambda value, like: np.float64(value)) if like.dtype == types.float64 else None


# No "nnan" and no "ninf": broken parameters have to show.
_SUM = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, nogil=True, fastmath=_SUM)
def _dot(vector, row, first, count):
    """Sum of products of the vector's first values with a row's from `first` on."""
    total = 0.0
    part = row[first : first + count]
    for i in range(count):
        total += vector[i] * np.float64(_widened(part[i]))
    return total


@numba.njit(cache=True, nogil=True, fastmath=_SUM)
def _squares(vector, first, count):
    """Sum of squares, in a leading part that is exact but for a wide range of values, and a small rest.

    Squares of float32 values end in the bits 001, so that a running sum rounds them down more often than up: 1e-15
    relative, which hides sigma_W at condition 1e6. The square of the upper twelve bits leaves room for the sum.
    """
    high, rest = 0.0, 0.0
    part = vector[first : first + count]
    for i in range(count):
        upper = to_float64(np.uint64(to_bits64(part[i]) & _HIGH))
        lower = part[i] - upper
        high += upper * upper
        rest += lower * (upper + part[i])
    return high, rest


@numba.njit(cache=True, nogil=True, fastmath=_SUM)
def _norm(values, first, count):
    total = 0.0
    part = values[first : first + count]
    for i in range(count):
        total += np.float64(_widened(part[i])) * np.float64(_widened(part[i]))
    return total


@numba.njit(cache=True, nogil=True)
def _take(address, previous, row, vector, first, count) -> None:
    """Differences of one block to the last snapshot, into the row and the vector; the snapshot moves on."""
    now = pointer(address, previous)
    before, target = previous[first : first + count], row[first : first + count]
    for i in range(count):
        difference = _rounded(_widened(now[i]) - _widened(before[i]), previous)
        kept = _rounded(_widened(difference), row)
        target[i] = kept
        before[i] = now[i]
        vector[i] = np.float64(_widened(kept))


@numba.njit(cache=True, nogil=True)
def _plus(total, value) -> None:
    """Adds to a sum of two parts, the second of which holds what the first has lost."""
    added = total[0] + value
    if abs(total[0]) >= abs(value):
        total[1] += (total[0] - added) + value
    else:
        total[1] += (value - added) + total[0]
    total[0] = added


@numba.njit(cache=True, nogil=True)
def _against(vector, rows, first, count, kept, newest, totals) -> None:
    """Adds products of a block of a vector with the same block of every row; `newest` is the row that it is itself."""
    most = SHORT // rows.itemsize
    for slot in range(kept):
        row = rows[slot]
        for done in range(0, count, most):
            n = min(most, count - done)
            here = row.ctypes.data + (first + done) * row.itemsize + BLOCK
            for byte in range(0, n * row.itemsize, 64):
                prefetch(here + byte)
            if slot == newest:
                high, rest = _squares(vector, done, n)
                _plus(totals[slot], high)
                _plus(totals[slot], rest)
            else:
                _plus(totals[slot], _dot(vector[done : done + n], row, first + done, n))


@numba.njit(cache=True, nogil=True)
def advance(addresses, starts, stops, offsets, previous, rows, slot, kept, every, run, sums) -> tuple[float, int, bool]:
    """Takes an update into the ring and multiplies it with every update there, in one pass over memory.

    Args:
        addresses: of each tensor's values, which have the dtype of `previous` [n].
        starts: where each tensor begins in the concatenation [n].
        stops: where each tensor ends [n].
        offsets: position of each tensor's first value in the whole tensor, of which it may be a part [n].
        previous: the last snapshot [P]; becomes the current parameters.
        rows: the updates [L, P]; the row at `slot` is written.
        slot: of the new update.
        kept: slots 0..kept - 1 are multiplied, `slot` among them.
        every: one of so many runs of values is looked at for whether it moved.
        run: length of such a run.
        sums: result, products of the new update with each slot by tensor [n, kept].

    Returns:
        Squared norm of the parameters, how many of the values looked at moved, and whether any value of the new row
        differs from zero.
    """
    most = BLOCK // rows.itemsize
    vector, totals, norm = np.empty(most), np.zeros((kept, 2)), np.zeros(2)
    moved, changed = 0, False
    for tensor in range(len(addresses)):
        totals[:] = 0.0
        start = starts[tensor]
        for first in range(start, stops[tensor], most):
            count = min(most, stops[tensor] - first)
            address = addresses[tensor] + (first - start) * previous.itemsize
            _take(address, previous, rows[slot], vector, first, count)
            _against(vector, rows, first, count, kept, slot, totals)
            _plus(norm, _norm(previous, first, count))
            position = offsets[tensor] + first - start
            for low in range(position // (run * every) * run * every - position, count, run * every):
                for at in range(max(low, 0), min(low + run, count)):
                    moved += vector[at] != 0
            if not changed:
                for i in range(count):
                    changed |= vector[i] != 0
        for other in range(kept):
            sums[tensor, other] = totals[other, 0] + totals[other, 1]
    return norm[0] + norm[1], moved, changed


@numba.njit(cache=True, nogil=True)
def products(values, starts, stops, rows, kept, newest, sums) -> None:
    """Products of a flat vector with every update in a ring.

    Args:
        values: the vector [P].
        starts: where each tensor begins in the concatenation [n].
        stops: where each tensor ends [n].
        rows: the updates [L, P].
        kept: slots 0..kept - 1 are multiplied.
        newest: the slot that the vector is itself; -1 if it is none.
        sums: result, by tensor [n, kept].
    """
    most = BLOCK // rows.itemsize
    vector, totals = np.empty(most), np.zeros((kept, 2))
    for tensor in range(len(starts)):
        totals[:] = 0.0
        for first in range(starts[tensor], stops[tensor], most):
            count = min(most, stops[tensor] - first)
            part = values[first : first + count]
            for i in range(count):
                vector[i] = np.float64(_widened(part[i]))
            _against(vector, rows, first, count, kept, newest, totals)
        for other in range(kept):
            sums[tensor, other] = totals[other, 0] + totals[other, 1]
