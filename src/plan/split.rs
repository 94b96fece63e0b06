//! Cuts one kernel into dispatches: bands of rows, shards of the weight, runs of terms, so that no binding,
//! loop or dispatch is longer than the device allows.

use super::coverage;
use super::draft::Operation;
use super::program::Program;
use super::{Bound, Layer, Mirror, PackedParameter, Pipeline, Place, Plan, Read, Step};
use crate::device_profile::TEXEL_ROW_BYTES;
use crate::error::{Result, bail};
use crate::graph::{Graph, NodeId};
use crate::ops::Op;
use crate::ops::grid::{Grid, Region};
use crate::ops::kernel::{Binding, Format, Kernel, MAX_LOOP_STEPS, Packing, Param, Rows, Word};
use crate::target::Target;
use crate::tensor::Shape;
use std::collections::HashMap;
use std::ops::Range;

/// The longest submission, in floating-point operations: watchdogs may count a whole command buffer.
const SUBMIT_FLOPS: u64 = 50_000_000_000;

/// An activation that a kernel reads or writes, and where.
struct BoundView<'a> {
    place: &'a Place,
    /// The activation's rows that the buffer holds.
    held: Range<usize>,
    /// The activation's rows that an output row needs.
    rows: Rows,
    /// Whether it is read as texels.
    texels: bool,
}

/// A part of a buffer and the first element that it shows.
struct Shown {
    bytes: Range<u64>,
    start: u32,
}

impl BoundView<'_> {
    /// The part that `rows` of the output need: all that the buffer holds if one binding may show it, else the
    /// rows needed, from an aligned beginning.
    fn window(&self, rows: &Range<usize>, output: Shape, target: &Target) -> Shown {
        let Place { shape, format, .. } = self.place;
        let at = |row: usize| format.bytes(Shape::new(1, shape.c, row, shape.w));
        let (first, all) = (at(self.held.start), at(self.held.end));
        let (mut begin, mut end) = (first, all);
        if self.texels || all - first > target.device.max_binding_bytes {
            let needed = self.rows.needed(rows.clone(), output, *shape);
            let align = match self.texels {
                true => 1,
                false => target.device.binding_alignment,
            };
            begin += (at(needed.start) - first) / align * align;
            end = at(needed.end).min(all);
        }
        Shown {
            bytes: begin - first..end - first,
            start: (begin / format.element_bytes()) as u32,
        }
    }
}

/// One operation, planned except for its steps.
pub(super) struct PlannedLayer<'a> {
    operation: &'a Operation,
    kernel: &'a Kernel,
    /// Each with its packed parameters.
    shards: Vec<(Shard, Vec<usize>)>,
    term_runs: Vec<Range<usize>>,
    flops: u64,
    layer: usize,
    pipeline: usize,
}

/// The activations that operation `i` reads, for its layer.
fn reads(program: &Program, i: usize) -> Vec<Read> {
    let read = |(tensor, rows)| Read {
        tensor,
        shape: program.shape(tensor),
        format: program.formats[&tensor],
        rows,
    };
    program.reads(i).map(read).collect()
}

/// Plans operation `i`: its layer, its pipeline, its parameters.
pub(super) fn add_layer<'a>(
    plan: &mut Plan,
    program: &'a Program,
    i: usize,
    places: &HashMap<NodeId, Place>,
) -> Result<PlannedLayer<'a>> {
    let (operation, kernel) = (&program.operations[i], &program.kernels[i]);
    let inputs = operation.inputs.iter().map(|id| program.shape(*id));
    let inputs: Vec<_> = inputs.collect();
    let shape = program.shape(operation.id);
    let flops = operation.op.flops(&inputs);
    let shards = shards(kernel, &inputs, shape, program.target)?;
    let least = least_flops(kernel, flops, shape, shards.len());
    let term_runs = term_runs(kernel, least, program.target)?;

    let layer = plan.layers.len();
    let read = program.reads(i).map(|(id, _)| places[&id].bytes());
    let mut bytes = places[&operation.id].bytes() + read.sum::<u64>();
    let shards = shards.into_iter().map(|shard| {
        let parameters = parameters(plan, program.graph, operation, kernel, &inputs, &shard);
        let of_shard = parameters.iter().map(|i| plan.parameters[*i].bytes);
        bytes += of_shard.sum::<u64>();
        (shard, parameters)
    });
    let shards = shards.collect();
    plan.layers.push(Layer {
        name: operation.name.clone(),
        kernel: kernel.shader.name,
        reads: reads(program, i),
        writes: operation.id,
        format: kernel.output,
        shape,
        flops,
        bytes,
        half: kernel.output == Format::Nhwc4Half,
    });
    let pipeline = position_or_push(
        &mut plan.pipelines,
        Pipeline {
            shader: kernel.shader.clone(),
            constants: kernel.constants.clone(),
        },
    );
    Ok(PlannedLayer {
        operation,
        kernel,
        shards,
        term_runs,
        flops,
        layer,
        pipeline,
    })
}

