//! What planning assumes of a family of devices, because no device reports it: a table with the evidence of each figure.

use crate::device_profile::{DISPATCH_FLOPS, INVOCATIONS_AT_ONCE};
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
        evidence: "the smallest discrete GPUs with Vulkan or Direct3D 12 (GeForce GT 710, Radeon RX 550) have 0.4 to 1.2 \
                   TFLOP/s; at a quarter of the least, 64 GFLOP take 0.7 s",
    },
    Family {
        device: DeviceType::IntegratedGpu,
        invocations_at_once: INVOCATIONS_AT_ONCE / 8,
        dispatch_flops: DISPATCH_FLOPS,
        evidence: "Intel's UHD 620 has 24 execution units of 7 threads of 8 to 32 invocations, Apple's M1 8 cores of 384 \
                   to 1,024; at 10 GFLOP/s, 8 GFLOP take 0.8 s",
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
    evidence: "at 10 GFLOP/s, a slow CPU behind a graphics driver, 8 GFLOP take 0.8 s",
};

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
}
