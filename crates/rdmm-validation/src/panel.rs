//! One picture of a registration: images, difference, map, determinant and local σ.

use std::error::Error;
use std::path::Path;

use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;

use super::raster::{self, Area, Canvas, Colour, Palette, Plane, Scale};

/// Height of the longer side of a tile that is aimed at, in pixels.
const TILE: f64 = 320.0;
const MARGIN: usize = 24;
const COLUMNS: usize = 4;
const FOLDED: Colour = [230, 20, 30];
const INK: Colour = [30, 34, 42];
const LINES: Colour = [20, 60, 130];

/// How the first two array axes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orientation {
    /// Axis 0 down, axis 1 to the right: images that are stored by rows.
    Rows,
    /// Axis 0 to the right, axis 1 down: PNG files.
    RightDown,
    /// Axis 0 to the right, axis 1 up: medical images.
    RightUp,
}

impl Orientation {
    /// What suits the file: x to the right, and y down for PNG, up else.
    pub fn of(path: impl AsRef<Path>) -> Self {
        let extension = path.as_ref().extension();
        if extension.is_some_and(|e| e.eq_ignore_ascii_case("png")) {
            Self::RightDown
        } else {
            Self::RightUp
        }
    }

    /// Array axes that run to the right and down or up.
    fn axes(self) -> [usize; 2] {
        match self {
            Self::Rows => [1, 0],
            Self::RightDown | Self::RightUp => [0, 1],
        }
    }

    /// Place from the top of a (fractional) position along the vertical axis of `n` voxels, where
    /// voxel `i` reaches from `i` to `i + 1`.
    fn down(self, position: f64, n: usize) -> f64 {
        match self {
            Self::Rows | Self::RightDown => position,
            Self::RightUp => n as f64 - position,
        }
    }
}

/// What a registration gave. Of more than two axes the slice through the middle of the others is
/// shown. Source and σ at t = 0 may lie on another grid than the target; all others lie on its grid.
pub struct Panel<'a, const D: usize> {
    /// Heading.
    pub title: &'a str,
    /// I₀.
    pub source: &'a Image<f32, D>,
    /// I₁.
    pub target: &'a Image<f32, D>,
    /// I₀ ∘ Φ⁻¹(1).
    pub warped: &'a Image<f32, D>,
    /// Φ⁻¹(1).
    pub map: &'a Displacement<f32, D>,
    /// Determinant of DΦ⁻¹(1).
    pub det: &'a Image<f32, D>,
    /// Local standard deviation at t = 0, `None` where it is constant.
    pub sigma0: Option<&'a Image<f32, D>>,
    /// Local standard deviation at t = 1, `None` where it is constant.
    pub sigma1: Option<&'a Image<f32, D>>,
    /// How the first two axes are shown.
    pub orientation: Orientation,
}

/// What stands in a tile.
struct Tile {
    caption: String,
    picture: Option<Picture>,
    /// Below the picture, where there is no bar.
    note: String,
    extra: Extra,
}

/// A plane and how it is shown.
struct Picture {
    plane: Plane,
    scale: Scale,
    /// Share of the colours over white.
    strength: f64,
    /// Physical lengths across and down.
    lengths: [f64; 2],
}

/// What a tile shows beside its picture.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extra {
    Nothing,
    /// A bar of colours with its ends.
    Bar,
    /// A bar, and voxels that are not positive in red.
    Folds,
    /// The lattice under the map.
    Lattice,
}

