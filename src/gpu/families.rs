//! What planning assumes of a family of devices, because no device reports it: a table with the evidence of each figure.

use crate::device_profile::{
    DISPATCH_FLOPS, FLOPS_PER_BYTE, INVOCATIONS_AT_ONCE, MATRIX_FLOPS_PER_BYTE, SUMS_IN_REGISTERS,
};
use wgpu::{AdapterInfo, DeviceType};

/// Figures for the devices of a family.
#[derive(Debug)]
pub(super) struct Family {
    /// The kind of device, as the driver reports it.
    device: DeviceType,
    /// Invocations that keep the whole device busy.
    pub invocations_at_once: u32,
    /// The longest dispatch, in floating-point operations.
    pub dispatch_flops: u64,
    /// Floating-point operations that take as long as a byte of memory traffic.
    pub flops_per_byte: u32,
    /// Where the figures come from.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the table"))]
    evidence: &'static str,
}

/// The family of the adapter `info`.
pub(super) fn of(info: &AdapterInfo) -> &'static Family {
    let family = FAMILIES.iter().find(|f| f.device == info.device_type);
    family.unwrap_or(&UNKNOWN)
}

const FAMILIES: &[Family] = &[
    Family {
        device: DeviceType::DiscreteGpu,
        invocations_at_once: INVOCATIONS_AT_ONCE,
        dispatch_flops: 8 * DISPATCH_FLOPS,
        flops_per_byte: FLOPS_PER_BYTE,
        evidence: "the smallest discrete GPUs with Vulkan or Direct3D 12 (GeForce GT 710, Radeon RX 550) have 0.4 to 1.2 \
                   TFLOP/s; at a quarter of the least, 64 GFLOP take 0.7 s. By their makers' figures in f32, a GeForce \
                   RTX 3090 has 38 flop a byte, a Radeon RX 6800 32, an RTX 2080 22, an H200 14, a Radeon VII 13",
    },
    Family {
        device: DeviceType::IntegratedGpu,
        invocations_at_once: INVOCATIONS_AT_ONCE / 8,
        dispatch_flops: DISPATCH_FLOPS,
        flops_per_byte: FLOPS_PER_BYTE,
        evidence: "Intel's UHD 620 has 24 execution units of 7 threads of 8 to 32 invocations, Apple's M1 8 cores of 384 \
                   to 1,024; at 10 GFLOP/s, 8 GFLOP take 0.8 s. By their makers' figures in f32, an M1 has 38 \
                   flop a byte, an Adreno 740 31, an UHD 620 13",
    },
    Family {
        device: DeviceType::Cpu,
        ..UNKNOWN
    },
];

/// Of devices whose kind is not known, as in browsers.
const UNKNOWN: Family = Family {
    device: DeviceType::Other,
    invocations_at_once: INVOCATIONS_AT_ONCE,
    dispatch_flops: DISPATCH_FLOPS,
    flops_per_byte: FLOPS_PER_BYTE,
    evidence: "at 10 GFLOP/s, a slow CPU behind a graphics driver, 8 GFLOP take 0.8 s",
};

/// Chips whose registers hold fewer sums than most GPUs'.
#[derive(Debug)]
struct Registers {
    /// The chips.
    #[expect(dead_code, reason = "for readers of the table")]
    chips: &'static str,
    applies: fn(&AdapterInfo) -> bool,
    /// The most sums, of four channels each.
    sums: u32,
    /// Where the figure comes from.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the table"))]
    evidence: &'static str,
}

/// The most sums, of four channels each, that an invocation on the adapter `info` should keep in registers.
pub(super) fn sums_in_registers(info: &AdapterInfo) -> u32 {
    let registers = REGISTERS.iter().find(|r| (r.applies)(info));
    registers.map_or(SUMS_IN_REGISTERS, |r| r.sums)
}

const AMD: u32 = 0x1002;

const REGISTERS: &[Registers] = &[
    Registers {
        chips: "Apple",
        // The reported maker is 0 with Metal, and Mesa with Mesa's driver.
        applies: |info| info.name.starts_with("Apple"),
        sums: SUMS_IN_REGISTERS / 2,
        evidence: "Mesa's compiler for the M1, predicted by ./check gpus: 16 sums take all 128 registers, and 58 of \
                   188 pipelines spill; 8 take up to 116, none spills, and a core holds half as many invocations \
                   again; fcn_resnet50 takes 239 ms, not 267, FCN-8s 199 ms, not 196",
    },
    Registers {
        chips: "AMD before RDNA",
        // RDNA has subgroups of 32 too.
        applies: |info| info.vendor == AMD && info.subgroup_min_size == 64,
        sums: SUMS_IN_REGISTERS / 2,
        evidence: "Mesa's compiler for Vega and Polaris, predicted by ./check gpus: 16 sums take 128 to 256 of 256 \
                   registers, so one or two subgroups share a SIMD; 8 sums of 4 pixels take 64 to 124. FCN-8s takes \
                   28.7 ms, not 29.7, on a Radeon VII, and 61.1 ms, not 64.8, on an RX 580; fcn_resnet50 takes 32.8 \
                   ms, not 32.9, and 72.4 ms, not 73.4",
    },
];

