//! The last check of a layer's dispatches: together they write every element of their rows exactly once.
//!
//! The check reads what will run, the words of each dispatch's `Params` and its workgroups, not the ranges that they
//! were made from. A kernel whose grid does not fit its output fails here, before anything runs; otherwise its buffer
//! would keep data of an earlier layer.

use super::Step;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::grid::Region;
use crate::ops::kernel::{Kernel, Word};
use crate::tensor::Shape;
use std::ops::Range;

/// The part that one dispatch writes, as its shader reads it.
struct Written {
    rows: Range<usize>,
    quads: Range<usize>,
    terms: Range<usize>,
}

/// Reads a dispatch's `Params`.
struct Reader<'a> {
    kernel: &'a Kernel,
    output: Shape,
}

impl Reader<'_> {
    /// The value of `word`, if the shader reads it.
    fn word(&self, step: &Step, word: Word) -> Option<usize> {
        let at = self
            .kernel
            .params
            .iter()
            .position(|(_, held)| *held == word)?;
        step.params.get(at).map(|value| *value as usize)
    }

    /// The range between two words; `0..whole` if the shader reads neither.
    fn range(&self, step: &Step, [begin, end]: [Word; 2], whole: usize) -> Range<usize> {
        self.word(step, begin).unwrap_or(0)..self.word(step, end).unwrap_or(whole)
    }

    /// Groups of four channels in each part.
    fn quads(&self) -> usize {
        self.output.c4() / self.kernel.grid.parts()
    }

    fn terms(&self) -> usize {
        self.kernel.terms.unwrap_or(1)
    }

    fn part(&self, step: &Step) -> Written {
        let all_rows = self.output.n * self.output.h;
        Written {
            rows: self.range(step, [Word::RowBegin, Word::RowEnd], all_rows),
            quads: self.range(step, [Word::ChannelBegin, Word::ChannelEnd], self.quads()),
            terms: self.range(step, [Word::TermBegin, Word::TermEnd], self.terms()),
        }
    }

    /// Whether the workgroups of one dispatch write all of its part once.
    fn check_workgroups(&self, step: &Step, part: &Written) -> Result<(), String> {
        if part.rows != step.rows || part.rows.is_empty() || part.quads.is_empty() {
            return Err(format!(
                "a dispatch for rows {:?} is told {:?}",
                step.rows, part.rows
            ));
        }
        let region = Region {
            shape: self.output,
            pixels_per_element: self.kernel.output.pixels_per_element(),
            rows: part.rows.clone(),
            quads: part.quads.clone(),
        };
        let told = |count| self.word(step, Word::Count(count));
        self.kernel.grid.check(&region, told, step.workgroups)
    }

    /// Whether all dispatches together write `rows` of every channel once: runs of terms within bands of rows within
    /// runs of channels.
    fn check_all(&self, rows: &Range<usize>, steps: &[Step]) -> Result<(), String> {
        let (mut quad, mut row, mut term) = (0, rows.start, 0);
        let mut before: Option<Written> = None;
        for step in steps {
            let part = self.part(step);
            self.check_workgroups(step, &part)?;
            let begins = [part.quads.start, part.rows.start, part.terms.start];
            let same = |before: &Written| {
                (row == rows.start && term == 0 || before.quads == part.quads)
                    && (term == 0 || before.rows == part.rows)
            };
            let goes_on = before.as_ref().is_none_or(same);
            if begins != [quad, row, term] || !goes_on {
                return Err(format!(
                    "a dispatch for channel groups {:?}, rows {:?}, terms {:?} does not go on from {:?}",
                    part.quads,
                    part.rows,
                    part.terms,
                    [quad, row, term]
                ));
            }
            term = part.terms.end;
            if term == self.terms() {
                (term, row) = (0, part.rows.end);
            }
            if term == 0 && row == rows.end {
                (row, quad) = (rows.start, part.quads.end);
            }
            before = Some(part);
        }
        let end = if rows.is_empty() { 0 } else { self.quads() };
        match [quad, row, term] == [end, rows.start, 0] {
            true => Ok(()),
            false => Err(format!(
                "nothing is written from channel group {quad}, row {row}, term {term} on"
            )),
        }
    }
}