impl PlannedLayer<'_> {
    /// Appends the steps that compute `rows` of the output; `held` gives the rows that the buffer of each activation
    /// holds.
    pub(super) fn add_steps(
        &self,
        plan: &mut Plan,
        rows: &Range<usize>,
        places: &HashMap<NodeId, Place>,
        held: impl Fn(NodeId) -> Range<usize>,
        target: &Target,
    ) -> Result<()> {
        let view = |id: NodeId, rows: Rows, texels: bool| BoundView {
            place: &places[&id],
            held: held(id),
            rows,
            texels,
        };
        let inputs = self.kernel.bindings.iter().filter_map(|binding| {
            let (input, _, rows) = binding.activation()?;
            Some(view(
                self.operation.inputs[input],
                rows,
                binding.is_texels(),
            ))
        });
        let output = view(self.operation.id, Rows::shifted(0), false);
        let cut = Cut {
            kernel: self.kernel,
            output: output.place,
            views: inputs.chain([output]).collect(),
            flops: self.flops,
            target,
        };
        let bands = cut.bands(rows, self.shards.len() * self.term_runs.len())?;
        let first = plan.steps.len();
        for (shard, parameters) in &self.shards {
            for band in &bands {
                for terms in &self.term_runs {
                    let part = CutPart { shard, band, terms };
                    let step = cut.step(&part, parameters, self.pipeline, self.layer)?;
                    push_step(plan, step);
                }
            }
        }
        coverage::check(self.kernel, cut.output.shape, rows, &plan.steps[first..])
    }
}

/// Appends a step. Ends the submission before the step if it would grow too long, or if outputs are read back there.
/// Does not repeat the last mirror copy of the same layer.
fn push_step(plan: &mut Plan, mut step: Step) {
    if let Some(mirror) = &step.mirror {
        plan.mirror_bytes = plan.mirror_bytes.max(mirror.bytes.end - mirror.bytes.start);
        let steps = plan.steps.iter().rev();
        let mut before = steps.take_while(|s| s.layer == step.layer);
        if before.find_map(|s| s.mirror.as_ref()) == Some(mirror) {
            step.mirror = None;
        }
    }
    let pending = plan.steps.iter().rev().take_while(|s| !s.ends_submit);
    let pending: u64 = pending.map(|s| s.flops).sum();
    let reads_back = plan
        .read_backs
        .last()
        .is_some_and(|r| r.after == plan.steps.len());
    if (pending + step.flops > SUBMIT_FLOPS || reads_back)
        && let Some(last) = plan.steps.last_mut()
    {
        last.ends_submit = true;
    }
    plan.steps.push(step);
}

fn position_or_push<T: PartialEq>(all: &mut Vec<T>, one: T) -> usize {
    all.iter().position(|x| *x == one).unwrap_or_else(|| {
        all.push(one);
        all.len() - 1
    })
}

/// A run of weight tiles that fits one binding, and the output channels in groups of four that it makes.
struct Shard {
    tiles: Range<usize>,
    channels: Range<usize>,
}