/// Chips whose matrices are fast for their memory.
#[derive(Debug)]
struct Matrices {
    /// The chips.
    #[expect(dead_code, reason = "for readers of the table")]
    chips: &'static str,
    applies: fn(&AdapterInfo) -> bool,
    /// Operations of matrices, f16 with sums in f32, that take as long as a byte of memory traffic.
    flops_per_byte: u32,
    /// Where the figure comes from.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the table"))]
    evidence: &'static str,
}

/// Floating-point operations of cooperative matrices that the adapter `info` computes while it moves a byte.
pub(super) fn matrix_flops_per_byte(info: &AdapterInfo) -> u32 {
    let matrices = MATRICES.iter().find(|m| (m.applies)(info));
    matrices.map_or(MATRIX_FLOPS_PER_BYTE, |m| m.flops_per_byte)
}

const MATRICES: &[Matrices] = &[
    Matrices {
        chips: "AMD RDNA4",
        // The product's name, or the chip's in Mesa's.
        applies: |info| {
            let names = ["RX 90", "AI PRO R9", "GFX120"];
            info.vendor == AMD && names.iter().any(|name| info.name.contains(name))
        },
        flops_per_byte: 304,
        evidence: "by its maker's figures, a Radeon RX 9070 XT has 195 TFLOP/s at 640 GB/s",
    },
    Matrices {
        chips: "AMD RDNA3: older chips have no matrices",
        applies: |info| info.vendor == AMD,
        flops_per_byte: 128,
        evidence: "by its maker's figures, a Radeon RX 7900 XTX has 123 TFLOP/s at 960 GB/s; a GeForce RTX 3090 has 76 flop \
                   a byte, an RTX 2080 90",
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_family_is_another_kind_of_device_and_has_evidence() {
        let kinds: HashSet<_> = FAMILIES.iter().map(|f| format!("{:?}", f.device)).collect();
        assert_eq!(kinds.len(), FAMILIES.len());
        for family in FAMILIES.iter().chain([&UNKNOWN]) {
            assert!(!family.evidence.is_empty(), "{family:?}");
            assert!(family.dispatch_flops >= DISPATCH_FLOPS, "{family:?}");
        }
    }

    #[test]
    fn chips_with_fast_matrices_are_known_by_name() {
        assert!(
            MATRICES
                .iter()
                .all(|matrices| !matrices.evidence.is_empty())
        );
        for (name, vendor, flops) in [
            ("AMD Radeon RX 9070 XT (RADV GFX1201)", AMD, 304),
            ("AMD Radeon RX 9060 XT", AMD, 304),
            ("AMD Radeon RX 7900 XTX (RADV NAVI31)", AMD, 128),
            ("NVIDIA GeForce RTX 3090", 0x10de, MATRIX_FLOPS_PER_BYTE),
        ] {
            let info = AdapterInfo {
                name: name.into(),
                vendor,
                ..AdapterInfo::new(DeviceType::DiscreteGpu, wgpu::Backend::Vulkan)
            };
            assert_eq!(matrix_flops_per_byte(&info), flops, "{name}");
        }
    }

    #[test]
    fn chips_with_fewer_sums_are_known_by_name_or_subgroup() {
        for registers in REGISTERS {
            assert!(!registers.evidence.is_empty(), "{registers:?}");
        }
        let adapter = |name: &str, vendor, subgroup_min_size| AdapterInfo {
            name: name.into(),
            vendor,
            subgroup_min_size,
            ..AdapterInfo::new(DeviceType::Other, wgpu::Backend::Vulkan)
        };
        let fewer = SUMS_IN_REGISTERS / 2;
        for (name, vendor, subgroup, sums) in [
            ("Apple M2 Pro", 0, 4, fewer),
            ("Apple M1 (G13G A0)", 0x10005, 32, fewer),
            ("AMD Radeon VII (RADV VEGA20)", AMD, 64, fewer),
            (
                "AMD Radeon RX 6800 (RADV NAVI21)",
                AMD,
                32,
                SUMS_IN_REGISTERS,
            ),
            ("Turnip Adreno (TM) 740", 0x5143, 64, SUMS_IN_REGISTERS),
        ] {
            let info = adapter(name, vendor, subgroup);
            assert_eq!(sums_in_registers(&info), sums, "{name}");
        }
    }
}
