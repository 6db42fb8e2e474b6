//! Slices of a registration, as a report shows them: the patient's left on the right, the head up.

use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;

use crate::report::{Plane, Slice, Unit};

/// What is shown. All on the grid of the fixed image but the moving labels, which are not.
pub(crate) struct Shown<'a, const D: usize> {
    pub(crate) fixed: &'a Image<f32, D>,
    /// The moving image before the deformation, on the fixed grid.
    pub(crate) moving: Option<&'a Image<f32, D>>,
    pub(crate) warped: &'a Image<f32, D>,
    pub(crate) map: &'a Displacement<f32, D>,
    pub(crate) det: &'a Image<f32, D>,
    pub(crate) sigma: Option<[&'a Image<f32, D>; 2]>,
    /// Of the fixed image, and warped ones.
    pub(crate) labels: Option<[&'a Labels<D>; 2]>,
}

/// A grid axis, and whether it runs against the direction in which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Axis {
    axis: usize,
    flipped: bool,
}

/// A plane through the middle of a grid: which axes run to the right and down.
struct View<const D: usize> {
    name: String,
    right: Axis,
    down: Axis,
    /// The middle voxel.
    middle: [usize; D],
    shape: [usize; D],
    spacing: [f64; D],
}

/// Names of the planes, the world axes that run to the right and down in them, and whether the latter runs up.
const PLANES: [(&str, [usize; 2], bool); 3] =
    [("axial", [0, 1], false), ("coronal", [0, 2], true), ("sagittal", [1, 2], true)];

const WORLD: [&str; 3] = ["x", "y", "z"];

/// The planes of a report: one of an image with two axes, three of a volume.
pub(crate) fn planes<const D: usize>(shown: &Shown<'_, D>, unit: Unit) -> Vec<Plane> {
    views(shown.fixed.grid(), unit).iter().map(|view| view.plane(shown, unit)).collect()
}

/// For each world axis the grid axis that is nearest to it, each once.
fn nearest<const D: usize>(grid: &Grid<D>) -> Vec<Axis> {
    let mut free: Vec<usize> = (0..D).collect();
    let mut found = Vec::with_capacity(D);
    for world in 0..D {
        let component = |axis: usize| grid.direction()[(world, axis)];
        let nearest = |a: &usize, b: &usize| component(*a).abs().total_cmp(&component(*b).abs());
        // The first of equals would depend on the order of the axes only.
        let Some(axis) = free.iter().copied().max_by(nearest) else { break };
        free.retain(|&other| other != axis);
        found.push(Axis { axis, flipped: component(axis) < 0.0 });
    }
    found
}

fn views<const D: usize>(grid: &Grid<D>, unit: Unit) -> Vec<View<D>> {
    let axes = nearest(grid);
    let middle = grid.shape().map(|n| n / 2);
    let centre = grid.to_world(middle.map(|i| i as f64));
    let of = |(name, [right, down], up): (&str, [usize; 2], bool)| {
        let (right_axis, down_axis) = (*axes.get(right)?, *axes.get(down)?);
        let across = (0..D).find(|world| *world != right && *world != down);
        let name = match across {
            Some(world) => {
                let at = centre[world] * unit.times;
                format!("{name}, {} = {at:.1} {}", WORLD[world], unit.name)
            }
            None => "image".to_owned(),
        };
        let down = Axis { flipped: down_axis.flipped != up, ..down_axis };
        let (shape, spacing) = (grid.shape(), grid.spacing());
        Some(View { name, right: right_axis, down, middle, shape, spacing })
    };
    PLANES.into_iter().filter_map(of).collect()
}

impl<const D: usize> View<D> {
    fn plane(&self, shown: &Shown<'_, D>, unit: Unit) -> Plane {
        let image = |image: &Image<f32, D>| self.slice(|flat| image.data()[flat]);
        #[expect(clippy::cast_precision_loss, reason = "labels are shown, not counted with")]
        let labels = |labels: &Labels<D>| self.slice(|flat| labels.data()[flat] as f32);
        Plane {
            unit,
            name: self.name.clone(),
            fixed: image(shown.fixed),
            moving: shown.moving.map(image),
            warped: image(shown.warped),
            map: [self.position(self.right, shown.map), self.position(self.down, shown.map)],
            det: image(shown.det),
            sigma: shown.sigma.map(|pair| pair.map(image)),
            labels: shown.labels.map(|pair| pair.map(labels)),
        }
    }

