//! Synthetic pairs of images with known regions, in two and three dimensions.
//!
//! A pair is of the kind on which region-specific metrics are tried: one large foreground object
//! with two objects inside it deforms strongly, while the objects around it hardly move.

use crate::error::{Error, Result};
use crate::field::Image;
use crate::grid::Grid;
use crate::labels::Labels;
use crate::scalar::Real;

/// Label of the foreground object.
pub const FOREGROUND: u32 = 1;
/// Labels of the two objects inside the foreground object.
pub const INSIDE: [u32; 2] = [2, 3];
/// Label of the first object outside; the others follow.
pub const OUTSIDE: u32 = 4;

/// Fewest voxels that the shortest extent must hold, so that every object covers some.
const MIN_ACROSS: f64 = 32.0;
/// Grey value of the background.
const BACKGROUND: f64 = 0.1;
/// Space that is kept free between objects and before the border, in shortest extents.
const GAP: f64 = 0.03;
/// Positions tried for an object outside.
const ATTEMPTS: usize = 4000;

/// Settings of a synthetic pair of images. All lengths are fractions of the grid's shortest extent.
///
/// Each object is a smooth, star-shaped blob in a random orientation. The foreground object (label
/// [`FOREGROUND`]) lies at the centre of the grid; two smaller ones ([`INSIDE`]) lie inside it and
/// `outside` more ([`OUTSIDE`] and following) around it. Objects neither overlap (other than the
/// inner ones with the foreground object) nor touch the border, in both images alike. Edges are
/// smooth steps about one voxel wide. Only sums, products, quotients and square roots are used, so
/// that a seed gives the same bits on every machine.
///
/// ```
/// use rdmm_core::{grid::Grid, synthetic::Shapes};
/// let shapes = Shapes::default().with_seed(7);
/// let pair = shapes.pair::<f64, 2>(&Grid::unit([64, 64])?)?;
/// assert_eq!(pair.fixed_labels.classes(), pair.moving_labels.classes());
/// assert!(pair.moving.data().iter().all(|x| (0.0..=1.0).contains(x)));
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Shapes {
    /// Seed of the random numbers: another seed gives another pair of the same kind.
    pub seed: u64,
    /// Number of objects outside the foreground object, at most 8; 4 by default. In the plane more
    /// than 5 may not find a place.
    pub outside: usize,
    /// How far points of the foreground object and of those inside it move, at most and about: 0 to 0.1,
    /// 0.09 by default. Objects outside move by a tenth of it.
    pub change: f64,
}

impl Default for Shapes {
    fn default() -> Self {
        Self { seed: 0, outside: 4, change: 0.09 }
    }
}

/// A source and a target with their segmentations, all over one grid and in C order.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Pair<T, const D: usize> {
    /// Source I₀, values in [0, 1].
    pub moving: Image<T, D>,
    /// Target I₁, values in [0, 1].
    pub fixed: Image<T, D>,
    /// Objects of the source, one label an object.
    pub moving_labels: Labels<D>,
    /// Objects of the target, with the labels of the source.
    pub fixed_labels: Labels<D>,
    /// 1 in the source's foreground object and in those inside it, 0 elsewhere: the region that
    /// deforms strongly.
    pub foreground: Labels<D>,
    /// The same region of the target: where a regulariser that is given in the source should go.
    pub fixed_foreground: Labels<D>,
}

impl Shapes {
    /// The same with another seed.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The same with this many objects outside the foreground object.
    #[must_use]
    pub fn with_outside(mut self, outside: usize) -> Self {
        self.outside = outside;
        self
    }

    /// The same with points that move this far.
    #[must_use]
    pub fn with_change(mut self, change: f64) -> Self {
        self.change = change;
        self
    }

    /// The pair of images over `grid`.
    ///
    /// # Errors
    /// [`Error::Setting`] for settings out of range, for a grid with fewer than 32 voxels (of its
    /// coarsest spacing) across its shortest extent, and where no place is left for an object
    /// outside; [`Error::OutOfMemory`].
    #[inline(never)]
    pub fn pair<T: Real, const D: usize>(&self, grid: &Grid<D>) -> Result<Pair<T, D>> {
        let (source, target) = self.scenes(grid)?;
        let (moving, moving_labels) = render(grid, &source)?;
        let (fixed, fixed_labels) = render(grid, &target)?;
        let inside = |&label: &u32| u32::from(label == FOREGROUND || INSIDE.contains(&label));
        let region =
            |labels: &Labels<D>| Labels::from_vec(grid, labels.data().iter().map(inside).collect());
        Ok(Pair {
            moving,
            fixed,
            foreground: region(&moving_labels)?,
            fixed_foreground: region(&fixed_labels)?,
            moving_labels,
            fixed_labels,
        })
    }