fn shards(kernel: &Kernel, inputs: &[Shape], output: Shape, target: &Target) -> Result<Vec<Shard>> {
    let most_of_buffer = target
        .device
        .max_binding_bytes
        .min(target.device.max_buffer_bytes);
    let parameters = kernel.bindings.iter().filter_map(|binding| {
        let (input, packing) = binding.parameter()?;
        Some((packing, inputs[input], binding))
    });
    let (whole, cut): (Vec<_>, Vec<_>) = parameters.partition(|(packing, ..)| packing.is_whole());
    for (packing, parameter, _) in whole {
        let bytes = packing.tile_bytes(parameter);
        if bytes > most_of_buffer {
            bail!(
                Limit,
                "a parameter of shape {parameter} takes {} MiB; the device binds at most {} MiB",
                bytes >> 20,
                most_of_buffer >> 20
            );
        }
    }
    let weight = cut.into_iter().next();
    let channels = output.c4() / kernel.grid.parts();
    let Some((packing, weight, binding)) = weight else {
        return Ok(vec![Shard {
            tiles: 0..1,
            channels: 0..channels,
        }]);
    };
    let tile_bytes = packing.tile_bytes(weight) / 4 * binding.parameter_element_bytes();
    let most = match binding.is_texels() {
        true => target.max_texel_bytes(),
        false => most_of_buffer,
    };
    if tile_bytes > most {
        bail!(
            Limit,
            "{} output channels have {} MiB of weights; the device binds at most {} MiB",
            packing.tile_channels(),
            tile_bytes >> 20,
            most >> 20
        );
    }
    let tiles = packing.tiles(weight);
    let per_shard = (most / tile_bytes) as usize;
    let tile4 = packing.tile_channels() / 4;
    Ok((0..tiles)
        .step_by(per_shard)
        .map(|first| {
            let last = (first + per_shard).min(tiles);
            Shard {
                tiles: first..last,
                channels: first * tile4..(last * tile4).min(channels),
            }
        })
        .collect())
}

/// The fewest rows that make a band worthwhile: those of a block, or of an image if it has fewer.
fn rows_at_once(kernel: &Kernel, output: Shape) -> usize {
    match kernel.grid {
        Grid::Blocks { rows, .. } => rows.min(output.h).max(1),
        _ => 1,
    }
}

/// The work of the smallest worthwhile dispatch, with all terms, if all rows and shards take `flops`.
fn least_flops(kernel: &Kernel, flops: u64, output: Shape, shards: usize) -> u64 {
    let rows = output.n * output.h * shards;
    flops / rows.max(1) as u64 * rows_at_once(kernel, output) as u64
}

/// Whether a kernel of `op` can keep its dispatches short: it adds up runs of terms, or its smallest worthwhile
/// dispatch is short enough with all terms.
pub(super) fn is_short(op: &dyn Op, kernel: &Kernel, inputs: &[Shape], target: &Target) -> bool {
    let of = |output| least_flops(kernel, op.flops(inputs), output, 1);
    kernel.terms.is_some() || op.output_shape(inputs).map_or(0, of) <= target.device.dispatch_flops
}

/// How many runs of terms a kernel of `op` takes on `device`.
pub(super) fn runs(
    op: &dyn Op,
    kernel: &Kernel,
    inputs: &[Shape],
    output: Shape,
    target: &Target,
) -> Result<usize> {
    let shards = shards(kernel, inputs, output, target)?.len();
    Ok(term_runs(
        kernel,
        least_flops(kernel, op.flops(inputs), output, shards),
        target,
    )?
    .len())
}

/// The size of a band of at most `count` rows, in blocks of `rows` rows, that begins at row `y` of an image of
/// `height` rows: whole images, or a part of one that leaves the rest to bands of the same size.
fn whole_blocks(y: usize, count: usize, rows: usize, height: usize) -> usize {
    if y == 0 && count >= height {
        return count / height * height;
    }
    let rest = height - y;
    // If not even a block fits, bands end where blocks end: no band lies in two blocks.
    if !y.is_multiple_of(rows) {
        return count.min(rows - y % rows).min(rest);
    }
    if count >= rest {
        return rest;
    }
    if count < rows {
        return count;
    }
    let bands = rest.div_ceil(count / rows.min(count) * rows.min(count));
    let even = rest.div_ceil(bands).next_multiple_of(rows);
    even.min(count)
}

/// Runs of terms, each short enough for the loops of an invocation and for one dispatch of the fewest worthwhile
/// rows, whose work with all terms is `flops`.
fn term_runs(kernel: &Kernel, flops: u64, target: &Target) -> Result<Vec<Range<usize>>> {
    let steps = kernel.steps_per_term.max(1);
    let per_run = MAX_LOOP_STEPS.saturating_sub(kernel.fixed_steps) / steps;
    if per_run == 0 {
        bail!(
            Unsupported,
            "a window this large takes {} steps in one invocation; at most {MAX_LOOP_STEPS} run",
            steps.saturating_add(kernel.fixed_steps)
        );
    }
    // A kernel that cannot add up runs of terms has one term, the whole sum.
    let terms = kernel.terms.unwrap_or(1);
    let in_time = terms as u64 / flops.div_ceil(target.device.dispatch_flops).max(1);
    let most = per_run.min(in_time.max(1)) as usize;
    // Of equal length, as bands are planned for.
    let per_run = terms.div_ceil(terms.div_ceil(most).max(1)).max(1);
    Ok((0..terms)
        .step_by(per_run)
        .map(|first| first..(first + per_run).min(terms))
        .collect())
}

