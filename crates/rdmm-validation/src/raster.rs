//! A canvas of RGB pixels: grey and coloured images, lines, captions, colour bars.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use super::font;

/// Red, green, blue.
pub type Colour = [u8; 3];

pub const WHITE: Colour = [255; 3];
pub const BLACK: Colour = [0; 3];

/// A rectangle of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Area {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// Values on a plane as they are shown: rows from the top.
#[derive(Clone, Debug)]
pub struct Plane {
    pub columns: usize,
    pub rows: usize,
    pub values: Vec<f64>,
}

impl Plane {
    /// Mean over the values that a pixel covers, or the one in which it lies.
    fn sample(&self, [x0, x1]: [usize; 2], [y0, y1]: [usize; 2]) -> f64 {
        let mut sum = 0.0;
        for y in y0..y1 {
            sum += self.values[y * self.columns..][x0..x1].iter().sum::<f64>();
        }
        sum / ((x1 - x0) * (y1 - y0)) as f64
    }
}

/// How values become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Palette {
    /// Black to white.
    Grey,
    /// Blue over white to red: the middle of the range is white.
    Diverging,
    /// Dark violet over blue and green to yellow, of steadily growing lightness.
    Sequential,
}

impl Palette {
    /// Colours at equal distances over the range.
    fn stops(self) -> &'static [Colour] {
        match self {
            Self::Grey => &[BLACK, WHITE],
            Self::Diverging => &[
                [24, 58, 128],
                [72, 140, 196],
                [184, 214, 232],
                [248, 248, 248],
                [244, 196, 170],
                [214, 98, 78],
                [136, 16, 42],
            ],
            Self::Sequential => &[
                [52, 16, 78],
                [62, 58, 132],
                [46, 100, 142],
                [32, 140, 140],
                [60, 180, 112],
                [150, 212, 66],
                [250, 232, 60],
            ],
        }
    }

    /// The colour of `t` in [0, 1]; values beyond take the end's colour.
    pub fn colour(self, t: f64) -> Colour {
        let stops = self.stops();
        let place = t.clamp(0.0, 1.0) * (stops.len() - 1) as f64;
        let first = floor(place).min(stops.len() - 2);
        blend(stops[first], stops[first + 1], place - first as f64)
    }
}

/// A palette over a range of values.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    pub palette: Palette,
    pub low: f64,
    pub high: f64,
}

impl Scale {
    /// The colour of a value; the middle one where the range is empty.
    pub fn colour(&self, value: f64) -> Colour {
        let width = self.high - self.low;
        let t = if width > 0.0 { (value - self.low) / width } else { 0.5 };
        self.palette.colour(t)
    }
}

