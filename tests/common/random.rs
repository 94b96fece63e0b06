//! Random numbers, the same in every run.

use fullconv::{Shape, Tensor};
use proptest::test_runner::{RngAlgorithm, TestRng};

/// Random numbers, the same in every run.
pub struct Random(TestRng);

impl Random {
    pub fn new(seed: u8) -> Self {
        Self(TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]))
    }

    /// A number from −1 to 1.
    pub fn float(&mut self) -> f32 {
        use proptest::prelude::Rng as _;
        self.0.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        use proptest::prelude::Rng as _;
        self.0.next_u32() as usize % end
    }

    pub fn tensor(&mut self, shape: Shape) -> Tensor {
        Tensor::from_fn(shape, |_, _, _, _| self.float()).unwrap()
    }

    /// A picture: whole numbers from 0 to 255. The luma of its first pixel is just below the middle of two bytes.
    pub fn picture(&mut self, shape: Shape) -> Tensor {
        let first = [0.0, 183.0, 27.0];
        Tensor::from_fn(shape, |_, c, y, x| match ([y, x], first.get(c)) {
            ([0, 0], Some(byte)) => *byte,
            _ => ((self.float() + 1.0) * 127.5).round(),
        })
        .unwrap()
    }
}