/// The packed parameters of one shard, one for each parameter binding.
fn parameters(
    plan: &mut Plan,
    graph: &Graph,
    operation: &Operation,
    kernel: &Kernel,
    inputs: &[Shape],
    shard: &Shard,
) -> Vec<usize> {
    let mut packed = Vec::new();
    for binding in &kernel.bindings {
        let parameter = match *binding {
            Binding::Activation { .. } | Binding::ActivationTexels { .. } => continue,
            Binding::Parameter { input, packing }
            | Binding::ParameterHalf { input, packing }
            | Binding::ParameterTexels { input, packing } => {
                let tiles = match packing.is_whole() {
                    true => 0..1,
                    false => shard.tiles.clone(),
                };
                let element_bytes = binding.parameter_element_bytes();
                PackedParameter {
                    name: Some(graph.node(operation.inputs[input]).name.clone()),
                    packing,
                    bytes: packing.tile_bytes(inputs[input]) / 4
                        * element_bytes
                        * tiles.len() as u64,
                    tiles,
                    texels: binding.is_texels(),
                    half: element_bytes == 2,
                }
            }
            Binding::Zeros { channels } => PackedParameter {
                name: None,
                packing: Packing::Vector,
                tiles: 0..1,
                bytes: Packing::Vector.tile_bytes(Shape::vector(channels)),
                texels: false,
                half: false,
            },
        };
        packed.push(position_or_push(&mut plan.parameters, parameter));
    }
    packed
}

/// The part of the output that a step computes.
struct CutPart<'a> {
    shard: &'a Shard,
    band: &'a Range<usize>,
    terms: &'a Range<usize>,
}

/// A kernel, and everything that its cut depends on.
struct Cut<'a> {
    kernel: &'a Kernel,
    /// The activations at the kernel's bindings, in order, then the output.
    views: Vec<BoundView<'a>>,
    output: &'a Place,
    flops: u64,
    target: &'a Target,
}

