import jax
import jax.numpy as jnp
import pytest

from benchmarks.flops import CONVOLUTIONS, PRODUCTS
from benchmarks.traces import (
    COPIES,
    IDLE,
    INPUT,
    OPTIMIZER,
    OTHER,
    Event,
    busy,
    device_events,
    instruction_kinds,
    kind_of,
    reduce,
)

# As a GPU's program and trace are written: instructions with their op_name, kernels on streams.
HLO = """
HloModule jit_step
%fused (p: f32[8]) -> f32[8] {
  ROOT %add.3 = f32[8]{0} add(%p, %p), metadata={op_name="jit(step)/optimizer/add"}
}
%with_product (p: f32[8]) -> f32[8] {
  %dot.9 = f32[8]{0} dot(%p, %p)
  ROOT %max.1 = f32[8]{0} maximum(%dot.9, %p), metadata={op_name="jit(step)/max"}
}
ENTRY %main {
  %triton_fusion = f32[8]{0} fusion(%a), kind=kCustom, calls=%with_product, metadata={op_name="jit(step)/max"}
  %cudnn-conv.1 = (f32[8]{0}, u8[0]{0}) custom-call(%a, %b), custom_call_target="__cudnn$convForward"
  %cublas-gemm.2 = f32[8]{0} custom-call(%a, %b), custom_call_target="__cublas$lt$matmul"
  %gemm_fusion_dot.7 = f32[8]{0} fusion(%a), kind=kCustom, metadata={op_name="jit(step)/dot_general"}
  %loop_add_fusion.4 = f32[8]{0} fusion(%a), calls=%fused, metadata={op_name="jit(step)/optimizer/add"}
  %loop_select_fusion = f32[8]{0} fusion(%a), metadata={op_name="jit(step)/input/jit(_where)/select_n"}
  %loop_convert_fusion.1 = f32[8]{0} fusion(%a), metadata={op_name="jit(step)/jvp(AttributeEncoder)/convert"}
}
"""
KERNELS = [  # stream, name, instruction that the trace tells or None, start and duration in ns, kind
    ("Stream #13(Compute)", "sm90_xmma_fprop_implicit_gemm_bf16", "cudnn-conv.1", 1000, 100, CONVOLUTIONS),
    ("Stream #13(Compute)", "nchwToNhwcKernel", None, 1100, 10, CONVOLUTIONS),
    ("Stream #13(Compute)", "nvjet_hsh_128x256", "cublas-gemm.2", 1110, 40, PRODUCTS),
    ("Stream #13(Compute)", "gemm_fusion_dot_7", None, 1150, 30, PRODUCTS),
    ("Stream #13(Compute)", "loop_add_fusion_4", None, 1180, 20, OPTIMIZER),
    ("Stream #13(Compute)", "loop_select_fusion", "loop_select_fusion", 1200, 5, INPUT),
    ("Stream #13(Compute)", "loop_convert_fusion_1", None, 1205, 5, OTHER),
    ("Stream #13(Compute)", "wrapped_convert", None, 1210, 5, OTHER),
    ("Stream #13(Compute)", "triton_fusion", None, 1215, 5, PRODUCTS),
    ("Stream #14(MemcpyH2D)", "MemcpyH2D", None, 1190, 15, INPUT),
    ("Stream #15(MemcpyD2H)", "MemcpyD2H", None, 1300, 100, COPIES),
]


def written(kernels, plane="/device:GPU:0", second="/device:GPU:1"):
    """A trace as CUPTI's is: two cards that did the same, and lines that are derived from the streams."""
    names = sorted({name for _, name, *_ in kernels})
    metadata = "".join(
        f'event_metadata {{ key: {number} value {{ id: {number} name: "{name}" }} }}\n'
        for number, name in enumerate(names, 1)
    )
    metadata += 'stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }\n'
    lines = ""
    streams = [*dict.fromkeys(stream for stream, *_ in kernels), "XLA Ops"]
    for number, stream in enumerate(streams, 1):
        events = ""
        for of, name, instruction, start, duration, _ in kernels:
            if stream in (of, "XLA Ops"):
                stat = f'stats {{ metadata_id: 1 str_value: "{instruction}" }}' if instruction else ""
                events += (
                    f"events {{ metadata_id: {names.index(name) + 1} offset_ps: {start * 1000} "
                    f"duration_ps: {duration * 1000} {stat} }}\n"
                )
        lines += f'lines {{ id: {number} name: "{stream}" timestamp_ns: 0 {events} }}\n'
    planes = "".join(f'planes {{ name: "{name}" {lines} {metadata} }}\n' for name in (plane, second))
    return jax.profiler.ProfileData.text_proto_to_serialized_xspace(planes)


@pytest.fixture
def trace(tmp_path):
    folder = tmp_path / "plugins" / "profile" / "now"
    folder.mkdir(parents=True)
    (folder / "machine.xplane.pb").write_bytes(written(KERNELS))
    return tmp_path


def test_of_a_gpu_the_streams_of_the_first_card_count(trace):
    events = device_events(trace)
    assert [(event.name, event.start, event.duration) for event in events] == [
        (name, start, duration) for _, name, _, start, duration, _ in KERNELS
    ]
    assert [event.instruction for event in events] == [instruction or "" for _, _, instruction, *_ in KERNELS]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel[1])
def test_a_kernel_is_of_the_kind_of_its_instruction_or_of_its_name(kernel, trace):
    kinds = instruction_kinds(HLO)
    kinds |= {name.replace(".", "_").replace("-", "_"): kind for name, kind in kinds.items()}
    (event,) = [event for event in device_events(trace) if event.name == kernel[1]]
    assert kind_of(event, kinds) == kernel[-1]


def test_a_trace_becomes_seconds_a_step(trace):
    reduced = reduce(device_events(trace), HLO, steps=2, kernels=3)
    expected = {
        kind: sum(duration for *_, duration, of in KERNELS if of == kind) / 2e9
        for kind in (CONVOLUTIONS, PRODUCTS, OPTIMIZER, INPUT, COPIES, OTHER)
    }
    expected[IDLE] = (1300 - 1220) / 2e9  # between the last kernel and the copy back
    assert reduced["seconds_per_step"] == pytest.approx(expected)
    assert reduced["span_per_step"] == pytest.approx((1400 - 1000) / 2e9)
    longest = [kernel["name"] for kernel in reduced["kernels"]]
    assert longest == ["sm90_xmma_fprop_implicit_gemm_bf16", "MemcpyD2H", "nvjet_hsh_128x256"]
    assert reduced["kernels"][0]["times"] == 0.5


def test_a_trace_without_work_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no work of a device"):
        device_events(tmp_path)


def test_events_within_others_are_busy_once():
    events = [Event("outer", 0, 100, ""), Event("inner", 10, 20, ""), Event("after", 100, 50, "")]
    assert busy(events) == pytest.approx(150e-9)


@pytest.mark.long
def test_a_real_trace_of_a_cpu_has_products_where_they_were_asked_for(tmp_path):
    function = jax.jit(lambda x: (x @ x).sum())
    x = jnp.ones((256, 256))
    compiled = function.lower(x).compile()
    jax.block_until_ready(compiled(x))
    with jax.profiler.trace(tmp_path):
        jax.block_until_ready([compiled(x) for _ in range(3)])
    reduced = reduce(device_events(tmp_path), compiled.as_text(), steps=3)
    seconds = reduced["seconds_per_step"]
    assert 0 < seconds[PRODUCTS] <= reduced["span_per_step"]
    assert seconds[PRODUCTS] > max(seconds[CONVOLUTIONS], seconds[OPTIMIZER])
