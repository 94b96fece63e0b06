//! The elements that each workgroup of a grid writes: `Grid`'s documentation as slow, plain code.

use fullconv::Shape;
use fullconv::low_level::ops::grid::{Counts, Grid, Line, PixelRun, Region};
use fullconv::low_level::ops::kernel::{Kernel, Word};
use fullconv::low_level::plan::Step;
use std::ops::Range;

/// The value of `word` in the step's `Params`.
pub fn told(kernel: &Kernel, step: &Step, word: Word) -> Option<usize> {
    let at = kernel.params.iter().position(|(_, held)| *held == word)?;
    Some(step.params[at] as usize)
}

/// The part of `output` that a step of `kernel` writes.
pub fn region(kernel: &Kernel, step: &Step, output: Shape) -> Region {
    let quads = output.c4() / kernel.grid.parts();
    let begin = told(kernel, step, Word::ChannelBegin).unwrap_or(0);
    let end = told(kernel, step, Word::ChannelEnd).unwrap_or(quads);
    Region {
        shape: output,
        pixels_per_element: kernel.output.pixels_per_element(),
        rows: step.rows.clone(),
        quads: begin..end,
    }
}

/// The elements of `region` that workgroup number `group` writes if its shader is given `counts`, by their index in the
/// output's memory.
pub fn written(grid: &Grid, region: &Region, counts: &Counts, group: usize) -> Vec<usize> {
    let Region {
        shape,
        pixels_per_element: per,
        rows,
        quads,
    } = region;
    let (w, c4) = (shape.w, shape.c4());
    let pixels = rows.start * w..rows.end * w;
    let element = |pixel: usize, quad: usize| match per {
        1 => pixel * c4 + quad,
        per => pixel / per,
    };
    // The groups of channels of the workgroups with index `tile` along the channels.
    let tile = |tile: usize, channels: usize| -> Range<usize> {
        let first = quads.start + tile * channels / 4;
        first..(first + channels / 4).min(quads.end)
    };
    let each = |pixels: Vec<usize>, quads: Range<usize>| -> Vec<usize> {
        let of = |pixel: usize| quads.clone().map(move |quad| element(pixel, quad));
        pixels.into_iter().flat_map(of).collect()
    };
    match *grid {
        Grid::Elements(elements) => {
            let first = element(pixels.start, 0) + group * elements;
            (first..(first + elements).min(element(pixels.end, 0))).collect()
        }
        Grid::Tiles {
            pixels: of,
            channels,
        } => {
            let first = pixels.start + group % counts.pixel_groups * of;
            let own = (first..(first + of).min(pixels.end)).step_by(*per);
            each(own.collect(), tile(group / counts.pixel_groups, channels))
        }
        Grid::Items {
            items,
            run,
            channels,
        } => {
            let first = group % counts.pixel_groups * items;
            let channels = tile(group / counts.pixel_groups, channels);
            let item = |i| item(&run, region, counts, i, &channels);
            let own = (first..first + items).flat_map(item);
            own.map(|(pixel, quad)| element(pixel, quad)).collect()
        }
        Grid::Planes {
            planes,
            items,
            channels,
        } => {
            let slice = group / counts.pixel_groups;
            let (plane, width) = (slice / counts.channel_groups, w / planes);
            let first = group % counts.pixel_groups * items;
            let own = (first..(first + items).min(rows.len() * width)).filter(|_| plane < planes);
            let pixel = |i: usize| (rows.start + i / width) * w + plane * width + i % width;
            each(
                own.map(pixel).collect(),
                tile(slice % counts.channel_groups, channels),
            )
        }
        Grid::Blocks {
            rows: high,
            columns,
            channels,
            parts,
        } => {
            let slice = group / counts.pixel_groups;
            let block = group % counts.pixel_groups;
            let [x, y] = counts.blocks;
            let height = rows.len().min(shape.h);
            let band = rows.start + block / x / y * shape.h;
            let first = block / x % y * high;
            let own_rows = band + first..band + (first + high).min(height);
            let left = block % x * columns;
            let pixel = |row: usize| (left..(left + columns).min(w)).map(move |x| row * w + x);
            let beside = slice % parts * (c4 / parts);
            let quads = tile(slice / parts, channels);
            each(
                own_rows.flat_map(pixel).collect(),
                quads.start + beside..quads.end + beside,
            )
        }
    }
}

/// The pixels of item `i`, each with its group of channels.
fn item(
    run: &PixelRun,
    region: &Region,
    counts: &Counts,
    i: usize,
    quads: &Range<usize>,
) -> Vec<(usize, usize)> {
    let (lines, pixels) = match run.line {
        Line::Row => (region.rows.len(), region.shape.w),
        Line::Band => (1, region.rows.len() * region.shape.w),
    };
    let (line, in_line) = (i / counts.line_items, i % counts.line_items);
    if line >= lines {
        return Vec::new();
    }
    let (begins, quads) = match run.quads {
        1 => (in_line, quads.clone()),
        all => (in_line / all, in_line % all..in_line % all + 1),
    };
    let first = begins % run.apart + begins / run.apart * run.apart * run.elements;
    let elements = (0..run.elements).map(|j| first + j * run.apart);
    let inside = elements
        .map(|e| e * region.pixels_per_element)
        .filter(|pixel| *pixel < pixels);
    let begin = region.rows.start * region.shape.w + line * pixels;
    inside
        .flat_map(|pixel| quads.clone().map(move |quad| (begin + pixel, quad)))
        .collect()
}
