//! `fullconv devices --check`: whether an adapter computes right.

use crate::{Outcome, terminal, vectors};
use fullconv::gpu::{Backend, CheckedLayer, DeviceCheck, Verdict, check_kernel_names};
use fullconv::{ErrorKind, Gpu, GpuOptions, Result};
use serde::Serialize;
use std::time::{Duration, Instant};

/// The exit status if an adapter computes wrongly or not at all.
pub const WRONG: u8 = 3;

/// The result for one adapter.
#[derive(Serialize)]
pub struct Checked {
    /// `right`, `wrong` or `not computing`.
    verdict: &'static str,
    milliseconds: f64,
    /// The number of layers compared.
    layers: usize,
    wrong: Vec<WrongLayer>,
    /// Why the adapter did not compute, if it failed.
    error: Option<String>,
}

#[derive(Serialize)]
struct WrongLayer {
    node: String,
    kernels: Vec<&'static str>,
    /// What is wrong, in words.
    found: String,
    /// The kernels that may be left out: `--without-kernel`.
    replaceable: Vec<&'static str>,
}

impl Checked {
    /// Checks the adapter at position `index` of `backend`, without the kernels `without`.
    ///
    /// # Errors
    /// `Request` if a kernel name is unknown, `Unsupported` if a kernel cannot be left out. A failing device is a result.
    pub fn of(index: usize, backend: Option<Backend>, without: &[String]) -> Outcome<Self> {
        check_kernel_names(without)?;
        let options = GpuOptions {
            backend,
            adapter: Some(index.to_string()),
            without_kernels: without.to_vec(),
            ..GpuOptions::default()
        };
        let begin = Instant::now();
        let gpu = pollster::block_on(Gpu::with_options(&options)).and_then(vectors::verified);
        let check = gpu.and_then(|gpu| pollster::block_on(gpu.check()));
        match check {
            Err(error) if error.kind() == ErrorKind::Unsupported => Err(error.into()),
            check => Ok(Self::new(check, begin.elapsed())),
        }
    }

    fn new(check: Result<DeviceCheck>, time: Duration) -> Self {
        let (verdict, layers, wrong, error) = match check {
            Err(error) => ("not computing", 0, Vec::new(), Some(error.to_string())),
            Ok(check) => {
                let wrong = check.wrong().map(wrong_layer).collect();
                let verdict = match check.verdict() {
                    Verdict::Right => "right",
                    Verdict::NotComputing => "not computing",
                    _ => "wrong",
                };
                (verdict, check.layers.len(), wrong, None)
            }
        };
        Self {
            verdict,
            milliseconds: terminal::milliseconds(time),
            layers,
            wrong,
            error,
        }
    }

    /// Whether the adapter computes right.
    pub fn is_right(&self) -> bool {
        self.verdict == "right"
    }

    /// Lines for people.
    pub fn shown(&self) -> String {
        let time = terminal::time(Duration::from_secs_f64(self.milliseconds / 1e3));
        let what = match (self.verdict, &self.error) {
            (_, Some(error)) => format!("not computing: {error}"),
            ("right", _) => format!("right: {} layers as the CPU reference, {time}", self.layers),
            ("wrong", _) => format!("wrong: {} of {} layers", self.wrong.len(), self.layers),
            _ => "not computing: the device gives zeros or writes nothing; update its driver, or take another adapter"
                .to_owned(),
        };
        let mut text = format!("\n   check      {what}");
        if self.verdict == "wrong" {
            for layer in &self.wrong {
                text.push_str(&format!("\n              {}", layer.found));
                text.push_str(&layer.remedy());
            }
        }
        text
    }
}

impl WrongLayer {
    /// How to leave its kernels out.
    fn remedy(&self) -> String {
        match self.replaceable[..] {
            [] => "; no other kernel computes it: take another adapter, or --backend cpu".into(),
            [one] => format!("; leave the kernel out with --without-kernel {one}"),
            [ref one @ .., last] => format!(
                "; leave out one of its kernels with --without-kernel {} or {last}",
                one.join(", ")
            ),
        }
    }
}

fn wrong_layer(layer: &CheckedLayer) -> WrongLayer {
    WrongLayer {
        node: layer.node.clone(),
        kernels: layer.kernels.clone(),
        found: layer.to_string(),
        replaceable: layer.replaceable.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(replaceable: &[&'static str]) -> Checked {
        Checked {
            verdict: "wrong",
            milliseconds: 1.0,
            layers: 9,
            wrong: vec![WrongLayer {
                node: "deep".into(),
                kernels: Vec::new(),
                found: "deep (a, b) is 0 at [0, 0, 0, 0], the reference 1".into(),
                replaceable: replaceable.to_vec(),
            }],
            error: None,
        }
    }

    #[test]
    fn a_wrong_layer_comes_with_its_remedy() {
        for (replaceable, remedy) in [
            (&["a", "b"][..], "--without-kernel a or b"),
            (&["a"], "--without-kernel a"),
            (&[], "--backend cpu"),
        ] {
            let text = wrong(replaceable).shown();
            assert!(text.contains("wrong: 1 of 9 layers"), "{text}");
            assert!(text.ends_with(remedy), "{text}");
        }
    }

    #[test]
    fn a_device_that_fails_does_not_compute() {
        let lost = fullconv::Error::new(ErrorKind::DeviceLost, "the device is lost");
        let checked = Checked::new(Err(lost), Duration::ZERO);
        assert!(!checked.is_right());
        assert!(
            checked
                .shown()
                .contains("not computing: the device is lost")
        );
    }
}
