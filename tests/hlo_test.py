"""Optimised HLO: scopes, operations and bytes of a module that was written by hand."""

import jax
import jax.numpy as jnp
import pytest

from genrec_jax import hlo

MODULE = r"""HloModule jit_f, is_scheduled=true, entry_computation_layout={(f32[4,3]{1,0})->f32[4,8]{1,0}}

%add.1 (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b), metadata={op_name="reduce_sum"}
}

%fused (p0: f32[4,3], p1: f32[3,8]) -> f32[4,8] {
  %p0 = f32[4,3]{1,0} parameter(0)
  %p1 = f32[3,8]{1,0:T(8,128)} parameter(1)
  %dot.1 = f32[4,8]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}, operand_precision={highest,highest}, metadata={op_name="jit(f)/level_0/distances/BC,KC->BK/dot_general" stack_frame_id=3}
  ROOT %neg = f32[4,8]{1,0} negate(%dot.1), metadata={op_name="jit(f)/level_0/argmin/neg"}
}

%rows (table: f32[100,3], ids: s32[4,1]) -> f32[4,3] {
  %table = f32[100,3]{1,0} parameter(0)
  %ids = s32[4,1]{1,0} parameter(1)
  %flat = f32[100,3]{1,0} bitcast(%table)
  ROOT %gather = f32[4,3]{1,0} gather(%flat, %ids), offset_dims={1}, metadata={op_name="jit(f)/jvp(level_1)/lookup/gather"}
}

%put (whole: f32[50,3], row: f32[1,3], at: s32[]) -> f32[50,3] {
  %whole = f32[50,3]{1,0} parameter(0)
  %row = f32[1,3]{1,0} parameter(1)
  %at = s32[] parameter(2)
  ROOT %update = f32[50,3]{1,0} dynamic-update-slice(%whole, %row, %at, %at), metadata={op_name="jit(f)/update/dynamic_update_slice"}
}

%body (state: (s32[], bf16[4,3])) -> (s32[], bf16[4,3]) {
  %state = (s32[], bf16[4,3]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = bf16[4,3]{1,0} get-tuple-element(%state), index=1
  %square = bf16[4,4]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={1}, metadata={op_name="jit(f)/while/body/closed_call/transpose(jvp(encode))/dot_general"}
  ROOT %out = (s32[], bf16[4,3]{1,0}) tuple(%i, %x)
}

%condition (state.1: (s32[], bf16[4,3])) -> pred[] {
  %state.1 = (s32[], bf16[4,3]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%state.1), index=0
  %n = s32[] constant(5)
  ROOT %less = pred[] compare(%i.1, %n), direction=LT, metadata={op_name="jit(f)/while/cond/lt"}
}

ENTRY %main.9 (x: f32[4,3], books: f32[3,8], table.1: f32[100,3], ids.1: s32[4,1]) -> f32[4,8] {
  %x.1 = f32[4,3]{1,0} parameter(0), metadata={op_name="x"}
  %books = f32[3,8]{1,0} parameter(1)
  %table.1 = f32[100,3]{1,0} parameter(2)
  %ids.1 = s32[4,1]{1,0} parameter(3)
  %zero = s32[] constant(0)
  %whole.1 = f32[50,3]{1,0} broadcast(%zero), dimensions={}
  %rows_fusion = f32[4,3]{1,0} fusion(%table.1, %ids.1), kind=kLoop, calls=%rows, metadata={op_name="jit(f)/jvp(level_1)/lookup/gather"}
  %row.1 = f32[1,3]{1,0} slice(%rows_fusion), slice={[0:1], [0:3]}
  %put_fusion = f32[50,3]{1,0} fusion(%whole.1, %row.1, %zero), kind=kLoop, calls=%put, metadata={op_name="jit(f)/sub"}
  %half = bf16[4,3]{1,0} convert(%rows_fusion)
  %tuple.1 = (s32[], /*index=1*/bf16[4,3]{1,0}) tuple(%zero, %half)
  %loop = (s32[], bf16[4,3]{1,0}) while(%tuple.1), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"5"}}
  %gemm = (f32[4,8]{1,0}, s8[4096]{0}) custom-call(%x.1, %books), custom_call_target="__cublas$gemm", metadata={op_name="jit(f)/decode/dot_general"}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]},"precision_config":{"operand_precision":["DEFAULT","DEFAULT"]}}}
  %kernel = f32[4,8]{1,0} custom-call(%x.1, %books), custom_call_target="__gpu$xla.gpu.triton", metadata={op_name="jit(f)/level_0/pallas_call"}
  ROOT %dot_fusion = f32[4,8]{1,0} fusion(%x.1, %books), kind=kCustom, calls=%fused, metadata={op_name="jit(f)/level_0/argmin/neg"}, backend_config={"fusion_backend_config":{"kind":"__triton_gemm"}}
}
"""  # noqa: E501

