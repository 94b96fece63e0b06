//! What one workgroup of a kernel writes, and the workgroup counts of a dispatch that follow from it.
//!
//! A shader finds its place in the output from its workgroup's index and the workgroup counts along the grid's axes.
//! One function computes these counts, [`Grid::counts`]: the planner dispatches them, and the shader reads them in its
//! `Params`, as [`Word::Count`]. Before a plan is returned, [`Grid::check`] proves that the workgroups of every
//! dispatch write each element exactly once.
//!
//! [`Word::Count`]: crate::ops::kernel::Word::Count

use crate::tensor::Shape;
use std::ops::Range;

/// What one workgroup writes.
///
/// An *element* is the value at one index of the output buffer: four channels of a pixel, or four pixels of labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// `.0` elements, consecutive in memory.
    Elements(usize),
    /// `pixels` pixels, consecutive in memory, of `channels` output channels.
    Tiles {
        /// Pixels a workgroup.
        pixels: usize,
        /// Output channels a workgroup, a multiple of 4.
        channels: usize,
    },
    /// `items` items, counted line by line, of `channels` output channels.
    Items {
        /// Items a workgroup.
        items: usize,
        /// The elements of a line that an item writes.
        run: PixelRun,
        /// Output channels a workgroup, a multiple of 4.
        channels: usize,
    },
    /// `items` pixels of one plane, counted row by row, of `channels` output channels. Each row of the output holds
    /// `planes` planes of equal width side by side.
    Planes {
        /// How many planes there are.
        planes: usize,
        /// Pixels a workgroup.
        items: usize,
        /// Output channels a workgroup, a multiple of 4.
        channels: usize,
    },
    /// A block of pixels of one image, of `channels` output channels. A dispatch covers rows of one image, or whole
    /// images.
    Blocks {
        /// Rows a block.
        rows: usize,
        /// Columns a block.
        columns: usize,
        /// Output channels a workgroup, a multiple of 4.
        channels: usize,
        /// Partial sums of each channel, each by workgroups of its own. The output holds all channels of the first
        /// partial sums, then those of the second, and so on.
        parts: usize,
    },
}

/// The elements of a line that an item writes: `elements` of them, `apart` from each other. Items `0..apart` begin at
/// the line's first `apart` elements; the next `apart` items begin `elements · apart` elements later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelRun {
    /// Elements of an item.
    pub elements: usize,
    /// Distance between neighbouring elements of an item.
    pub apart: usize,
    /// Items that share a run, each for one group of four channels; 1 if an item writes all channels of its workgroup.
    pub quads: usize,
    /// Whether a line is a row or the whole band.
    pub line: Line,
}

impl PixelRun {
    /// Neighbouring elements of a row.
    pub const fn of_row(elements: usize) -> Self {
        Self {
            elements,
            apart: 1,
            quads: 1,
            line: Line::Row,
        }
    }

    /// Items of a line of `length` elements.
    const fn items(&self, length: usize) -> usize {
        self.quads * self.apart * length.div_ceil(self.apart * self.elements)
    }
}

/// The pixels along which items are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// A row of the output.
    Row,
    /// All rows of a dispatch, joined.
    Band,
}

/// A count of a grid that a shader reads in its `Params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Workgroups that write the same channels of different pixels.
    PixelGroups,
    /// Workgroups that write different channels of the same pixels.
    ChannelGroups,
    /// Blocks side by side.
    BlocksX,
    /// Blocks of one image, one below the other.
    BlocksY,
    /// Items of a line.
    LineItems,
    /// Pixels of a line.
    LinePixels,
}

impl Count {
    /// The counts that a shader needs for a grid of blocks.
    pub const OF_BLOCKS: [Self; 3] = [Self::BlocksX, Self::BlocksY, Self::PixelGroups];

    /// Its name among a shader's `Params`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PixelGroups => "pixel_groups",
            Self::ChannelGroups => "channel_groups",
            Self::BlocksX => "blocks_x",
            Self::BlocksY => "blocks_y",
            Self::LineItems => "line_items",
            Self::LinePixels => "line_pixels",
        }
    }
}

