//! Every op on the device against its CPU twin, element by element, on poisoned buffers.

mod common;

use common::{OneOp, Random, all_gpus};
use fullconv::ops;

#[test]
fn every_case_agrees_with_its_twin_however_the_device_is_opened() {
    for (name, gpu) in all_gpus() {
        let mut random = Random::new(1);
        for case in ops::cases() {
            OneOp::of_case(case, &mut random).check(&gpu, name);
        }
    }
}