    /// The objects of the source and of the target, in the order of their labels.
    fn scenes<const D: usize>(&self, grid: &Grid<D>) -> Result<(Scene<D>, Scene<D>)> {
        if !(self.change.is_finite() && (0.0..=0.1).contains(&self.change)) {
            let found = self.change;
            return Err(Error::setting("change", "a number from 0 to 0.1", found));
        }
        if self.outside > 8 {
            let found = self.outside;
            return Err(Error::setting("outside", "at most 8 objects", found));
        }
        let unit = grid.extent().into_iter().fold(f64::INFINITY, f64::min);
        let across = unit / grid.coarsest_spacing();
        if across < MIN_ACROSS {
            let expected = "at least 32 voxels across the shortest extent";
            return Err(Error::setting("grid", expected, across));
        }
        let mut random = Random(self.seed);
        let (mut source, mut target) = self.centre(grid.extent().map(|e| e / unit), &mut random);
        for _ in 0..self.outside {
            let (before, after) = self.beside(grid, unit, &source, &target, &mut random)?;
            source.push(before);
            target.push(after);
        }
        let grey = greys(self.outside, &mut random);
        for scene in [&mut source, &mut target] {
            for (object, &grey) in scene.iter_mut().zip(&grey) {
                *object = object.scaled(unit, grey);
            }
        }
        Ok((source, target))
    }

    /// The foreground object and the two inside it, before and after.
    ///
    /// The shares of `change` bound how far a point moves: 0.35 by the shift, 0.45 by the axes and
    /// 0.15 by the bump for the foreground object; for those inside, which lie at about 0.4 of the
    /// axes, 0.35 + 0.4 · 0.45 by the foreground, 0.25 by their own motion and the rest by growth.
    fn centre<const D: usize>(
        &self,
        extent: [f64; D],
        random: &mut Random,
    ) -> (Scene<D>, Scene<D>) {
        let middle = extent.map(|e| 0.5 * e + random.within(-0.02, 0.02));
        let before = Object {
            centre: middle,
            axes: [0.0; D].map(|_| random.within(0.18, 0.22)),
            frame: random.frame(),
            square: random.within(0.0, 0.6),
            bump: random.sign() * random.within(0.0, 0.08),
            poles: [0; 3].map(|_| random.direction()),
            grey: 0.0,
        };
        let shift: [f64; D] = random.direction();
        let mut grow = random.sign();
        let axes = before.axes.map(|axis| {
            grow = -grow;
            axis + grow * 0.45 * self.change * random.within(0.8, 1.0)
        });
        let shortest = before.shortest_axis();
        let after = Object {
            centre: std::array::from_fn(|a| middle[a] + 0.35 * self.change * shift[a]),
            axes,
            bump: before.bump - before.bump.signum() * 0.15 * self.change / shortest,
            ..before
        };
        let (mut source, mut target) = (vec![before], vec![after]);
        let growth = random.sign();
        for side in [-1.0, 1.0] {
            let radius = random.within(0.2, 0.25);
            let mut place = [0.0; D];
            place[0] = side * random.within(0.36, 0.38);
            let inner = Object {
                square: random.within(0.0, 0.6),
                bump: random.within(-0.08, 0.08),
                poles: [0; 3].map(|_| random.direction()),
                ..before
            };
            source.push(inner.placed(&before, place, radius));
            place[1 % D] += random.sign() * 0.25 * self.change / shortest;
            let radius = radius * (1.0 + side * growth * 1.8 * self.change);
            target.push(inner.placed(&after, place, radius));
        }
        (source, target)
    }