/// The part of an output that one dispatch writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The output's shape.
    pub shape: Shape,
    /// Pixels an element: 4 of labels, else 1.
    pub pixels_per_element: usize,
    /// The rows, counted through the batch.
    pub rows: Range<usize>,
    /// The groups of four channels, within each part if there are several ([`Grid::parts`]).
    pub quads: Range<usize>,
}

impl Region {
    fn pixels(&self) -> usize {
        self.rows.len() * self.shape.w
    }

    /// Elements that hold `pixels` pixels of one group of channels.
    fn elements(&self, pixels: usize) -> usize {
        pixels.div_ceil(self.pixels_per_element)
    }

    /// Elements of all pixels and channels.
    fn all_elements(&self) -> usize {
        self.elements(self.pixels() * self.quads.len())
    }

    /// The number of lines, and the elements and pixels of one line.
    fn lines(&self, line: Line) -> Lines {
        let (count, pixels) = match line {
            Line::Row => (self.rows.len(), self.shape.w),
            Line::Band => (1, self.pixels()),
        };
        Lines {
            count,
            pixels,
            elements: self.elements(pixels),
        }
    }

    /// The dispatch's rows per image, and its number of images.
    fn images(&self) -> (usize, usize) {
        let height = self.rows.len().min(self.shape.h).max(1);
        (height, self.rows.len() / height)
    }
}

struct Lines {
    count: usize,
    pixels: usize,
    elements: usize,
}

/// Workgroups along the axes of a grid, for one dispatch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// [`Count::PixelGroups`].
    pub pixel_groups: usize,
    /// [`Count::ChannelGroups`].
    pub channel_groups: usize,
    /// [`Count::BlocksX`] and [`Count::BlocksY`]; zeros where there are no blocks.
    pub blocks: [usize; 2],
    /// [`Count::LineItems`]; 0 where there are no items.
    pub line_items: usize,
    /// [`Count::LinePixels`]; 0 where there are no items.
    pub line_pixels: usize,
    /// Parts or planes.
    pub layers: usize,
}

impl Counts {
    /// One count by its name.
    pub const fn get(&self, count: Count) -> usize {
        match count {
            Count::PixelGroups => self.pixel_groups,
            Count::ChannelGroups => self.channel_groups,
            Count::BlocksX => self.blocks[0],
            Count::BlocksY => self.blocks[1],
            Count::LineItems => self.line_items,
            Count::LinePixels => self.line_pixels,
        }
    }

    /// The same counts with one replaced.
    #[must_use]
    pub const fn with(mut self, count: Count, number: usize) -> Self {
        match count {
            Count::PixelGroups => self.pixel_groups = number,
            Count::ChannelGroups => self.channel_groups = number,
            Count::BlocksX => self.blocks[0] = number,
            Count::BlocksY => self.blocks[1] = number,
            Count::LineItems => self.line_items = number,
            Count::LinePixels => self.line_pixels = number,
        }
        self
    }

    /// All workgroups of the dispatch.
    pub const fn workgroups(&self) -> usize {
        self.pixel_groups * self.channel_groups * self.layers
    }
}

impl Grid {
    /// Partial sums of each channel in the output.
    pub const fn parts(&self) -> usize {
        match self {
            Self::Blocks { parts, .. } => *parts,
            _ => 1,
        }
    }

    /// Parts or planes; each takes the workgroups of all other axes.
    const fn layers(&self) -> usize {
        match self {
            Self::Blocks { parts, .. } => *parts,
            Self::Planes { planes, .. } => *planes,
            _ => 1,
        }
    }

    /// Output channels a workgroup; `None` if its elements may be of any channels.
    pub const fn channels(&self) -> Option<usize> {
        match *self {
            Self::Elements(_) => None,
            Self::Tiles { channels, .. }
            | Self::Items { channels, .. }
            | Self::Planes { channels, .. }
            | Self::Blocks { channels, .. } => Some(channels),
        }
    }