PROGRAM = hlo.parse(MODULE)


def test_the_module_is_read():
    assert (PROGRAM.name, PROGRAM.entry) == ("jit_f", "main.9")
    assert set(PROGRAM.computations) == {
        *("add.1", "fused", "rows", "put", "body", "condition", "main.9")
    }
    loop = PROGRAM.computations["main.9"]["loop"]
    assert loop.opcode == "while" and loop.operands == ("tuple.1",)
    assert loop.shapes == (hlo.Shape("s32", ()), hlo.Shape("bf16", (4, 3)))
    assert loop.bytes == 4 + 2 * 12
    assert set(loop.called) == {"condition", "body"}
    assert PROGRAM.computations["main.9"]["dot_fusion"].is_root
    assert hlo.callers(PROGRAM) == {"loop"}


@pytest.mark.parametrize(
    "op_name, scope",
    [
        ("x", ""),
        ("jit(f)/add", ""),
        ("jit(f)/level_0/distances/BC,KC->BK/dot_general", "level_0/distances"),
        ("jit(f)/while/body/closed_call/jvp(encode)/jit(relu)/max", "encode"),
        ("jit(f)/transpose(jvp(level_1))/lookup/mul", "level_1/lookup (backward)"),
        ("jit(f)/transpose(jvp())/mul", ""),
        ("jit(f)/while/body/branch_1_fun/update/add", "update"),
        ("jit(f)/jvp(jit(_take))/gather", ""),
    ],
)
def test_scopes_are_what_python_named(op_name, scope):
    assert hlo.scope(op_name) == scope


def test_work_by_hand():
    works = hlo.work(PROGRAM, kernel_flops={"float32_highest": 100})
    products = 2 * 4 * 3 * 8
    read = 4 * (4 * 3 + 3 * 8)
    assert works == {
        # What has no scope is part of what reads it first.
        "whole.1": hlo.Work("update", {}, 4 + 4 * 150, 1),
        "rows_fusion": hlo.Work("level_1/lookup", {}, 4 * (12 + 4) + 4 * 12, 1),
        "row.1": hlo.Work("update", {}, 4 * 3 + 4 * 3, 1),
        # A fusion whose result has none is part of what is last in it.
        "put_fusion": hlo.Work("update", {}, 4 * 3 + 4 + 4 * 3, 1),
        "half": hlo.Work("", {}, 4 * 12 + 2 * 12, 1),
        "square": hlo.Work("encode (backward)", {"bfloat16": 2 * 4 * 4 * 3}, 2 * (12 + 16), 5),
        "less": hlo.Work("", {}, 4 + 4 + 1, 5),
        "gemm": hlo.Work("decode", {"float32": products}, read + 4 * 32, 1),
        "kernel": hlo.Work("level_0", {"float32_highest": 100}, read + 4 * 32, 1),
        "dot_fusion": hlo.Work(
            "level_0/distances", {"float32_highest": products}, read + 4 * 32, 1
        ),
    }
    assert hlo.work(PROGRAM)["kernel"].flops == {}


def test_fusions_are_counted_and_the_largest_shown():
    report = hlo.fusions(PROGRAM, num_largest=2)
    assert report["num_kernels"] == 10
    assert report["kinds"] == {
        "fusion kLoop": 2,
        "custom-call": 2,
        "broadcast": 1,
        "slice": 1,
        "convert": 1,
        "fusion __triton_gemm": 1,
        "dot": 1,
        "compare": 1,
    }
    assert report["custom_calls"] == {"__cublas$gemm": 1, "__gpu$xla.gpu.triton": 1}
    first, second = report["largest"]
    assert (first["name"], first["bytes"]) == ("whole.1", 604)
    assert second["bytes"] == 272
    scopes = {kernel["name"]: kernel for kernel in hlo.fusions(PROGRAM, 10)["largest"]}
    assert scopes["dot_fusion"]["scopes"] == ["level_0/argmin", "level_0/distances"]
    assert scopes["dot_fusion"]["num_instructions"] == 2


def test_what_this_version_of_xla_prints_is_read():
    def f(x, w):
        def step(x, _):
            with jax.named_scope("encode"):
                return jnp.tanh(x @ w), x.sum()

        return jax.lax.scan(step, x, None, length=7)

    compiled = jax.jit(f).lower(jnp.ones((16, 8)), jnp.ones((8, 8))).compile()
    works = hlo.work(hlo.parse(compiled.as_text())).values()
    encoding = [work for work in works if work.scope == "encode"]
    flops = [work.count * sum(work.flops.values()) for work in encoding]
    assert sum(flops) == 7 * 2 * 16 * 8 * 8
