//! What is known to fail on a device, as data: each for a quirk of that device.

use fullconv::gpu::{quirks, wgpu};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What becomes of a test on a device with a quirk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It fails.
    Failure,
    /// It takes too long to be run.
    TooLong,
}

/// One test that does not pass on a device with a quirk.
#[derive(Debug)]
pub struct KnownFailure {
    /// The test, or what tests do only on other devices.
    pub what: &'static str,
    /// The quirk, by its name in [`quirks::QUIRKS`].
    pub quirk: &'static str,
    pub expected: Expected,
}

/// What opens a device with checked shaders, all of which are compiled anew there.
pub const CHECKED_SHADERS: &str = "checked shaders";

/// All of them.
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

/// What is expected of `what` on an adapter, if not that it passes.
pub fn expected(what: &str, info: &wgpu::AdapterInfo) -> Option<Expected> {
    let has = |name: &str| quirks::of(info).any(|quirk| quirk.name == name);
    let mut known = known_failures().iter();
    let found = known.find(|known| known.what == what && has(known.quirk));
    found.map(|known| known.expected)
}

/// Runs `test`, called `what`, on an adapter. It panics where the test fails and should not, and where it passes and
/// should fail.
pub fn check(what: &str, info: &wgpu::AdapterInfo, test: impl FnOnce()) {
    match expected(what, info) {
        None => test(),
        Some(Expected::TooLong) => eprintln!("SKIP: {what} takes too long on {}", info.name),
        Some(Expected::Failure) => {
            let outcome = catch_unwind(AssertUnwindSafe(test));
            let name = &info.name;
            assert!(
                outcome.is_err(),
                "{what} is known to fail on {name}, and passes: is the quirk gone?"
            );
        }
    }
}
