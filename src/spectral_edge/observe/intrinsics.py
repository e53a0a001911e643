"""What compiled kernels need below the level of numba: addresses, prefetching and the bits of a float.

Importing this module needs numba (extra `fast`). The names are for compiled code only.
"""

# pyright: basic
# ruff: noqa: ANN202 (numba derives the types)
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _pointer(typing_context, address, like):
    """A pointer from an integer address, to values of the type of the array `like`."""
    found = types.CPointer(like.dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(found))

    return found(types.int64, like), generate


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


def _bitcast(source, target, llvm) -> Any:
    def cast(typing_context, bits):
        def generate(context, builder, signature, arguments):
            return builder.bitcast(arguments[0], llvm)

        return target(source), generate

    return intrinsic(cast)


pointer: Any = intrinsic(_pointer)
prefetch: Any = intrinsic(_prefetch)
to_float32 = _bitcast(types.uint32, types.float32, ir.FloatType())
to_float64 = _bitcast(types.uint64, types.float64, ir.DoubleType())
to_bits32 = _bitcast(types.float32, types.uint32, ir.IntType(32))
to_bits64 = _bitcast(types.float64, types.uint64, ir.IntType(64))