impl<const D: usize> Panel<'_, D> {
    /// Writes the picture as a PNG: two rows of four tiles. Source, target, warped source and
    /// warped − target in the upper row; the image of a regular lattice of target voxels under the
    /// map over a faint target, the determinant with folded voxels in red, and the local σ at t = 0
    /// and t = 1 in the lower.
    pub fn draw(&self, path: impl AsRef<Path>) -> Result<(), Box<dyn Error>> {
        self.draw_tiles(&self.tiles()?, path)
    }

    /// Writes the lower row alone, without the target under the lattice: nothing of the images is in it.
    pub fn draw_map(&self, path: impl AsRef<Path>) -> Result<(), Box<dyn Error>> {
        let mut tiles = self.tiles()?.split_off(COLUMNS);
        for picture in tiles.iter_mut().take(1).filter_map(|tile| tile.picture.as_mut()) {
            picture.strength = 0.0;
        }
        self.draw_tiles(&tiles, path)
    }

    fn draw_tiles(&self, tiles: &[Tile], path: impl AsRef<Path>) -> Result<(), Box<dyn Error>> {
        if D < 2 {
            return Err("a panel shows images of two axes and more".into());
        }
        let size = self.tile_size();
        let canvas_width = COLUMNS * size[0] + (COLUMNS + 1) * MARGIN;
        let heading = raster::text_height(3) + MARGIN;
        let step = raster::text_height(2) + 10 + size[1] + 36 + MARGIN;
        let rows = tiles.len().div_ceil(COLUMNS);
        let mut canvas = Canvas::new(canvas_width, MARGIN + heading + rows * step);
        canvas.text(MARGIN, MARGIN, 3, self.title, INK);
        for (k, tile) in tiles.iter().enumerate() {
            let left = MARGIN + k % COLUMNS * (size[0] + MARGIN);
            let top = MARGIN + heading + k / COLUMNS * step;
            canvas.text(left, top, 2, &tile.caption, INK);
            let area = Area {
                left,
                top: top + raster::text_height(2) + 10,
                width: size[0],
                height: size[1],
            };
            self.tile(&mut canvas, area, tile);
        }
        canvas.save(path)
    }

    fn tile(&self, canvas: &mut Canvas, area: Area, tile: &Tile) {
        canvas.fill(area, [238, 238, 240]);
        let below = area.top + area.height + 8;
        if let Some(picture) = &tile.picture {
            let shown = fitted(area, picture.lengths);
            canvas.fill(shown, raster::WHITE);
            canvas.plane(shown, &picture.plane, &picture.scale, picture.strength);
            if tile.extra == Extra::Folds {
                canvas.mark(shown, &picture.plane, FOLDED, |x| x <= 0.0);
            }
            if tile.extra == Extra::Lattice {
                self.lattice(canvas, shown);
            }
            if matches!(tile.extra, Extra::Bar | Extra::Folds) {
                let bar = Area { top: below, height: 10, ..area };
                canvas.bar(bar, &picture.scale);
                let (low, high) = (number(picture.scale.low), number(picture.scale.high));
                let right = area.left + area.width - raster::text_width(&high, 2);
                canvas.text(area.left, below + 15, 2, &low, INK);
                canvas.text(right, below + 15, 2, &high, INK);
            }
        } else {
            let inset = area.width.saturating_sub(raster::text_width("constant", 2)) / 2;
            let middle = area.top + area.height / 2 - raster::text_height(2) / 2;
            canvas.text(area.left + inset, middle, 2, "constant", INK);
        }
        canvas.text(area.left, below, 2, &tile.note, INK);
        canvas.frame(area, [120, 124, 130]);
    }

    fn tiles(&self) -> Result<Vec<Tile>, Box<dyn Error>> {
        let (source, target) =
            (scale(Palette::Grey, range(self.source)), scale(Palette::Grey, range(self.target)));
        let values = self.warped.data().iter().zip(self.target.data());
        let difference = values.map(|(a, b)| a - b).collect();
        let difference = Image::from_vec(self.target.grid(), difference)?;
        let [low, high] = range(&difference).map(f64::abs);
        let diverging = scale(Palette::Diverging, [-low.max(high), low.max(high)]);
        let folds = self.det.data().iter().filter(|&&x| x <= 0.0).count();
        let det = scale(Palette::Sequential, range(self.det));
        // One scale for σ at both times.
        let ranges = [self.sigma0, self.sigma1].into_iter().flatten().map(range);
        let both =
            ranges.fold([f64::INFINITY, 0.0f64], |[low, high], [a, b]| [low.min(a), high.max(b)]);
        let sigma = scale(Palette::Sequential, both);

        let size = |image: &Image<f32, D>| image.grid().shape().map(|n| n.to_string()).join(" × ");
        let mut tiles = vec![
            self.shown("source", self.source, source, Extra::Nothing),
            self.shown("target", self.target, target, Extra::Nothing),
            self.shown("warped source", self.warped, source, Extra::Nothing),
            self.shown("warped − target", &difference, diverging, Extra::Bar),
            self.shown("map", self.target, target, Extra::Lattice),
            self.shown(&format!("det, {folds} folded"), self.det, det, Extra::Folds),
        ];
        tiles[0].note = size(self.source);
        tiles[1].note = size(self.target);
        tiles[4].note = format!("largest |u| {}", number(self.longest()));
        for (caption, image) in
            [("local σ at t = 0", self.sigma0), ("local σ at t = 1", self.sigma1)]
        {
            tiles.push(match image {
                Some(image) => self.shown(caption, image, sigma, Extra::Bar),
                None => Tile {
                    caption: caption.to_owned(),
                    picture: None,
                    note: String::new(),
                    extra: Extra::Nothing,
                },
            });
        }
        Ok(tiles)
    }

    fn shown(&self, caption: &str, image: &Image<f32, D>, scale: Scale, extra: Extra) -> Tile {
        let strength = if extra == Extra::Lattice { 0.2 } else { 1.0 };
        Tile {
            caption: caption.to_owned(),
            picture: Some(Picture {
                plane: self.plane(image),
                scale,
                strength,
                lengths: self.lengths(image.grid()),
            }),
            note: String::new(),
            extra,
        }
    }

    /// The image of a regular lattice of voxels of the target under the map.
    fn lattice(&self, canvas: &mut Canvas, shown: Area) {
        let grid = self.map.grid();
        let (shape, spacing) = (grid.shape(), grid.spacing());
        let [right, up] = self.orientation.axes();
        let zoom =
            [shown.width as f64 / shape[right] as f64, shown.height as f64 / shape[up] as f64];
        let image_of = |i: usize, j: usize| {
            let at = self.offset(grid, i, j);
            let moved = |axis: usize, k: usize| {
                k as f64 + 0.5 + f64::from(self.map.component(axis)[at]) / spacing[axis]
            };
            let x = moved(right, i);
            let y = self.orientation.down(moved(up, j), shape[up]);
            [shown.left as f64 + zoom[0] * x, shown.top as f64 + zoom[1] * y]
        };
        // Lines about twelve pixels apart.
        let apart = |zoom: f64| raster::floor(12.0 / zoom + 0.5).max(1);
        for i in lattice_lines(shape[right], apart(zoom[0])) {
            let line: Vec<_> = (0..shape[up]).map(|j| image_of(i, j)).collect();
            canvas.line(shown, &line, 1.2, LINES);
        }
        for j in lattice_lines(shape[up], apart(zoom[1])) {
            let line: Vec<_> = (0..shape[right]).map(|i| image_of(i, j)).collect();
            canvas.line(shown, &line, 1.2, LINES);
        }
    }

    /// Largest length of the displacement, over all voxels.
    fn longest(&self) -> f64 {
        let n = self.map.grid().len();
        let square = |at: usize| {
            let square = |c: usize| f64::from(self.map.component(c)[at]).powi(2);
            (0..D).map(square).sum::<f64>()
        };
        (0..n).map(square).fold(0.0, f64::max).sqrt()
    }

    /// Pixels of a tile: whole multiples of the target's finest voxels where they are small enough.
    fn tile_size(&self) -> [usize; 2] {
        let grid = self.target.grid();
        let [width, height] = self.lengths(grid);
        let [right, up] = self.orientation.axes();
        let finest = grid.spacing()[right].min(grid.spacing()[up]);
        let voxels = width.max(height) / finest;
        let zoom = if voxels > TILE { TILE / voxels } else { (TILE / voxels).round() };
        // Captions need room too.
        [width, height].map(|length| raster::floor(length / finest * zoom + 0.5).max(200))
    }

    /// Lengths of the shown axes: across, down.
    fn lengths(&self, grid: &Grid<D>) -> [f64; 2] {
        self.orientation.axes().map(|axis| grid.extent()[axis])
    }

    /// Place in the buffer of the voxel (i across, j along the vertical axis) of the shown slice.
    fn offset(&self, grid: &Grid<D>, i: usize, j: usize) -> usize {
        let [right, up] = self.orientation.axes();
        let (shape, strides) = (grid.shape(), grid.strides());
        let middle: usize = (2..D).map(|a| shape[a] / 2 * strides[a]).sum();
        i * strides[right] + j * strides[up] + middle
    }

    fn plane(&self, image: &Image<f32, D>) -> Plane {
        let grid = image.grid();
        let [columns, rows] = self.orientation.axes().map(|axis| grid.shape()[axis]);
        let mut values = Vec::with_capacity(columns * rows);
        for row in 0..rows {
            let j = match self.orientation {
                Orientation::Rows | Orientation::RightDown => row,
                Orientation::RightUp => rows - 1 - row,
            };
            values.extend((0..columns).map(|i| f64::from(image.data()[self.offset(grid, i, j)])));
        }
        Plane { columns, rows, values }
    }
}