    /// The counts that a shader needs to find its place; with `shares_channels`, several workgroups share the channels.
    const fn told(&self, shares_channels: bool) -> &'static [Count] {
        match self {
            Self::Elements(_) => &[],
            Self::Tiles { .. } if shares_channels => &[Count::PixelGroups],
            Self::Tiles { .. } => &[],
            Self::Items { .. } if shares_channels => &[Count::LineItems, Count::PixelGroups],
            Self::Items { .. } => &[Count::LineItems],
            Self::Planes { .. } => &[Count::PixelGroups, Count::ChannelGroups],
            Self::Blocks { .. } => &Count::OF_BLOCKS,
        }
    }

    /// The workgroups of a dispatch that writes `region`.
    pub fn counts(&self, region: &Region) -> Counts {
        let channel_groups = |channels: usize| (4 * region.quads.len()).div_ceil(channels);
        let all = Counts {
            layers: self.layers(),
            channel_groups: self.channels().map_or(1, channel_groups),
            ..Counts::default()
        };
        match *self {
            Self::Elements(elements) => Counts {
                pixel_groups: region.all_elements().div_ceil(elements),
                ..all
            },
            Self::Tiles { pixels, .. } => Counts {
                pixel_groups: region.pixels().div_ceil(pixels),
                ..all
            },
            Self::Items { items, run, .. } => {
                let lines = region.lines(run.line);
                let line_items = run.items(lines.elements);
                Counts {
                    pixel_groups: (lines.count * line_items).div_ceil(items),
                    line_items,
                    line_pixels: lines.pixels,
                    ..all
                }
            }
            Self::Planes { planes, items, .. } => Counts {
                pixel_groups: (region.pixels() / planes).div_ceil(items),
                ..all
            },
            Self::Blocks { rows, columns, .. } => {
                let (height, images) = region.images();
                let blocks = [region.shape.w.div_ceil(columns), height.div_ceil(rows)];
                Counts {
                    pixel_groups: images * blocks[0] * blocks[1],
                    blocks,
                    ..all
                }
            }
        }
    }

    /// Whether a dispatch of `x · y` workgroups, whose shader reads `told`, writes every element of `region` exactly
    /// once.
    ///
    /// Every count comes from `told`, as in a shader, and is compared with what one workgroup writes; [`Grid::counts`]
    /// is not used.
    ///
    /// # Errors
    /// The elements that are not written, or written twice, in one line.
    pub fn check(
        &self,
        region: &Region,
        told: impl Fn(Count) -> Option<usize>,
        [x, y]: [u32; 2],
    ) -> Result<(), String> {
        let all_channels = 4 * region.quads.len();
        let channels = self.channels().unwrap_or(all_channels);
        let missing = |count: &&Count| told(**count).is_none();
        if let Some(count) = self.told(channels < all_channels).iter().find(missing) {
            return Err(format!("its shader is not told {}", count.name()));
        }
        let check = Check { region, told };
        let channel_groups =
            check.groups("channels", Count::ChannelGroups, channels, all_channels)?;
        let (pixel_groups, layers) = (check.pixel_groups(self)?, self.layers());
        let needed = pixel_groups * channel_groups * layers;
        // A dispatch in two dimensions may have a few surplus workgroups, past the end of the outermost axis.
        let (all, most) = (x as usize * y as usize, needed + y as usize);
        match (needed..most).contains(&all) {
            true => Ok(()),
            false => Err(format!(
                "{x} · {y} workgroups are dispatched where {needed} write all"
            )),
        }
    }
}

/// Compares the counts that a shader reads with the region that its workgroups write.
struct Check<'a, T> {
    region: &'a Region,
    told: T,
}

