//! Colours of values, and the ranges that they stand for.

/// Red, green, blue.
pub(super) type Colour = [u8; 3];

/// Colours of a scale: the byte that is left stands for pixels without a value.
pub(super) const COLOURS: usize = 255;

/// Share of the values that a scale covers where a few are far from the others.
const COVERED: f64 = 0.995;

/// How values become colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Palette {
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
            Self::Grey => &[[0; 3], [255; 3]],
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

    /// The colours of all bytes but the last.
    pub(super) fn colours(self) -> Vec<Colour> {
        let stops = self.stops();
        let last = stops.len() - 1;
        let colour = |k: usize| {
            let place = (k * last) as f64 / (COLOURS - 1) as f64;
            let first = (k * last / (COLOURS - 1)).min(last - 1);
            blend(stops[first], stops[first + 1], place - first as f64)
        };
        (0..COLOURS).map(colour).collect()
    }
}

/// A palette over a range of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) palette: Palette,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Whether some values lie beyond the ends and have their colours.
    pub(super) exceeded: bool,
}

impl Scale {
    /// Grey over nearly all values.
    pub(super) fn window(values: impl Iterator<Item = f64>) -> Self {
        let sorted = sorted(values);
        let [low, high] = [1.0 - COVERED, COVERED].map(|share| quantile(&sorted, share));
        let [first, last] = [0.0, 1.0].map(|share| quantile(&sorted, share));
        // Where nearly all values are the same, the few others are what is to be seen.
        let [low, high] = if low < high { [low, high] } else { [first, last] };
        Self { palette: Palette::Grey, low, high, exceeded: first < low || last > high }
    }

    /// Colours to both sides of zero, equally far, over nearly all values; ends of two digits.
    pub(super) fn symmetric(values: impl Iterator<Item = f64>) -> Self {
        let sorted = sorted(values.map(f64::abs));
        let largest = quantile(&sorted, 1.0);
        let covered = quantile(&sorted, COVERED);
        let end = two_digits(if covered > 0.0 { covered } else { largest });
        Self { palette: Palette::Diverging, low: -end, high: end, exceeded: largest > end }
    }

    /// Colours over all values.
    pub(super) fn sequential(values: impl Iterator<Item = f64>) -> Self {
        let sorted = sorted(values);
        let [low, high] = [0.0, 1.0].map(|share| quantile(&sorted, share));
        Self { palette: Palette::Sequential, low, high, exceeded: false }
    }

    /// Whether all values are the same.
    pub(super) fn is_point(&self) -> bool {
        self.low >= self.high
    }

    /// The byte of a value: the middle one where the range is empty, the last where there is no value.
    pub(super) fn byte(&self, value: f32) -> u8 {
        let value = f64::from(value);
        if !value.is_finite() {
            return u8::MAX;
        }
        let t = if self.is_point() { 0.5 } else { (value - self.low) / (self.high - self.low) };
        byte(t.clamp(0.0, 1.0) * (COLOURS - 1) as f64)
    }
}

/// Finite values in order.
fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.filter(|x| x.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The value below which a share of the values lies; zero where there are none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let at = whole(share * last as f64).min(last);
    sorted.get(at).copied().unwrap_or(0.0)
}

/// The next number of two digits that count, upwards.
fn two_digits(x: f64) -> f64 {
    // A subnormal range shows nothing.
    if x < f64::MIN_POSITIVE {
        return 0.0;
    }
    let digits = x.log10().floor() - 1.0;
    let up = if digits < 0.0 {
        (x * 10_f64.powf(-digits)).ceil() / 10_f64.powf(-digits)
    } else {
        (x / 10_f64.powf(digits)).ceil() * 10_f64.powf(digits)
    };
    if up.is_finite() { up.max(x) } else { x }
}

fn blend(from: Colour, to: Colour, share: f64) -> Colour {
    std::array::from_fn(|c| {
        let (from, to) = (f64::from(from[c]), f64::from(to[c]));
        byte(from + share * (to - from))
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "given between 0 and 255, saturates"
)]
fn byte(x: f64) -> u8 {
    x.round() as u8
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a slice, saturates"
)]
fn whole(x: f64) -> usize {
    x.round() as usize
}