/// The canvas, white at first.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![WHITE; width * height] }
    }

    /// Mixes `colour` into a pixel; nothing happens outside the canvas.
    fn mix(&mut self, x: usize, y: usize, colour: Colour, share: f64) {
        if x < self.width && y < self.height {
            let pixel = &mut self.pixels[y * self.width + x];
            *pixel = blend(*pixel, colour, share);
        }
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, area: Area, colour: Colour) {
        for y in area.top..area.top + area.height {
            for x in area.left..area.left + area.width {
                self.mix(x, y, colour, 1.0);
            }
        }
    }

    /// A line of one pixel around the outside of a rectangle.
    pub fn frame(&mut self, area: Area, colour: Colour) {
        for x in area.left.saturating_sub(1)..=area.left + area.width {
            self.mix(x, area.top.wrapping_sub(1), colour, 1.0);
            self.mix(x, area.top + area.height, colour, 1.0);
        }
        for y in area.top..area.top + area.height {
            self.mix(area.left.wrapping_sub(1), y, colour, 1.0);
            self.mix(area.left + area.width, y, colour, 1.0);
        }
    }

    /// Draws a plane into a rectangle, `strength` of its colours over what is there: each pixel
    /// shows the value in which it lies, or the mean of those that it covers.
    pub fn plane(&mut self, area: Area, plane: &Plane, scale: &Scale, strength: f64) {
        for y in 0..area.height {
            let rows = covered(y, area.height, plane.rows);
            for x in 0..area.width {
                let columns = covered(x, area.width, plane.columns);
                let colour = scale.colour(plane.sample(columns, rows));
                self.mix(area.left + x, area.top + y, colour, strength);
            }
        }
    }

    /// Paints the pixels of the values that `marked` picks.
    pub fn mark(
        &mut self,
        area: Area,
        plane: &Plane,
        colour: Colour,
        marked: impl Fn(f64) -> bool,
    ) {
        for (at, _) in plane.values.iter().enumerate().filter(|(_, x)| marked(**x)) {
            let [x0, x1] = covered(at % plane.columns, plane.columns, area.width);
            let [y0, y1] = covered(at / plane.columns, plane.rows, area.height);
            let spot =
                Area { left: area.left + x0, top: area.top + y0, width: x1 - x0, height: y1 - y0 };
            self.fill(spot, colour);
        }
    }

    /// Draws a smooth line of `width` pixels through points (x, y), clipped to a rectangle. Pixel
    /// `i` reaches from `i` to `i + 1`.
    pub fn line(&mut self, clip: Area, points: &[[f64; 2]], width: f64, colour: Colour) {
        // A pixel takes the largest share of the segments beside it, so that joints do not darken.
        let mut shares = std::collections::BTreeMap::new();
        for ends in points.windows(2) {
            let (a, b) = (ends[0], ends[1]);
            let reach = 0.5 * width + 1.0;
            let span = |axis: usize, start: usize, length: usize| {
                let low = a[axis].min(b[axis]) - reach;
                let high = a[axis].max(b[axis]) + reach + 1.0;
                floor(low).max(start)..floor(high).min(start + length)
            };
            for y in span(1, clip.top, clip.height) {
                for x in span(0, clip.left, clip.width) {
                    let away = distance([x as f64 + 0.5, y as f64 + 0.5], a, b);
                    let share = (0.5 * width + 0.5 - away).clamp(0.0, 1.0);
                    let old = shares.entry((y, x)).or_insert(0.0);
                    *old = share.max(*old);
                }
            }
        }
        for ((y, x), share) in shares {
            self.mix(x, y, colour, share);
        }
    }

    /// Writes text with its top left corner at (left, top), `size` pixels a dot.
    pub fn text(&mut self, left: usize, top: usize, size: usize, text: &str, ink: Colour) {
        for (k, character) in text.chars().enumerate() {
            let start = left + k * (font::WIDTH + 1) * size;
            for (row, bits) in font::glyph(character).into_iter().enumerate() {
                for column in 0..font::WIDTH {
                    if bits >> (font::WIDTH - 1 - column) & 1 == 1 {
                        let dot = Area {
                            left: start + column * size,
                            top: top + (row + font::drop(character)) * size,
                            width: size,
                            height: size,
                        };
                        self.fill(dot, ink);
                    }
                }
            }
        }
    }

    /// A bar of the scale's colours from its low to its high end.
    pub fn bar(&mut self, area: Area, scale: &Scale) {
        for x in 0..area.width {
            let t = x as f64 / (area.width.max(2) - 1) as f64;
            let column = Area { left: area.left + x, width: 1, ..area };
            self.fill(column, scale.palette.colour(t));
        }
        self.frame(area, BLACK);
    }

    /// Writes the canvas as a PNG.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Box<dyn Error>> {
        let path = path.as_ref();
        let write = || -> Result<(), Box<dyn Error>> {
            let file = BufWriter::new(File::create(path)?);
            let (width, height) = (u32::try_from(self.width)?, u32::try_from(self.height)?);
            let mut encoder = png::Encoder::new(file, width, height);
            encoder.set_color(png::ColorType::Rgb);
            encoder.set_depth(png::BitDepth::Eight);
            let mut writer = encoder.write_header()?;
            writer.write_image_data(self.pixels.as_flattened())?;
            Ok(writer.finish()?)
        };
        write().map_err(|error| format!("{}: {error}", path.display()).into())
    }
}

/// Width in pixels of a text of `size` pixels a dot.
pub fn text_width(text: &str, size: usize) -> usize {
    (text.chars().count() * (font::WIDTH + 1)).saturating_sub(1) * size
}

/// Height in pixels of a text of `size` pixels a dot.
pub fn text_height(size: usize) -> usize {
    font::HEIGHT * size
}

/// The values of `to` that lie under step `k` of `of` equal steps: at least one.
fn covered(k: usize, of: usize, to: usize) -> [usize; 2] {
    let first = k * to / of;
    [first, ((k + 1) * to / of).max(first + 1)]
}

/// Largest integer not above `x`, zero for negative numbers and NaN.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, as is wanted"
)]
pub fn floor(x: f64) -> usize {
    x.floor() as usize
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the mean of two bytes is one"
)]
fn blend(from: Colour, to: Colour, share: f64) -> Colour {
    std::array::from_fn(|c| {
        let (from, to) = (f64::from(from[c]), f64::from(to[c]));
        (from + share * (to - from)).round() as u8
    })
}

/// Distance of `p` from the segment from `a` to `b`.
fn distance(p: [f64; 2], a: [f64; 2], b: [f64; 2]) -> f64 {
    let along = [b[0] - a[0], b[1] - a[1]];
    let away = [p[0] - a[0], p[1] - a[1]];
    let square = along[0] * along[0] + along[1] * along[1];
    let t = (away[0] * along[0] + away[1] * along[1]) / square.max(f64::MIN_POSITIVE);
    let t = t.clamp(0.0, 1.0);
    (away[0] - t * along[0]).hypot(away[1] - t * along[1])
}
