//! Paths of SVG over a picture: deformed lattices and the borders of regions.

use std::fmt::Write as _;

use super::Slice;

/// Lines on the longest side.
const LINES: f64 = 24.0;

/// Units of a path on the longer side of a slice: whole numbers of them are fine enough to be seen as smooth.
const UNITS: usize = 4096;

/// Distance of the lines of a lattice, mm, for the longest side in mm.
pub(super) fn apart(longest: f64) -> f64 {
    longest / LINES
}

/// Columns and rows next to a length in mm, one at least.
pub(super) fn steps(slice: &Slice, apart: f64) -> [usize; 2] {
    slice.spacing.map(|spacing| units(apart / spacing, 1).unsigned_abs().max(1))
}

/// Units of a path to a pixel.
pub(super) fn resolution(slice: &Slice) -> usize {
    (UNITS / slice.columns.max(slice.rows)).clamp(1, 100)
}

/// Where the lines of a lattice of pixels go under a map: each line through the images of all its pixels.
///
/// The path is in units of [`resolution`], pixel `i` reaches from `i` to `i + 1` times it. It is interrupted
/// where the map is not finite.
pub(super) fn lattice(map: &[Slice; 2], [across, down]: [usize; 2]) -> String {
    let [columns, rows] = [map[0].columns, map[0].rows];
    let mut path = String::new();
    for x in centred(columns, across) {
        line(&mut path, map, (0..rows).map(|y| y * columns + x));
    }
    for y in centred(rows, down) {
        line(&mut path, map, (0..columns).map(|x| y * columns + x));
    }
    path
}

/// Indices of lines, as far from the first as from the last pixel.
fn centred(n: usize, step: usize) -> impl Iterator<Item = usize> {
    (n.saturating_sub(1) % step / 2..n).step_by(step)
}

fn line(path: &mut String, map: &[Slice; 2], pixels: impl Iterator<Item = usize>) {
    let resolution = resolution(&map[0]);
    let mut last: Option<[isize; 2]> = None;
    // Equal steps one after another are one.
    let (mut step, mut times) = ([0, 0], 0_isize);
    let flush = |path: &mut String, step: [isize; 2], times: isize| {
        if times > 0 && step != [0, 0] {
            let [x, y] = step.map(|s: isize| s.saturating_mul(times));
            let _ = write!(path, "l{x} {y}");
        }
    };
    for pixel in pixels {
        let place = [0, 1].map(|axis| f64::from(map[axis].values[pixel]));
        if !place.iter().all(|x| x.is_finite()) {
            flush(path, step, times);
            (last, step, times) = (None, [0, 0], 0);
            continue;
        }
        let place = place.map(|x| units(x + 0.5, resolution));
        match last {
            None => {
                let _ = write!(path, "M{} {}", place[0], place[1]);
            }
            Some(from) => {
                let next = [0, 1].map(|axis| place[axis].saturating_sub(from[axis]));
                if next == step {
                    times += 1;
                } else {
                    flush(path, step, times);
                    (step, times) = (next, 1);
                }
            }
        }
        last = Some(place);
    }
    flush(path, step, times);
}

/// A length in pixels as a whole number of units.
#[expect(clippy::cast_possible_truncation, reason = "saturates: far outside of the picture")]
fn units(x: f64, resolution: usize) -> isize {
    (x * resolution as f64).round() as isize
}

/// The border between pixels of different classes, in pixels. Outside of the slice the class is 0.
pub(super) fn border(slice: &Slice, class: impl Fn(f32) -> u32) -> String {
    let (columns, rows) = (slice.columns, slice.rows);
    let classes: Vec<u32> = slice.values.iter().map(|&x| class(x)).collect();
    // The class left of or above the edge k, and the one behind it.
    let differ = |k: usize, n: usize, at: &dyn Fn(usize) -> usize| {
        let before = k.checked_sub(1).map_or(0, |k| classes[at(k)]);
        let behind = if k < n { classes[at(k)] } else { 0 };
        before != behind
    };
    let mut path = String::new();
    for x in 0..=columns {
        for [from, to] in runs(rows, |y| differ(x, columns, &|x| y * columns + x)) {
            let _ = write!(path, "M{x} {from}V{to}");
        }
    }
    for y in 0..=rows {
        for [from, to] in runs(columns, |x| differ(y, rows, &|y| y * columns + x)) {
            let _ = write!(path, "M{from} {y}H{to}");
        }
    }
    path
}

/// The pixels that are picked, as rectangles in pixels.
pub(super) fn area(slice: &Slice, picked: impl Fn(f32) -> bool) -> String {
    let mut path = String::new();
    for (y, row) in slice.values.chunks_exact(slice.columns).enumerate() {
        for [from, to] in runs(slice.columns, |x| picked(row[x])) {
            let _ = write!(path, "M{from} {y}H{to}v1H{from}z");
        }
    }
    path
}

/// Half-open ranges of numbers below `n` that are picked.
fn runs(n: usize, picked: impl Fn(usize) -> bool) -> Vec<[usize; 2]> {
    let mut runs: Vec<[usize; 2]> = Vec::new();
    for k in (0..n).filter(|&k| picked(k)) {
        match runs.last_mut() {
            Some(run) if run[1] == k => run[1] = k + 1,
            _ => runs.push([k, k + 1]),
        }
    }
    runs
}
