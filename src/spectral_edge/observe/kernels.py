"""Compiled kernels for parameters in the memory of the CPU; importing this module needs numba (extra `fast`).

Tensors are handed over by address, so that one call serves a whole observation however many tensors there are. Compiled
code sees float32, float64, bfloat16 and float16 values as unsigned integers of 32 and 64 and as unsigned and signed
integers of 16 bits: numba has no half precision, and a sign is a bit. An empty array of that integer type, `like`,
chooses the version.
"""

# pyright: basic
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

LANES = 4
"""Chunks that are added at once, so that a cell is read and written once for four values."""
STRIP = 256
"""Bytes of a chunk between two rounds of prefetching: few enough for the processor's open misses."""
NEAR = 1 << 18
"""Bytes of a set of chunks that the second cache surely holds beside the cells and the sign table."""

_SIGN = np.uint32(1 << 31)


@intrinsic
def _pointer(typing_context, address, like):
    """A pointer from an integer address, to values of the type of `like`."""
    found = types.CPointer(like.dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(found))

    return found(types.int64, like), generate


@intrinsic
def _prefetch(typing_context, address):
    """Asks for the cache line at an address; any address is allowed, and ignored where nothing is there."""

    def generate(context, builder, signature, arguments):
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
        # For reading, to be used again soon, data.
        builder.call(function, [builder.inttoptr(arguments[0], byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), generate


def _bitcast(source, target, llvm):
    @intrinsic
    def cast(typing_context, bits):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], llvm)

        return target(source), generate

    return cast


_float32 = _bitcast(types.uint32, types.float32, ir.FloatType())
_float64 = _bitcast(types.uint64, types.float64, ir.DoubleType())


def _signed(bits, sign, flip):
    """A value as float64, its sign turned by the table's -1 and by the chunk's flip of the top bit; exact."""
    raise NotImplementedError


@overload(_signed)
def _signed_of_type(bits, sign, flip):
    if bits == types.uint64:

        def double(bits, sign, flip):
            turn = np.uint64((np.uint32(np.int32(sign)) & _SIGN) ^ flip)
            return _float64(np.uint64(bits ^ (turn << np.uint64(32))))

        return double
    if bits == types.uint32:

        def single(bits, sign, flip):
            return np.float64(_float32(np.uint32(bits ^ ((np.uint32(np.int32(sign)) & _SIGN) ^ flip))))

        return single
    if bits == types.uint16:

        def brain(bits, sign, flip):
            wide = np.uint32(bits) << np.uint32(16)
            return np.float64(_float32(np.uint32(wide ^ ((np.uint32(np.int32(sign)) & _SIGN) ^ flip))))

        return brain
    if bits == types.int16:

        def half(bits, sign, flip):
            wide = np.uint32(np.int32(bits))
            turn = (wide & _SIGN) ^ ((np.uint32(np.int32(sign)) & _SIGN) ^ flip)
            exponent, rest = wide & np.uint32(0x7C00), (wide & np.uint32(0x7FFF)) << np.uint32(13)
            # Exponents are moved from a bias of 15 to one of 127; infinity and NaN once more, to the top exponent.
            shift = np.uint32(224 << 23) if exponent == np.uint32(0x7C00) else np.uint32(112 << 23)
            normal = np.float64(_float32(np.uint32((rest + shift) | turn)))
            small = np.float64(_float32(np.uint32(0x3F800000 | turn))) * np.float64(wide & np.uint32(0x3FF)) * 2.0**-24
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
            _prefetch(a0 + byte)
            _prefetch(a1 + byte)
            _prefetch(a2 + byte)
            _prefetch(a3 + byte)
        v0, v1, v2, v3 = _pointer(a0, like), _pointer(a1, like), _pointer(a2, like), _pointer(a3, like)
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
