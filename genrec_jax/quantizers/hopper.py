"""The nearest codes on NVIDIA Hopper GPUs, by kernels in Pallas (Mosaic GPU).

A nearest codeword c maximises x·c - |c|²/2. The matrix units compute x·c from bfloat16 parts: with
x = x1 + x2 and c = c1 + c2, each part rounded to bfloat16, the sum x1·c1 + x1·c2 + x2·c1 in float32
lacks x2·c2 alone, about 2^-18 of it. Codes so chosen agree with those of float64 on 99.998% of
items (docs/results.md); one bfloat16 product agrees on 98.8%.

A warpgroup, four warps, holds 64 rows of x in its registers from the first level to the last, so
`residual_codes` reads x once and writes codes, nothing else. Its codebooks stay in shared memory;
those that are larger are streamed through it by `nearest_codes`, one level a call.

Shapes must fit, see each function; `kernels` makes them fit. Needs jax 0.11 or later.

N rows   C code width   Q levels   K codebook size   G warpgroups of a block
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import mosaic_gpu as plgpu
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import arith, memref

ROWS = 64  # of a warpgroup's matrix instructions
SHARED_MEMORY = 232_448 - 2_048  # bytes of a block on Hopper, less what barriers and padding take
_BY_ROW, _BY_COLUMN = plgpu.Layout.WGMMA.reduce(1), plgpu.Layout.WGMMA.reduce(0)


def residual_bytes(num_levels: int, size: int, width: int, warpgroups: int) -> int:
    """Returns the shared memory that `residual_codes` takes."""
    codebooks = num_levels * size * (4 * width + 4)
    return codebooks + warpgroups * 2 * ROWS * 4 * (width + num_levels)


def residual_codes(
    x: jax.Array,
    codebooks: jax.Array,
    half_norms: jax.Array,
    *,
    warpgroups: int,
    num_blocks: int,
    interpret=False,
) -> jax.Array:
    """Returns [Q, N] int32: at each level the code nearest to what is left of x.

    Args:
        x: [N, C] float32, N a multiple of 64, C one of 16, 32 and 64.
        codebooks: [Q, K, C] float32, K a multiple of 64.
        half_norms: [Q, K] float32, |c|²/2; infinite for codes that are never chosen.
        warpgroups: G, such that `residual_bytes` fits into `SHARED_MEMORY`.
        num_blocks: of the grid, which share the rows.
        interpret: False, or the parameters of Pallas' interpreter.
    """
    (num_rows, width), (num_levels, size, _) = x.shape, codebooks.shape
    num_tiles = num_rows // ROWS
    chunk = 128 if size % 128 == 0 else 64

    def body(x, high, low, norms, codewords, ids, *scratch):
        high_s, low_s, norms_s, x_s, ids_s, codebooks_here, x_here = scratch
        group = lax.axis_index("group")
        first = lax.axis_index("block") * warpgroups + group
        stride = num_blocks * warpgroups
        count = jnp.maximum(lax.div(num_tiles - first + stride - 1, stride), 0)

        def fetch(tile, slot):
            rows = x.at[pl.ds(tile * ROWS, ROWS)]
            plgpu.copy_gmem_to_smem(rows, x_s.at[group, slot], x_here.at[group * 2 + slot])

        @pl.when(group == 0)
        def _():
            plgpu.copy_gmem_to_smem(high, high_s, codebooks_here)
            plgpu.copy_gmem_to_smem(low, low_s, codebooks_here)
            plgpu.copy_gmem_to_smem(norms, norms_s, codebooks_here)

        pl.when(count > 0)(lambda: fetch(first, 0))
        plgpu.barrier_wait(codebooks_here)

        @pl.loop(0, count)
        def _(number):
            tile = first + number * stride
            slot = lax.rem(number, 2)
            pl.when(number + 1 < count)(lambda: fetch(tile + stride, 1 - slot))
            plgpu.barrier_wait(x_here.at[group * 2 + slot])
            left = plgpu.load(x_s.at[group, slot], layout=plgpu.Layout.WGMMA)
            plgpu.wait_smem_to_gmem(1)  # the codes that lay in this slot are written
            for level in range(num_levels):
                parts = _parts_here(left)
                best = code = None
                for start in range(0, size, chunk):
                    columns = pl.ds(start, chunk)
                    scores = _scores(
                        parts,
                        high_s.at[level, columns],
                        low_s.at[level, columns],
                        norms_s.at[level, columns],
                        interpret,
                    )
                    best, code = _better(best, code, *_argmax(scores), start)
                code = jnp.minimum(code, size - 1)  # of NaN no score is the largest
                ids_s[group, slot, level] = code
                if level + 1 < num_levels:
                    chosen = _take(codewords.at[level], code, width, interpret)
                    left = left - chosen
            plgpu.commit_smem()
            for level in range(num_levels):
                plgpu.copy_smem_to_gmem(
                    ids_s.at[group, slot, level],
                    ids.at[level, pl.ds(tile * ROWS, ROWS)],
                    commit_group=False,
                )
            plgpu.commit_smem_to_gmem_group()

        plgpu.wait_smem_to_gmem(0)

    tiled = _transforms(width, jnp.bfloat16)
    kernel = plgpu.kernel(
        body,
        out_type=jax.ShapeDtypeStruct((num_levels, num_rows), jnp.int32),
        scratch_types=[
            plgpu.SMEM(codebooks.shape, jnp.bfloat16, transforms=tiled),
            plgpu.SMEM(codebooks.shape, jnp.bfloat16, transforms=tiled),
            plgpu.SMEM((num_levels, size), jnp.float32),
            plgpu.SMEM(
                (warpgroups, 2, ROWS, width),
                jnp.float32,
                transforms=_transforms(width, jnp.float32),
            ),
            plgpu.SMEM((warpgroups, 2, num_levels, ROWS), jnp.int32),
            plgpu.Barrier(num_arrivals=3),
            plgpu.Barrier(num_barriers=2 * warpgroups),
        ],
        grid=(num_blocks,),
        grid_names=("block",),
        num_threads=warpgroups,
        thread_name="group",
        interpret=interpret,
    )
    return kernel(x, *_parts(codebooks), half_norms, codebooks)


def nearest_bytes(width: int, warpgroups: int, stages: int) -> int:
    """Returns the shared memory that `nearest_codes` takes."""
    return stages * _CHUNK * (4 * width + 4) + warpgroups * ROWS * 4


_CHUNK = 64  # codewords of a stage
_REGISTERS = {2: 232, 3: 152}  # a thread, of so many computing warpgroups and 40 of the copying one


def nearest_codes(
    x: jax.Array,
    codebook: jax.Array,
    half_norms: jax.Array,
    *,
    warpgroups: int,
    stages: int,
    interpret=False,
) -> jax.Array:
    """Returns [N] int32: the code nearest to each row of x.

    Args:
        x: [N, C] float32, N a multiple of 64 G, C of 64, or 16 or 32.
        codebook: [K, C] float32, K a multiple of 64 `stages`.
        half_norms: [K] float32, |c|²/2; infinite for codes that are never chosen.
        warpgroups: G, 2 or 3, that compute; one more copies.
        stages: how many chunks of codewords are in shared memory, see `nearest_bytes`.
        interpret: False, or the parameters of Pallas' interpreter.
    """
    (num_rows, width), (size, _) = x.shape, codebook.shape
    num_chunks = size // _CHUNK

    def body(x, high, low, norms, ids, high_s, low_s, norms_s, ids_s, is_full, is_empty):
        group = lax.axis_index("group")

        @pl.when(group < warpgroups)
        def _():
            plgpu.set_max_registers(_REGISTERS[warpgroups], action="increase")
            rows = pl.ds((lax.axis_index("block") * warpgroups + group) * ROWS, ROWS)
            parts = _parts_here(plgpu.load(x.at[rows], layout=plgpu.Layout.WGMMA, optimized=False))

            def step(number, carry):
                slot = lax.rem(number, jnp.int32(stages))
                plgpu.barrier_wait(is_full.at[slot])
                scores = _scores(
                    parts, high_s.at[slot], low_s.at[slot], norms_s.at[slot], interpret
                )
                plgpu.barrier_arrive(is_empty.at[slot])
                return _better(*carry, *_argmax(scores), number * _CHUNK)

            start = (
                plgpu.layout_cast(jnp.full((ROWS,), -jnp.inf, jnp.float32), _BY_ROW),
                plgpu.layout_cast(jnp.full((ROWS,), 0, jnp.int32), _BY_ROW),
            )
            _, code = lax.fori_loop(0, num_chunks, step, start)
            ids_s[group] = jnp.minimum(code, size - 1)
            plgpu.commit_smem()
            plgpu.copy_smem_to_gmem(ids_s.at[group], ids.at[rows])
            plgpu.wait_smem_to_gmem(0)

        @pl.when(group == warpgroups)
        def _():
            plgpu.set_max_registers(40, action="decrease")

            def fetch(number, slot):
                rows = pl.ds(number * _CHUNK, _CHUNK)
                plgpu.copy_gmem_to_smem(high.at[rows], high_s.at[slot], is_full.at[slot])
                plgpu.copy_gmem_to_smem(low.at[rows], low_s.at[slot], is_full.at[slot])
                plgpu.copy_gmem_to_smem(norms.at[rows], norms_s.at[slot], is_full.at[slot])

            for number in range(stages):
                fetch(number, number)

            @pl.loop(0, num_chunks - stages)
            def _(number):
                slot = lax.rem(number, jnp.int32(stages))
                plgpu.barrier_wait(is_empty.at[slot])
                fetch(number + stages, slot)

    tiled = _transforms(width, jnp.bfloat16)
    kernel = plgpu.kernel(
        body,
        out_type=jax.ShapeDtypeStruct((num_rows,), jnp.int32),
        scratch_types=[
            plgpu.SMEM((stages, _CHUNK, width), jnp.bfloat16, transforms=tiled),
            plgpu.SMEM((stages, _CHUNK, width), jnp.bfloat16, transforms=tiled),
            plgpu.SMEM((stages, _CHUNK), jnp.float32),
            plgpu.SMEM((warpgroups, ROWS), jnp.int32),
            plgpu.Barrier(num_arrivals=3, num_barriers=stages),
            plgpu.Barrier(num_arrivals=warpgroups, num_barriers=stages),
        ],
        grid=(num_rows // (ROWS * warpgroups),),
        grid_names=("block",),
        num_threads=warpgroups + 1,
        thread_name="group",
        interpret=interpret,
    )
    return kernel(x, *_parts(codebook), half_norms)


def _parts(codebooks: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the two bfloat16 parts of float32 values.

    XLA may take a conversion there and back for nothing, but not `reduce_precision`.
    """
    high = lax.reduce_precision(codebooks, exponent_bits=8, mantissa_bits=7)
    low = lax.reduce_precision(codebooks - high, exponent_bits=8, mantissa_bits=7)
    return high.astype(jnp.bfloat16), low.astype(jnp.bfloat16)


