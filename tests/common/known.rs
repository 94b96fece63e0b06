//! Known failures of tests, as data: each is due to a quirk of the device.

use fullconv::gpu::{quirks, wgpu};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The expected outcome of a test on a device with a quirk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The test fails.
    Failure,
    /// The test takes too long and is skipped.
    TooLong,
}

/// A test that does not pass on devices with a quirk.
#[derive(Debug)]
pub struct KnownFailure {
    /// The name of the test, or of a part that tests skip on such devices.
    pub what: &'static str,
    /// The quirk's name in [`quirks::QUIRKS`].
    pub quirk: &'static str,
    pub expected: Expected,
}

/// The part of tests that opens a device with checked shaders, and so compiles every shader again.
pub const CHECKED_SHADERS: &str = "checked shaders";

/// All known failures.
pub fn known_failures() -> &'static [KnownFailure] {
    &[
        KnownFailure {
            what: "a_loop_takes_as_many_steps_as_its_shader_says",
            quirk: "loops-end",
            expected: Expected::Failure,
        },
        KnownFailure {
            what: CHECKED_SHADERS,
            quirk: "slow-compiler",
            expected: Expected::TooLong,
        },
    ]
}

/// The expected outcome of `what` on an adapter; `None` if it must pass.
pub fn expected(what: &str, info: &wgpu::AdapterInfo) -> Option<Expected> {
    let has = |name: &str| quirks::of(info).any(|quirk| quirk.name == name);
    let mut known = known_failures().iter();
    let found = known.find(|known| known.what == what && has(known.quirk));
    found.map(|known| known.expected)
}

/// Runs `test`, called `what`, on an adapter. Panics if the test fails unexpectedly, or passes despite a known failure.
pub fn check(what: &str, info: &wgpu::AdapterInfo, test: impl FnOnce()) {
    match expected(what, info) {
        None => test(),
        Some(Expected::TooLong) => eprintln!("SKIP: {what} takes too long on {}", info.name),
        Some(Expected::Failure) => {
            let outcome = catch_unwind(AssertUnwindSafe(test));
            let name = &info.name;
            assert!(
                outcome.is_err(),
                "{what} passes on {name}, where it is known to fail: is the quirk gone?"
            );
        }
    }
}