/// The largest rectangle of the given sides in the middle of an area.
fn fitted(area: Area, lengths: [f64; 2]) -> Area {
    let zoom = (area.width as f64 / lengths[0]).min(area.height as f64 / lengths[1]);
    let [width, height] = lengths.map(|length| raster::floor(length * zoom + 0.5).max(1));
    let (width, height) = (width.min(area.width), height.min(area.height));
    Area {
        left: area.left + (area.width - width) / 2,
        top: area.top + (area.height - height) / 2,
        width,
        height,
    }
}

/// Indices of the lines of a lattice, centred.
fn lattice_lines(n: usize, apart: usize) -> impl Iterator<Item = usize> {
    let rest = (n - 1) % apart;
    (rest / 2..n).step_by(apart)
}

fn scale(palette: Palette, [low, high]: [f64; 2]) -> Scale {
    Scale { palette, low, high }
}

/// Smallest and largest value.
fn range<const D: usize>(image: &Image<f32, D>) -> [f64; 2] {
    image
        .data()
        .iter()
        .map(|&x| f64::from(x))
        .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| [low.min(x), high.max(x)])
}

/// Three digits that count.
fn number(x: f64) -> String {
    let size = x.abs();
    if size < f64::MIN_POSITIVE {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        format!("{x:.2e}")
    } else if size < 1.0 {
        format!("{x:.3}")
    } else if size < 10.0 {
        format!("{x:.2}")
    } else if size < 100.0 {
        format!("{x:.1}")
    } else {
        format!("{x:.0}")
    }
}