    /// Where the pixels go along a shown axis, in pixels.
    fn position(&self, along: Axis, map: &Displacement<f32, D>) -> Slice {
        let Axis { axis, flipped } = along;
        let component = map.component(axis);
        let last = self.shape[axis] - 1;
        let stride = self.strides()[axis];
        self.slice(|flat| {
            let index = (flat / stride % self.shape[axis]) as f64;
            let moved = index + f64::from(component[flat]) / self.spacing[axis];
            #[expect(clippy::cast_possible_truncation, reason = "pixels of a picture")]
            let shown = (if flipped { last as f64 - moved } else { moved }) as f32;
            shown
        })
    }

    fn strides(&self) -> [usize; D] {
        std::array::from_fn(|a| self.shape[a + 1..].iter().product())
    }

    fn slice(&self, value: impl Fn(usize) -> f32) -> Slice {
        let (columns, rows) = (self.shape[self.right.axis], self.shape[self.down.axis]);
        let strides = self.strides();
        let at = |shown: usize, Axis { axis, flipped }: Axis| {
            if flipped { self.shape[axis] - 1 - shown } else { shown }
        };
        let flat = |row: usize, column: usize| {
            let mut index = self.middle;
            index[self.right.axis] = at(column, self.right);
            index[self.down.axis] = at(row, self.down);
            index.iter().zip(strides).map(|(i, stride)| i * stride).sum::<usize>()
        };
        let pixels = (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column)));
        Slice {
            columns,
            rows,
            spacing: [self.spacing[self.right.axis], self.spacing[self.down.axis]],
            values: pixels.map(|(row, column)| value(flat(row, column))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use nalgebra::SMatrix;

    use super::*;

    #[test]
    fn a_flipped_volume_is_shown_as_the_world_is() {
        // Axes: −z, x, −y.
        let direction = SMatrix::<f64, 3, 3>::new(0.0, 1.0, 0.0, 0.0, 0.0, -1.0, -1.0, 0.0, 0.0);
        let grid = Grid::new([5, 6, 7], [1.0, 2.0, 3.0])
            .and_then(|grid| grid.with_direction(direction))
            .unwrap();
        // Values are world coordinates, so that they must rise to the right and fall upwards.
        #[expect(clippy::cast_possible_truncation, reason = "small numbers")]
        let coordinate = |world: usize| {
            let at = |flat: usize| grid.to_world(grid.unravel(flat).map(|i| i as f64))[world];
            let data = (0..grid.len()).map(|flat| at(flat) as f32).collect();
            Image::from_vec(&grid, data).unwrap()
        };
        let rest = Displacement::zeros(&grid).unwrap();
        for (k, (right, down)) in [(0, 1), (0, 2), (1, 2)].into_iter().enumerate() {
            let (a, b) = (coordinate(right), coordinate(down));
            let shown = Shown {
                fixed: &a,
                moving: None,
                warped: &b,
                map: &rest,
                det: &a,
                sigma: None,
                labels: None,
            };
            let planes = planes(&shown, Unit::MILLIMETRES);
            assert_eq!(planes.len(), 3);
            let plane = &planes[k];
            let columns = plane.fixed.columns;
            assert!(plane.fixed.values[columns - 1] > plane.fixed.values[0]);
            let last_row = &plane.warped.values[plane.warped.values.len() - columns..];
            // y (back) runs down, z (head) runs up.
            assert_eq!(last_row[0] > plane.warped.values[0], down == 1);
            // The identity carries each pixel to itself.
            for (axis, map) in plane.map.iter().enumerate() {
                for (at, &found) in map.values.iter().enumerate() {
                    let expected = if axis == 0 { at % columns } else { at / columns };
                    assert!((found - expected as f32).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn an_image_has_one_plane_with_x_to_the_right_and_y_down() {
        let grid = Grid::new([4, 6], [1.0, 2.0]).unwrap();
        let image = Image::<f32, 2>::from_fn(&grid, |x| 10.0 * x[1] + x[0]).unwrap();
        let moved = Displacement::from_fn(&grid, |_| [0.5, 4.0]).unwrap();
        let shown = Shown {
            fixed: &image,
            moving: None,
            warped: &image,
            map: &moved,
            det: &image,
            sigma: None,
            labels: None,
        };
        let planes = planes(&shown, Unit::MILLIMETRES);
        assert_eq!(planes.len(), 1);
        let plane = &planes[0];
        assert_eq!((plane.fixed.columns, plane.fixed.rows), (4, 6));
        assert_eq!(plane.fixed.values[..5], [0.0, 1.0, 2.0, 3.0, 20.0]);
        assert_eq!(plane.fixed.spacing.map(f64::to_bits), [1.0, 2.0].map(f64::to_bits));
        assert_eq!((plane.map[0].values[0], plane.map[1].values[0]), (0.5, 2.0));
    }
}