def _parts_here(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns the same inside a kernel, which XLA does not see."""
    high = x.astype(jnp.bfloat16)
    return high, (x - high.astype(jnp.float32)).astype(jnp.bfloat16)


def _scores(parts, high_s, low_s, norms_s, interpret) -> jax.Array:
    """Returns [64, chunk] float32 of the parts of x and of a chunk of codewords."""
    shape = (ROWS, high_s.shape[0])
    pairs = ((1, high_s), (0, low_s), (0, high_s))  # the smallest first

    def products(sum_ref):
        for part, codewords_s in pairs:
            plgpu.wgmma(sum_ref, parts[part], codewords_s.transpose((1, 0)))
        return sum_ref[...]

    if interpret:  # it multiplies no registers
        scores = sum(
            jnp.dot(parts[part], codewords_s[...].T, preferred_element_type=jnp.float32)
            for part, codewords_s in pairs
        )
    else:
        scores = pl.run_scoped(products, plgpu.ACC(shape, jnp.float32))
    norms = plgpu.load(norms_s, layout=_BY_COLUMN)
    return scores - lax.broadcast_in_dim(norms, shape, [1])


def _argmax(scores: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns each row's largest score and its first column."""
    best = scores.max(axis=1)
    column = plgpu.broadcasted_iota(jnp.int32, scores.shape, 1, layout=plgpu.Layout.WGMMA)
    is_best = scores == lax.broadcast_in_dim(best, scores.shape, [0])
    return best, jnp.where(is_best, column, jnp.iinfo(jnp.int32).max // 2).min(axis=1)


def _better(best, code, other_best, other_code, start):
    """Returns the better of two scores and its code; that of `other` is counted from `start`."""
    if best is None:
        return other_best, other_code
    code = jnp.where(other_best > best, other_code + start, code)
    return jnp.maximum(best, other_best), code


def _take(codebook, code: jax.Array, width: int, interpret) -> jax.Array:
    """Returns the rows `code` [64] of a codebook [K, C] in device memory, laid out as x is."""
    if interpret:  # it knows no single loads
        return jnp.take(codebook[...], code, axis=0)

    @plgpu.inline_mgpu(
        arg_types=(plgpu.RefType(), _BY_ROW),
        return_type=plgpu.ShapeDtypeStruct((ROWS, width), jnp.float32, plgpu.Layout.WGMMA),
    )
    def load(ctx, codebook, code):
        del ctx
        layout = plgpu.Layout.WGMMA.to_mgpu()
        code = code.broadcast_in_dim((ROWS, width), (0,), layout)
        index = ir.IndexType.get()
        return code.foreach(
            lambda row, place: memref.load(codebook, [arith.index_cast(index, row), place[1]]),
            create_array=True,
        )

    return load(codebook, code)


def _transforms(width: int, dtype) -> tuple:
    """Returns how rows of this width lie in shared memory for the matrix units."""
    row_bytes = min(width * jnp.dtype(dtype).itemsize, 128)
    tile = (8, row_bytes // jnp.dtype(dtype).itemsize)
    return (plgpu.TilingTransform(tile), plgpu.SwizzleTransform(row_bytes))