    /// One more object outside, before and after, that keeps away from all present ones.
    fn beside<const D: usize>(
        &self,
        grid: &Grid<D>,
        unit: f64,
        source: &[Object<D>],
        target: &[Object<D>],
        random: &mut Random,
    ) -> Result<(Object<D>, Object<D>)> {
        let motion = 0.1 * self.change;
        for attempt in 0..ATTEMPTS {
            // The longer the search, the smaller the object.
            let size = 1.0 - 0.4 * attempt as f64 / ATTEMPTS as f64;
            let mut object = Object {
                centre: [0.0; D],
                axes: [0.0; D].map(|_| size * random.within(0.06, 0.1)),
                frame: random.frame(),
                square: random.within(0.0, 0.6),
                bump: random.within(-0.08, 0.08),
                poles: [0; 3].map(|_| random.direction()),
                grey: 0.0,
            };
            let reach = object.reach() + motion + GAP;
            object.centre = grid.extent().map(|e| random.within(reach, e / unit - reach));
            let free = |other: &Object<D>| other.is_beyond(object.centre, reach);
            let shift: [f64; D] = random.direction();
            if source.iter().chain(target).all(free) {
                let moved = std::array::from_fn(|a| object.centre[a] + motion * shift[a]);
                let after = Object { centre: moved, ..object };
                return Ok((object, after));
            }
        }
        let expected = "as many objects as find a place (fewer, or another seed)";
        Err(Error::setting("outside", expected, self.outside))
    }
}

/// The objects of one image, in the order of their labels.
type Scene<const D: usize> = Vec<Object<D>>;

/// A smooth, star-shaped blob: the points where [`Object::level`] is at most one.
#[derive(Clone, Copy, Debug)]
struct Object<const D: usize> {
    centre: [f64; D],
    /// Semi-axes along the rows of `frame`.
    axes: [f64; D],
    /// Orthonormal rows.
    frame: [[f64; D]; D],
    /// From 0, an ellipsoid, to 1, the boxy superellipsoid of exponent 4.
    square: f64,
    /// Relative height of a cubic bump on the surface.
    bump: f64,
    /// The bump is the product of the direction's cosines with these unit vectors.
    poles: [[f64; D]; 3],
    grey: f64,
}

impl<const D: usize> Object<D> {
    /// A norm of the point's distance from the centre, one on the object's surface without its bump;
    /// at most the Euclidean distance over the shortest axis.
    fn norm(&self, point: [f64; D]) -> f64 {
        let local = self.local(point);
        let (mut second, mut fourth) = (0.0, 0.0);
        for y in local {
            second += y * y;
            fourth += y * y * y * y;
        }
        ((1.0 - self.square) * second + self.square * fourth.sqrt()).sqrt()
    }

    /// Less than one inside, one on the surface; grows linearly along each ray from the centre.
    fn level(&self, point: [f64; D]) -> f64 {
        let away: [f64; D] = std::array::from_fn(|a| point[a] - self.centre[a]);
        let length = dot(&away, &away).sqrt().max(f64::MIN_POSITIVE);
        let bump = |p: f64, pole: &[f64; D]| p * (dot(pole, &away) / length);
        self.norm(point) / (1.0 + self.poles.iter().fold(self.bump, bump))
    }

    /// Offset from the centre along the frame, in semi-axes.
    fn local(&self, point: [f64; D]) -> [f64; D] {
        let away: [f64; D] = std::array::from_fn(|a| point[a] - self.centre[a]);
        std::array::from_fn(|a| dot(&self.frame[a], &away) / self.axes[a])
    }

    fn shortest_axis(&self) -> f64 {
        self.axes.into_iter().fold(f64::INFINITY, f64::min)
    }

    /// Radius of a ball around the centre that holds the object.
    fn reach(&self) -> f64 {
        let longest = self.axes.into_iter().fold(0.0, f64::max);
        // The fourth-power norm of a vector of unit length is smallest along the diagonal.
        let corner = (1.0 - self.square + self.square / (D as f64).sqrt()).sqrt();
        longest * (1.0 + self.bump.abs()) / corner
    }

    /// Whether a ball around `point` cannot meet the object.
    fn is_beyond(&self, point: [f64; D], radius: f64) -> bool {
        self.norm(point) > 1.0 + self.bump.abs() + radius / self.shortest_axis()
    }

    /// This object moved to `place`, in the semi-axes of `parent`, with `radius` times its axes.
    fn placed(&self, parent: &Self, place: [f64; D], radius: f64) -> Self {
        let mut centre = parent.centre;
        for a in 0..D {
            for b in 0..D {
                centre[b] += place[a] * parent.axes[a] * parent.frame[a][b];
            }
        }
        let axes = parent.axes.map(|axis| radius * axis);
        Self { centre, axes, ..*self }
    }

    fn scaled(&self, unit: f64, grey: f64) -> Self {
        Self {
            centre: self.centre.map(|x| unit * x),
            axes: self.axes.map(|x| unit * x),
            grey,
            ..*self
        }
    }

