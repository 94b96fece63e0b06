//! Short kernels in each driver's words: a loop that loads, meets a barrier, and multiplies in an inner loop.

use super::{Block, Mix, adreno, amd, apple, mix, nvidia};
use crate::shader::Facts;

/// The text of a kernel that stages one `vec4` of the halo and one of the weights for each of 64 invocations, and whose
/// stage has three taps of 32 products.
const KERNEL: &str = "
override KERNEL_W: u32 = 3u;
const PIXELS = 2u;
const OWN_QUADS = 1u;
const STAGE_ROWS = 1u;
const STAGE_GROUPS = 1u;
const HALO_ROWS = 8u;
const HALO_COLUMNS = 8u;
const TAPS_SIZE = 64u;
struct Params {
    terms: u32,
    term_end: u32,
}
@compute @workgroup_size(64)
";

fn mix_of(blocks: &[Block]) -> Mix {
    mix(blocks, &Facts::new(KERNEL, &[]))
}

fn repeat(line: &str, times: usize) -> String {
    format!("{line}\n").repeat(times)
}

#[test]
fn amds_stage_has_all_turns_of_its_inner_loop() {
    let text = format!(
        "BB0:
    s_mov_b32 s2, s1   ; be820001
BB1:
    buffer_load_b128 v[0:3], v4, s[0:3], 0 offen
    s_waitcnt vmcnt(0)
    ds_store_b128 v1, v[0:3]
    buffer_load_b128 v[0:3], v4, s[0:3], 0 offen
    ds_store_b128 v1, v[0:3]
    s_barrier
BB2:
    ds_load_b64 v[0:1], v2
    ds_load_u16_d16 v0, v2
{}    v_add_nc_u32 v1, v1, v2
    s_cbranch_scc0 BB2
BB3:
    s_cbranch_scc1 BB1
BB4:
    buffer_store_b128 v[0:3], v4, s[0:3], 0 offen
    s_endpgm",
        repeat("v_fmac_f32_e32 v0, v1, v2", 32)
    );
    let mix = mix_of(&amd::blocks(&text));
    assert!(mix.loops && mix.staged);
    assert_eq!(mix.stage.products, 96.0);
    assert_eq!(
        (
            mix.stage.alu,
            mix.stage.shared_loads,
            mix.stage.narrow_loads
        ),
        (3.0, 6.0, 3.0)
    );
    assert_eq!(
        (mix.stage.loads, mix.stage.load_bytes, mix.round_trips),
        (2.0, 32.0, 2.0)
    );
    assert_eq!(
        (mix.stage.barriers, mix.rest.stores, mix.rest.scalar),
        (1.0, 1.0, 1.0)
    );
}

#[test]
fn a_single_subgroup_has_a_stage_without_barriers() {
    let text = format!(
        "BB1:
    buffer_load_b128 v[0:3], v4, s[0:3], 0 offen
    buffer_load_b128 v[0:3], v4, s[0:3], 0 offen
    ds_store_b128 v1, v[0:3]
    ds_store_b128 v1, v[0:3]
BB2:
{}    s_cbranch_scc0 BB2
BB3:
    s_cbranch_scc1 BB1
BB4:
    s_endpgm",
        repeat("v_fmac_f32_e32 v0, v1, v2", 32)
    );
    let mix = mix_of(&amd::blocks(&text));
    assert!(mix.loops && mix.staged);
    assert_eq!((mix.stage.products, mix.stage.loads), (96.0, 2.0));
}