impl Cut<'_> {
    /// Bands of the output's `rows`, as few as the limits allow, when each is computed in `parts` dispatches.
    fn bands(&self, rows: &Range<usize>, parts: usize) -> Result<Vec<Range<usize>>> {
        let shape = self.output.shape;
        // Labels are written four at a time: a band begins at a multiple of four pixels.
        let unit = match self.output.format {
            Format::Labels8 if !shape.w.is_multiple_of(4) => 4,
            _ => 1,
        };
        let row_flops = self.flops / (shape.n * shape.h * parts).max(1) as u64;
        let least_rows = rows_at_once(self.kernel, shape) as u64;
        let most_rows = self.target.device.dispatch_flops / row_flops.max(1);
        let most_rows = most_rows.clamp(least_rows, u64::from(u32::MAX)) as usize;
        let mut bands = Vec::new();
        let mut begin = rows.start;
        while begin < rows.end {
            let mut count = most_rows.min(rows.end - begin);
            while !self.fits(&(begin..begin + count)) {
                if count <= unit {
                    bail!(
                        Limit,
                        "{unit} rows of {shape} need a larger binding than the device's {} MiB: use a \
                         smaller picture",
                        self.target.device.max_binding_bytes >> 20
                    );
                }
                count -= (count / 8).max(1);
            }
            if begin + count < rows.end {
                count = (count / unit * unit).max(unit).min(rows.end - begin);
            }
            if let Grid::Blocks { rows, .. } = self.kernel.grid {
                count = whole_blocks(begin % shape.h, count, rows, shape.h);
            }
            bands.push(begin..begin + count);
            begin += count;
        }
        Ok(bands)
    }

    fn window(&self, view: &BoundView, band: &Range<usize>) -> Shown {
        view.window(band, self.output.shape, self.target)
    }

    fn fits(&self, band: &Range<usize>) -> bool {
        self.views.iter().all(|view| {
            let bytes = self.window(view, band).bytes;
            let most = match view.texels {
                true => self
                    .target
                    .max_texel_bytes()
                    .saturating_sub(TEXEL_ROW_BYTES),
                false => self.target.device.max_binding_bytes,
            };
            bytes.end - bytes.start <= most
        })
    }

    fn step(
        &self,
        part: &CutPart,
        parameters: &[usize],
        pipeline: usize,
        layer: usize,
    ) -> Result<Step> {
        let mut bindings = Vec::with_capacity(self.kernel.bindings.len() + 1);
        let mut starts = Vec::with_capacity(self.kernel.bindings.len() + 1);
        let (mut views, mut parameters) = (self.views.iter(), parameters.iter());
        let mut mirror = None;
        let outputs = std::iter::once(true);
        let is_activation = |b: &Binding| b.activation().is_some();
        for activation in self
            .kernel
            .bindings
            .iter()
            .map(is_activation)
            .chain(outputs)
        {
            if !activation {
                bindings.extend(parameters.next().map(|p| Bound::Parameter(*p)));
                starts.push(0);
            } else if let Some(view) = views.next() {
                let window = self.window(view, part.band);
                starts.push(window.start);
                let (slot, bytes, start) = (view.place.slot, window.bytes, window.start);
                bindings.push(match view.texels {
                    true => {
                        mirror = Some(Mirror { slot, bytes });
                        Bound::Mirror { start }
                    }
                    false => Bound::Slot { slot, bytes, start },
                });
            }
        }
        let output_start = starts.last().copied().unwrap_or(0);
        let counts = self.kernel.grid.counts(&self.region(part));
        let word = |(_, word): &Param| match *word {
            Word::Value(value) => value,
            Word::Float(value) => value.to_bits(),
            Word::RowBegin => part.band.start as u32,
            Word::RowEnd => part.band.end as u32,
            Word::ChannelBegin => part.shard.channels.start as u32,
            Word::ChannelEnd => part.shard.channels.end as u32,
            Word::TermBegin => part.terms.start as u32,
            Word::TermEnd => part.terms.end as u32,
            Word::InputStart(binding) => starts[binding],
            Word::OutputStart => output_start,
            Word::Count(count) => counts.get(count) as u32,
        };
        Ok(Step {
            layer,
            pipeline,
            mirror,
            bindings,
            params: self.kernel.params.iter().map(word).collect(),
            rows: part.band.clone(),
            workgroups: self.fold(counts.workgroups())?,
            flops: self.part_flops(part),
            ends_submit: false,
        })
    }

    /// This part's share of the layer's work.
    fn part_flops(&self, part: &CutPart) -> u64 {
        let shape = self.output.shape;
        let share = |part: usize, all: usize| part as f64 / all.max(1) as f64;
        let share = share(part.band.len(), shape.n * shape.h)
            * share(
                part.shard.channels.len(),
                shape.c4() / self.kernel.grid.parts(),
            )
            * share(part.terms.len(), self.kernel.terms.unwrap_or(1));
        (self.flops as f64 * share) as u64
    }

    /// The region that a part writes.
    fn region(&self, part: &CutPart) -> Region {
        Region {
            shape: self.output.shape,
            pixels_per_element: self.output.format.pixels_per_element(),
            rows: part.band.clone(),
            quads: part.shard.channels.clone(),
        }
    }

    fn fold(&self, workgroups: usize) -> Result<[u32; 2]> {
        match self.target.device.fold(workgroups) {
            Some(folded) => Ok(folded),
            None => bail!(
                Limit,
                "{workgroups} workgroups are more than the device runs in one dispatch"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::whole_blocks;

    #[test]
    fn bands_of_blocks_are_whole_images_or_lie_in_one() {
        // Images of 20 rows in blocks of 8.
        assert_eq!(whole_blocks(0, 60, 8, 20), 60);
        assert_eq!(whole_blocks(0, 59, 8, 20), 40);
        assert_eq!(whole_blocks(0, 19, 8, 20), 16);
        assert_eq!(whole_blocks(16, 40, 8, 20), 4);
        assert_eq!(whole_blocks(8, 9, 8, 20), 8);
        // Fewer than a block fit.
        assert_eq!(whole_blocks(0, 5, 8, 20), 5);
        assert_eq!(whole_blocks(3, 5, 8, 20), 5);
        assert_eq!(whole_blocks(18, 5, 8, 20), 2);
        assert_eq!(whole_blocks(13, 13, 16, 17), 3);
    }

    #[test]
    fn bands_of_blocks_are_even() {
        assert_eq!(whole_blocks(0, 38, 8, 44), 24);
        assert_eq!(whole_blocks(24, 38, 8, 44), 20);
        assert_eq!(whole_blocks(0, 155, 8, 698), 144);
    }
}