impl<T: Fn(Count) -> Option<usize>> Check<'_, T> {
    fn told(&self, count: Count) -> usize {
        (self.told)(count).unwrap_or(0)
    }

    /// Pieces of `size` that cover `all`: the shader's count, checked, or the needed number if the shader reads none.
    fn groups(&self, what: &str, count: Count, size: usize, all: usize) -> Result<usize, String> {
        let Some(groups) = (self.told)(count) else {
            return Ok(all.div_ceil(size));
        };
        covers(what, groups, size, all)?;
        Ok(groups)
    }

    /// The workgroups that write different pixels of the same channels.
    fn pixel_groups(&self, grid: &Grid) -> Result<usize, String> {
        let of = |what, size, all| self.groups(what, Count::PixelGroups, size, all);
        match *grid {
            Grid::Elements(elements) => of("elements", elements, self.region.all_elements()),
            Grid::Tiles { pixels, .. } => {
                self.check_whole(pixels)?;
                of("pixels", pixels, self.region.pixels())
            }
            Grid::Items {
                items,
                run,
                channels,
            } => of("items", items, self.items(&run, channels)?),
            Grid::Planes { planes, items, .. } => {
                let width = self.region.shape.w;
                if !width.is_multiple_of(planes) {
                    return Err(format!("{planes} planes do not divide {width} columns"));
                }
                of("pixels of a plane", items, self.region.pixels() / planes)
            }
            Grid::Blocks { rows, columns, .. } => of("blocks", 1, self.blocks(rows, columns)?),
        }
    }

    /// The number of items, if together they write every element of every line once.
    fn items(&self, run: &PixelRun, channels: usize) -> Result<usize, String> {
        let (lines, quads) = (self.region.lines(run.line), self.region.quads.len());
        if run.quads > 1 && (run.quads != quads || channels != 4 * quads) {
            return Err(format!(
                "items of {} groups of channels, not {quads}",
                run.quads
            ));
        }
        if run.line == Line::Row {
            self.check_whole(lines.pixels)?;
        }
        if (self.told)(Count::LinePixels).is_some_and(|pixels| pixels != lines.pixels) {
            return Err(format!(
                "lines of {} pixels, not {}",
                self.told(Count::LinePixels),
                lines.pixels
            ));
        }
        let (line_items, beside) = (self.told(Count::LineItems), run.apart * run.quads);
        if !line_items.is_multiple_of(beside) {
            return Err(format!(
                "{line_items} items of a line are no multiple of {beside}"
            ));
        }
        let runs = line_items / beside;
        covers(
            "elements of a line",
            runs,
            run.apart * run.elements,
            lines.elements,
        )?;
        Ok(lines.count * line_items)
    }

    /// The number of blocks, if they cover the region's rows and columns and no more.
    fn blocks(&self, rows: usize, columns: usize) -> Result<usize, String> {
        let (region, height) = (self.region, self.region.shape.h);
        let (band, images) = region.images();
        let first = region.rows.start % height;
        let in_one = first + region.rows.len() <= height;
        let whole = first == 0 && images * height == region.rows.len();
        if !in_one && !whole {
            return Err(format!(
                "rows {:?} neither lie in one image of {height} rows nor are all of some images",
                region.rows
            ));
        }
        let [x, y] = [Count::BlocksX, Count::BlocksY].map(|count| self.told(count));
        covers("columns", x, columns, region.shape.w)?;
        // Some shaders count blocks from the band's first row, others from the image's: both counts must agree.
        let spanned = (first + band - 1) / rows - first / rows + 1;
        match y == spanned {
            true => Ok(images * x * y),
            false => Err(format!(
                "rows {:?} lie in {spanned} blocks of {rows} rows, not in {y}",
                region.rows
            )),
        }
    }

    /// An error unless `pixels` pixels are whole elements.
    fn check_whole(&self, pixels: usize) -> Result<(), String> {
        match pixels.is_multiple_of(self.region.pixels_per_element) {
            true => Ok(()),
            false => Err(format!(
                "{pixels} pixels end within an element of {}",
                self.region.pixels_per_element
            )),
        }
    }
}

/// An error unless `count` pieces of `size` cover `all` without a surplus piece.
fn covers(what: &str, count: usize, size: usize, all: usize) -> Result<(), String> {
    let end = count * size;
    if end < all {
        return Err(format!(
            "{what} {end} to {all} are not written: {count} workgroups or items write {size} each"
        ));
    }
    if count == 0 || end - size >= all {
        return Err(format!(
            "{count} times {size} {what} are more than {all} need"
        ));
    }
    Ok(())
}