/// Checks that the `steps` of `kernel` write `rows` of an output of shape `output` exactly once.
///
/// # Errors
/// `Internal`, with the part that is not written or written twice.
pub(super) fn check(
    kernel: &Kernel,
    output: Shape,
    rows: &Range<usize>,
    steps: &[Step],
) -> Result<()> {
    let reader = Reader { kernel, output };
    reader.check_all(rows, steps).map_err(|why| {
        let name = kernel.shader.name;
        let message = format!(
            "{name} does not write each element of {output} once: {why}; this is a fault of fullconv, please \
             report it"
        );
        Error::new(ErrorKind::Internal, message)
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::device_profile::DeviceProfile;
    use crate::error::ErrorKind;
    use crate::graph::Graph;
    use crate::ops::kernel::{Kernel, Word};
    use crate::ops::{Conv2d, ConvTranspose2d, MaxPool2d, Op};
    use crate::plan::lowered::{Convolution, FusedArgmax, Scores, lower};
    use crate::plan::{Plan, Step};
    use crate::target::Target;
    use crate::tensor::Shape;
    use std::sync::Arc;

    /// The kernel of an op, the shape of its output and the dispatches, on a device that binds hardly anything.
    fn cut(op: impl Op, inputs: &[[usize; 4]]) -> (Kernel, Shape, Vec<Step>) {
        let shapes: Vec<_> = inputs
            .iter()
            .map(|[n, c, h, w]| Shape::new(*n, *c, *h, *w))
            .collect();
        let target = |log2: u32| Target {
            device: DeviceProfile {
                max_binding_bytes: 1 << log2,
                invocations_at_once: 1,
                ..DeviceProfile::WEBGPU_DEFAULTS
            },
            ..Target::WEBGPU_DEFAULTS
        };
        let mut graph = Graph::new("input");
        let mut ids = vec![graph.input()];
        for (i, shape) in shapes.iter().enumerate().skip(1) {
            ids.push(graph.parameter(format!("w{i}"), *shape).unwrap());
        }
        let op = lower(&(Arc::new(op) as Arc<dyn Op>));
        let kernels = op.kernels(&shapes, &target(27)).unwrap();
        graph.shared_op("op", op, &ids).unwrap();
        let plan = |log2| Plan::new(&graph, shapes[0], &[graph.output()], &target(log2));
        let plan = (10..27).find_map(|log2| plan(log2).ok()).unwrap();
        assert!(plan.layers.len() == 1 && plan.groups.is_empty(), "{plan}");
        let is_of = |kernel: &Kernel| kernel.shader == plan.pipelines[0].shader;
        let kernel = kernels.into_iter().find(is_of).unwrap();
        (kernel, plan.layers[0].shape, plan.steps)
    }

    /// Panics unless `spoil` is refused wherever it changes one of the steps; gives back how many it changes.
    fn assert_refused(
        (kernel, output, steps): &(Kernel, Shape, Vec<Step>),
        what: &str,
        spoil: impl Fn(&mut Vec<Step>, usize) -> bool,
    ) -> usize {
        let rows = 0..output.n * output.h;
        check(kernel, *output, &rows, steps).unwrap();
        let mut changed = 0;
        for i in 0..steps.len() {
            let mut spoilt = steps.clone();
            if spoil(&mut spoilt, i) {
                let error = check(kernel, *output, &rows, &spoilt).expect_err(what);
                assert_eq!(error.kind(), ErrorKind::Internal, "{what}: {error}");
                changed += 1;
            }
        }
        changed
    }

    #[test]
    fn whatever_leaves_an_element_unwritten_is_refused() {
        let pooled = Convolution {
            pool: Some(MaxPool2d::square(2, 2, false)),
            ..Conv2d::padded(1).into()
        };
        let labels = FusedArgmax {
            scores: Scores::Upsampled(ConvTranspose2d::strided(4, 0).into()),
            binary: None,
        };
        let cases = [
            // The first is cut into bands and shards, the second into runs of terms too.
            cut(
                Conv2d::padded(1),
                &[[2, 40, 33, 18], [80, 40, 3, 3], [80, 1, 1, 1]],
            ),
            cut(Conv2d::padded(3), &[[1, 5200, 9, 3], [12, 5200, 7, 7]]),
            cut(pooled, &[[3, 12, 99, 70], [20, 12, 3, 3]]),
            cut(
                ConvTranspose2d::strided(2, 0),
                &[[2, 6, 9, 40], [6, 30, 4, 4]],
            ),
            cut(labels, &[[2, 5, 30, 60], [5, 6, 8, 8]]),
            cut(MaxPool2d::square(3, 2, true), &[[2, 17, 30, 31]]),
        ];
        for case in &cases {
            let name = case.0.shader.name;
            assert!(case.2.len() > 1, "{name} of {} is not cut", case.1);
            let refused = |what: &str, spoil: &dyn Fn(&mut Vec<Step>, usize) -> bool| {
                assert_refused(case, &format!("{name}, {what}"), spoil)
            };
            let all = case.2.len();
            assert_eq!(
                refused("one less", &|steps, i| {
                    steps.remove(i);
                    true
                }),
                all
            );
            assert_eq!(
                refused("one twice", &|steps, i| {
                    steps.insert(i, steps[i].clone());
                    true
                }),
                all
            );
            refused("in another order", &|steps, i| {
                let differ = i > 0 && steps[i].params != steps[i - 1].params;
                if differ {
                    steps.swap(i, i - 1);
                }
                differ
            });
            for off in [-1, 1] {
                let more = |number: u32| number.wrapping_add_signed(off);
                let groups = refused("other workgroups", &|steps, i| {
                    steps[i].workgroups[0] = more(steps[i].workgroups[0]);
                    true
                });
                assert_eq!(groups, all);
                for (at, (_, word)) in case.0.params.iter().enumerate() {
                    let counts = match word {
                        Word::Value(_)
                        | Word::Float(_)
                        | Word::InputStart(_)
                        | Word::OutputStart => continue,
                        word => format!("another {word:?}"),
                    };
                    refused(&counts, &|steps, i| {
                        steps[i].params[at] = more(steps[i].params[at]);
                        true
                    });
                }
            }
        }
    }
}