    /// Share of the voxel at `point` that is covered: a smooth step about one voxel wide over the
    /// distance of the surface, to first order and in voxels.
    fn coverage(&self, point: [f64; D], spacing: [f64; D], level: f64) -> f64 {
        let mut slope = 0.0;
        for a in 0..D {
            let (mut low, mut high) = (point, point);
            low[a] -= 0.5 * spacing[a];
            high[a] += 0.5 * spacing[a];
            let change = self.level(high) - self.level(low);
            slope += change * change;
        }
        let depth = (1.0 - level) / slope.sqrt().max(f64::MIN_POSITIVE);
        let s = (0.5 + 0.75 * depth).clamp(0.0, 1.0);
        s * s * (3.0 - 2.0 * s)
    }
}

/// The image of a scene and its labels: later objects lie on earlier ones.
fn render<T: Real, const D: usize>(
    grid: &Grid<D>,
    scene: &[Object<D>],
) -> Result<(Image<T, D>, Labels<D>)> {
    let spacing = grid.spacing();
    // A level further than this from one is two voxels and more from the surface.
    let near: Vec<f64> = scene
        .iter()
        .map(|o| 2.0 * grid.coarsest_spacing() / (o.shortest_axis() * (1.0 - o.bump.abs())))
        .collect();
    let mut image = Image::zeros(grid)?;
    let mut labels = vec![0; grid.len()];
    for (flat, (value, label)) in image.data_mut().iter_mut().zip(&mut labels).enumerate() {
        let index = grid.unravel(flat);
        let point = std::array::from_fn(|a| (index[a] as f64 + 0.5) * spacing[a]);
        let mut grey = BACKGROUND;
        for ((object, near), number) in scene.iter().zip(&near).zip(FOREGROUND..) {
            let level = object.level(point);
            if level > 1.0 + near {
                continue;
            }
            if level <= 1.0 {
                *label = number;
            }
            grey += object.coverage(point, spacing, level) * (object.grey - grey);
        }
        *value = T::of(grey);
    }
    Ok((image, Labels::from_vec(grid, labels)?))
}

/// One grey value an object, equally spaced: the foreground object in the middle, those inside at
/// the two ends, the others in random order.
fn greys(outside: usize, random: &mut Random) -> Vec<f64> {
    let count = outside + INSIDE.len() + 1;
    let mut levels: Vec<f64> =
        (0..count).map(|k| 0.25 + 0.75 * k as f64 / (count - 1) as f64).collect();
    let foreground = levels.remove(count / 2);
    let mut greys = vec![foreground, levels.remove(count - 2), levels.remove(0)];
    while !levels.is_empty() {
        greys.push(levels.swap_remove(random.below(levels.len())));
    }
    greys
}