#[test]
fn nvidias_loops_are_natural_loops() {
    let text = format!(
        "block.u 0 L2 [] -> {{
 ur0 = s2r sr[0x25] // delay=1
}} -> [1]
block 1 L3 [0, 2] -> {{
 r0..4 = ld.global.a64.constant.b128 [r16..18+rZ] // delay=2
 st.shared.strong.cta.b128 [r1] r0..4 // delay=1
 r0..4 = ld.global.a64.constant.b128 [r16..18+rZ] // delay=2
 st.shared.strong.cta.b128 [r1] r0..4 // delay=1
 bar.sync // delay=5
 r0..4 = ld.shared.strong.cta.b128 [r1] // delay=2
{} @!p4 bra pT L9 // delay=1
}} -> [2, 3]
block 2 L4 [1] -> {{
 bra pT L3 // delay=1
}} -> [1]
block 3 L9 [1] -> {{
 exit // delay=1
}}",
        repeat(" r2 = ffma r0 r1 r2 // delay=1", 96)
    );
    let mix = mix_of(&nvidia::blocks(&text));
    assert!(mix.loops && mix.staged);
    assert_eq!((mix.stage.products, mix.stage.shared_loads), (96.0, 1.0));
    assert_eq!(
        (mix.stage.branches, mix.rest.branches, mix.round_trips),
        (2.0, 1.0, 2.0)
    );
}

#[test]
fn adrenos_instructions_repeat_and_its_branches_end_blocks() {
    let text = format!(
        "Native code for unnamed CL shader:
; num_ubos: 0
@in(r48.x)\tin0 (wrmask=0x7)
(sy)cov.u32f32 r52.z, r50.z
br !p0.x, #l3
jump #l5
l3:
jump #l5
l5:
isam.v.base0 (u32)(xyzw)r5.y, r6.y, s#0, t#4
isam.v.base0 (u32)(xyzw)r5.y, r6.y, s#0, t#4
(sy)stl.u32 l[r12.y], r15.x, 4
bar.g
ldl.u32 r1.x, l[r2.x], 4
{}br p0.x, #l5
stib.b.untyped.1d.u32.4.imm.base0 r5.y, r5.x, 6
end",
        repeat("(rpt1)mad.f32 (r)r0.x, (r)r1.x, r2.x, (r)(last)r0.x", 48)
    );
    let mix = mix_of(&adreno::blocks(&text));
    assert!(mix.loops && mix.staged);
    assert_eq!((mix.stage.fma, mix.stage.load_bytes), (96.0, 32.0));
    // One read of workgroup memory and one write, of four words each.
    assert_eq!(
        (mix.stage.shared_bytes, mix.round_trips, mix.rest.stores),
        (32.0, 1.0, 1.0)
    );
}

#[test]
fn a_kernel_without_products_is_all_one_stage() {
    let mix = mix_of(&amd::blocks("BB0:\nv_max_f32 v0, v1, v2\ns_endpgm"));
    assert!(!mix.loops && !mix.staged);
    assert_eq!(mix.stage.alu, 1.0);
}

#[test]
fn apples_last_listing_is_read() {
    let body = format!(
        "block0 {{
   $r1 = get_sr sr0
}} -> block1
block1 {{
   $r0...r3 = device_load u0:u1, #9, xyzw, #0x0, slot 0
   local_store r0...r3, r5l, #0, xyzw, #0x0
   $r0...r3 = device_load u0:u1, #9, xyzw, #0x0, slot 0
   threadgroup_barrier
   r0l = local_load r5l, #0, x, #0x0
{}   while_icmp r53, r52, #0x0, n=1
}} -> block1 block2  from block0 block1
block2 {{
   stop
}} from block1
",
        repeat("   r1 = ffma r2, r3, r1", 96)
    );
    let bytes = "   0: f2050000               mov      $r1, x\n";
    let printed = format!("block0 {{\n   iadd\n}}\n{body}{bytes}block0 {{\n   iadd\n}}\n");
    let text = apple::listing(&printed).unwrap();
    assert_eq!(text, body);
    let mix = mix_of(&apple::blocks(text));
    assert!(mix.loops && mix.staged);
    assert_eq!(
        (mix.stage.products, mix.stage.alu, mix.rest.alu),
        (96.0, 0.0, 1.0)
    );
    assert_eq!(
        (
            mix.stage.load_bytes,
            mix.stage.narrow_loads,
            mix.stage.branches
        ),
        (32.0, 1.0, 1.0)
    );
}
