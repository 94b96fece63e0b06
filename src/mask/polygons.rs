//! The outlines of a class in a mask.

use super::Mask;
use crate::size::Size;

/// The directions along the edges of pixels: right, down, left, up.
const STEPS: [(isize, isize); 4] = [(1, 0), (0, 1), (-1, 0), (0, -1)];

impl Mask {
    /// The outlines of class `id`, as rings of corners of pixels: `[x0, y0, x1, y1, …]`, x to the right, y down, `[0, 0]`
    /// the upper left corner of the picture.
    ///
    /// The class lies to the right of each edge: outer rings go clockwise as one sees them, those of holes the other
    /// way. Pixels that touch only at a corner belong to different rings. Filled by the even-odd rule, the rings are
    /// exactly the class's pixels.
    ///
    /// ```
    /// use fullconv::{Mask, Palette, Size};
    /// let mask = Mask::new(Size::new(2, 2), vec![0, 1, 0, 1], [].into(), Palette::voc(2))?;
    /// assert_eq!(mask.polygons(1), [[1, 0, 2, 0, 2, 2, 1, 2]]);
    /// # Ok::<(), fullconv::Error>(())
    /// ```
    pub fn polygons(&self, id: u8) -> Vec<Vec<usize>> {
        let outline = Outline { mask: self, id };
        let Size { height, width } = self.size;
        // Upper edges of pixels, each the begin of the edge to the right: every ring has one.
        let mut is_seen = vec![false; height * width];
        let mut rings = Vec::new();
        for y in 0..height {
            for x in 0..width {
                if !is_seen[y * width + x] && outline.has(x, y) && !outline.is_below_class(x, y) {
                    rings.push(outline.ring(x, y, &mut is_seen));
                }
            }
        }
        rings
    }
}

struct Outline<'a> {
    mask: &'a Mask,
    id: u8,
}

impl Outline<'_> {
    /// Whether the pixel at column `x` and row `y` is of the class.
    fn has(&self, x: usize, y: usize) -> bool {
        let Size { height, width } = self.mask.size;
        x < width && y < height && self.mask.labels[y * width + x] == self.id
    }

    fn is_below_class(&self, x: usize, y: usize) -> bool {
        y > 0 && self.has(x, y - 1)
    }

    /// The pixels to the left and the right of an edge that leaves corner (x, y) in a direction.
    fn sides(&self, x: usize, y: usize, direction: usize) -> [bool; 2] {
        let pixel = |dx: usize, dy: usize| x >= dx && y >= dy && self.has(x - dx, y - dy);
        let [nw, ne, sw, se] = [pixel(1, 1), pixel(0, 1), pixel(1, 0), pixel(0, 0)];
        match direction {
            0 => [ne, se],
            1 => [se, sw],
            2 => [sw, nw],
            _ => [nw, ne],
        }
    }

    /// The ring that begins with the upper edge of the pixel at column `x` and row `y`. Marks its upper edges.
    fn ring(&self, x: usize, y: usize, is_seen: &mut [bool]) -> Vec<usize> {
        let width = self.mask.size.width;
        let start = (x, y);
        let (mut x, mut y, mut direction) = (x, y, 0);
        let mut ring = vec![x, y];
        loop {
            if direction == 0 {
                is_seen[y * width + x] = true;
            }
            let (dx, dy) = STEPS[direction];
            x = x.wrapping_add_signed(dx);
            y = y.wrapping_add_signed(dy);
            // The sharpest turn to the right first: pixels that touch at a corner stay apart.
            let turns = [1, 0, 3].map(|turn| (direction + turn) % 4);
            let is_edge = |next: &usize| self.sides(x, y, *next) == [false, true];
            let next = turns.into_iter().find(is_edge).unwrap_or(direction);
            if (x, y) == start && next == 0 {
                break;
            }
            if next != direction {
                ring.extend([x, y]);
            }
            direction = next;
        }
        ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mask::Palette;

    fn mask(height: usize, width: usize, label: impl Fn(usize) -> u8) -> Mask {
        let labels = (0..height * width).map(label).collect();
        Mask::new(Size::new(height, width), labels, [].into(), Palette::voc(3)).unwrap()
    }

    /// Whether the centre of a pixel is inside, by the even-odd rule: a ray to the right crosses an odd number of edges.
    fn is_inside(rings: &[Vec<usize>], x: usize, y: usize) -> bool {
        let mut crossings = 0;
        for ring in rings {
            let corners = ring.as_chunks::<2>().0;
            for (i, [ax, ay]) in corners.iter().enumerate() {
                let [bx, by] = corners[(i + 1) % corners.len()];
                assert!(*ax == bx || *ay == by, "edges are along the pixels");
                let crosses = *ax == bx && *ax > x && (*ay.min(&by)..*ay.max(&by)).contains(&y);
                crossings += usize::from(crosses);
            }
        }
        crossings % 2 == 1
    }

    #[test]
    fn filled_rings_are_the_pixels() {
        for label in [
            (|i| (i * i % 7 % 3) as u8) as fn(usize) -> u8,
            |i| u8::from(i % 2 == 0),
            |i| u8::from(i / 29 % 9 > 1 && i % 29 % 7 > 1),
            |_| 1,
            |_| 0,
        ] {
            let mask = mask(23, 29, label);
            for id in 0..3 {
                let rings = mask.polygons(id);
                for (y, x) in (0..23).flat_map(|y| (0..29).map(move |x| (y, x))) {
                    let of_class = mask.labels()[y * 29 + x] == id;
                    assert_eq!(
                        is_inside(&rings, x, y),
                        of_class,
                        "class {id} at ({x}, {y})"
                    );
                }
            }
        }
    }

    #[test]
    fn a_hole_has_a_ring_of_its_own_and_corners_do_not_join() {
        let ring = mask(3, 3, |i| u8::from(i != 4)).polygons(1);
        assert_eq!(
            ring,
            [vec![0, 0, 3, 0, 3, 3, 0, 3], vec![1, 2, 2, 2, 2, 1, 1, 1]]
        );
        let diagonal = mask(2, 2, |i| u8::from(i == 0 || i == 3)).polygons(1);
        let squares = [vec![0, 0, 1, 0, 1, 1, 0, 1], vec![1, 1, 2, 1, 2, 2, 1, 2]];
        assert_eq!(diagonal, squares);
    }
}