fn dot<const D: usize>(a: &[f64; D], b: &[f64; D]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Reproducible random numbers: `SplitMix64` (Steele, Lea, Flood 2014,
/// doi:10.1145/2660193.2660195).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * ((self.next() >> 11) as f64 / (1u64 << 53) as f64)
    }

    fn sign(&mut self) -> f64 {
        if self.next() >> 63 == 0 { 1.0 } else { -1.0 }
    }

    /// An index less than `n`, which is small.
    fn below(&mut self, n: usize) -> usize {
        let n = n as u64;
        usize::try_from(self.next() % n.max(1)).unwrap_or(0)
    }

    /// A unit vector, uniform over directions.
    fn direction<const D: usize>(&mut self) -> [f64; D] {
        loop {
            let x = [0.0; D].map(|_| self.within(-1.0, 1.0));
            let length = dot(&x, &x).sqrt();
            if (0.1..=1.0).contains(&length) {
                return x.map(|x| x / length);
            }
        }
    }

    /// Orthonormal rows (Gram–Schmidt).
    fn frame<const D: usize>(&mut self) -> [[f64; D]; D] {
        let mut frame = [[0.0; D]; D];
        for a in 0..D {
            loop {
                let mut x: [f64; D] = self.direction();
                for row in &frame[..a] {
                    let along = dot(row, &x);
                    x = std::array::from_fn(|b| x[b] - along * row[b]);
                }
                let length = dot(&x, &x).sqrt();
                if length > 0.2 {
                    frame[a] = x.map(|x| x / length);
                    break;
                }
            }
        }
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dice<const D: usize>(a: &Labels<D>, b: &Labels<D>, labels: &[u32]) -> f64 {
        let (mut both, mut sum) = (0, 0);
        for (a, b) in a.data().iter().zip(b.data()) {
            let (a, b) = (labels.contains(a), labels.contains(b));
            both += usize::from(a && b);
            sum += usize::from(a) + usize::from(b);
        }
        2.0 * both as f64 / sum as f64
    }

    /// Checks one pair and returns the Dice coefficient of the foreground.
    fn check<const D: usize>(shapes: Shapes, grid: &Grid<D>) -> f64 {
        let pair = shapes.pair::<f32, D>(grid).unwrap();
        let classes: Vec<u32> = (1..=3 + u32::try_from(shapes.outside).unwrap()).collect();
        for (image, labels) in
            [(&pair.moving, &pair.moving_labels), (&pair.fixed, &pair.fixed_labels)]
        {
            assert!(image.data().iter().all(|x| (0.0..=1.0).contains(x)));
            assert_eq!(labels.classes(), classes, "{shapes:?}");
            for (flat, &label) in labels.data().iter().enumerate() {
                let index = grid.unravel(flat);
                let border = (0..D).any(|a| index[a] == 0 || index[a] + 1 == grid.shape()[a]);
                assert!(!border || label == 0, "{shapes:?}");
            }
            // Inner objects are surrounded by the foreground object.
            let strides = grid.strides();
            for (flat, &label) in labels.data().iter().enumerate() {
                if INSIDE.contains(&label) {
                    for stride in strides {
                        for other in [labels.data()[flat - stride], labels.data()[flat + stride]] {
                            assert!(other == label || other == FOREGROUND, "{shapes:?}");
                        }
                    }
                }
            }
        }
        let all = [FOREGROUND, INSIDE[0], INSIDE[1]];
        let covered = pair.foreground.data().iter().filter(|&&x| x == 1).count();
        let share = covered as f64 / grid.len() as f64;
        assert!(share > 0.2f64.powf(D as f64) / 2.0, "{shapes:?}: {share}");
        let after = dice(&pair.moving_labels, &pair.fixed_labels, &all);
        for k in 0..shapes.outside {
            let label = OUTSIDE + u32::try_from(k).unwrap();
            let still = dice(&pair.moving_labels, &pair.fixed_labels, &[label]);
            assert!(still > 0.7, "{shapes:?}: label {label} moved, Dice {still}");
        }
        after
    }

    #[test]
    fn pairs_of_the_plane_deform_inside_only() {
        let grid = Grid::new([96, 80], [1.0, 1.2]).unwrap();
        for seed in 0..60 {
            let shapes = Shapes::default().with_seed(seed);
            let dice = check(shapes, &grid);
            assert!((0.3..0.9).contains(&dice), "seed {seed}: Dice {dice}");
        }
    }

    #[test]
    fn pairs_of_space_deform_inside_only() {
        let grid = Grid::unit([40, 36, 44]).unwrap();
        for seed in 0..6 {
            let shapes = Shapes::default().with_seed(seed).with_outside(6);
            let dice = check(shapes, &grid);
            assert!((0.3..0.9).contains(&dice), "seed {seed}: Dice {dice}");
        }
    }

    #[test]
    fn the_seed_decides_and_no_change_is_none() {
        let grid = Grid::unit([64, 64]).unwrap();
        let shapes = Shapes::default();
        let pair = shapes.pair::<f64, 2>(&grid).unwrap();
        assert_eq!(pair, shapes.pair(&grid).unwrap());
        let other = shapes.with_seed(1);
        assert_ne!(pair, other.pair(&grid).unwrap());
        let still = shapes.with_change(0.0);
        let still = still.pair::<f64, 2>(&grid).unwrap();
        assert_eq!(still.moving, still.fixed);
    }

    #[test]
    fn settings_out_of_range_are_refused() {
        let grid = Grid::unit([64, 64]).unwrap();
        let base = Shapes::default();
        for bad in [base.with_change(0.2), base.with_change(f64::NAN), base.with_outside(9)] {
            let refused = bad.pair::<f32, 2>(&grid);
            assert!(matches!(refused, Err(Error::Setting { .. })), "{bad:?}");
        }
        let coarse = Grid::unit([64, 24]).unwrap();
        let refused = base.pair::<f32, 2>(&coarse);
        assert!(matches!(refused, Err(Error::Setting { name: "grid", .. })));
    }
}
