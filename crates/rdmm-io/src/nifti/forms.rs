//! The two places that a header gives an image: `qform`, a turn with a spacing, and `sform`, any matrix.

use nalgebra::{DMatrix, Matrix3, Quaternion, Rotation3, UnitQuaternion};

use crate::error::Problem;
use crate::placement::{self, Geometry};

type Result<T> = std::result::Result<T, Problem>;

/// From RAS, the world of `NIfTI`, to LPS and back.
const FLIP: [f64; 3] = [-1.0, -1.0, 1.0];

/// Positions in the world that scanners give (`NIFTI_XFORM_SCANNER_ANAT`).
const SCANNER: i32 = 1;

/// How far apart, in voxels, both forms may place a corner of the image and still count as one: headers hold seven
/// digits, which leave less, and nobody sees more than a hundredth.
const APART: f64 = 1e-2;

/// How far, as a fraction, lengths of the columns of the `sform` may be from `pixdim`: headers hold rounded numbers.
const SCALE: f64 = 1e-3;

/// The places that a `NIfTI` header gives an image, with their codes: `qform` and `sform`, in RAS millimetres.
///
/// A volume keeps them where they say more than its [`Geometry`]: other codes than 1, or two places that differ.
/// [`Volume::placed_as`](crate::Volume::placed_as) hands them to another volume on the same lattice, so that it lies
/// on the first one in every viewer, whichever form it prefers.
#[derive(Clone, Debug, PartialEq)]
pub struct Forms {
    pub(super) qform: i32,
    pub(super) sform: i32,
    /// The sign of the third axis, and the spacing.
    pub(super) pixdim: [f64; 4],
    pub(super) quaternion: [f64; 3],
    pub(super) shift: [f64; 3],
    pub(super) rows: [[f64; 4]; 3],
}

/// What a form is called and where it places the axes, LPS.
struct Place {
    name: &'static str,
    code: i32,
    steps: DMatrix<f64>,
    origin: [f64; 3],
}

impl Place {
    fn at(&self, index: [f64; 3]) -> [f64; 3] {
        std::array::from_fn(|r| {
            self.origin[r] + (0..3).map(|c| self.steps[(r, c)] * index[c]).sum::<f64>()
        })
    }
}

impl Forms {
    /// Both forms of a lattice, as scanners give them. Slices lie in the x-y plane, at z = 0.
    pub(super) fn of(geometry: &Geometry) -> Self {
        let axes = geometry.shape.len();
        let mut turn = Matrix3::identity();
        let (mut spacing, mut origin) = ([1.0; 3], [0.0; 3]);
        for a in 0..axes {
            (spacing[a], origin[a]) = (geometry.spacing[a], FLIP[a] * geometry.origin[a]);
            for b in 0..axes {
                turn[(a, b)] = geometry.direction[(a, b)];
            }
        }
        for r in 0..3 {
            turn.row_mut(r).iter_mut().for_each(|x| *x *= FLIP[r]);
        }
        let rows = std::array::from_fn(|r| {
            std::array::from_fn(|c| if c < 3 { turn[(r, c)] * spacing[c] } else { origin[r] })
        });
        let sign = if turn.determinant() < 0.0 { -1.0 } else { 1.0 };
        let mut proper = turn;
        proper.column_mut(2).scale_mut(sign);
        let mut unit =
            *UnitQuaternion::from_rotation_matrix(&Rotation3::from_matrix_unchecked(proper));
        if unit.w < 0.0 {
            unit = -unit;
        }
        let pixdim = [sign, spacing[0], spacing[1], spacing[2]];
        let quaternion = [unit.i, unit.j, unit.k];
        Self { qform: SCANNER, sform: SCANNER, pixdim, quaternion, shift: origin, rows }
    }

    /// The same in another unit; spacings of zero count as one, which is said of the first `axes`, those below zero without
    /// their sign.
    pub(super) fn in_millimetres(
        mut self,
        unit: f64,
        axes: usize,
        warnings: &mut Vec<String>,
    ) -> Self {
        for axis in 0..3 {
            let found = self.pixdim[axis + 1].abs();
            self.pixdim[axis + 1] = if found == 0.0 { 1.0 } else { found };
            // A spacing of its own is all that the sform needs.
            if found == 0.0 && axis < axes && (self.qform > 0 || self.sform <= 0) {
                warnings.push(format!(
                    "pixdim is 0 along axis {axis}: it counts as 1; correct the header if that is wrong"
                ));
            }
        }
        self.pixdim[1..].iter_mut().for_each(|x| *x *= unit);
        self.shift.iter_mut().for_each(|x| *x *= unit);
        self.rows.as_flattened_mut().iter_mut().for_each(|x| *x *= unit);
        self
    }

    fn by_sform(&self) -> Place {
        Place {
            name: "sform",
            code: self.sform,
            steps: DMatrix::from_fn(3, 3, |r, c| FLIP[r] * self.rows[r][c]),
            origin: std::array::from_fn(|r| FLIP[r] * self.rows[r][3]),
        }
    }

    fn by_qform(&self) -> Place {
        let turn = self.rotation();
        Place {
            name: "qform",
            code: self.qform,
            steps: DMatrix::from_fn(3, 3, |r, c| FLIP[r] * turn[(r, c)] * self.pixdim[c + 1]),
            origin: std::array::from_fn(|r| FLIP[r] * self.shift[r]),
        }
    }

    /// Axes along LPS, the origin at zero.
    fn by_spacing(&self) -> Place {
        let steps = DMatrix::from_diagonal(&self.pixdim[1..].to_vec().into());
        Place { name: "spacing", code: 0, steps, origin: [0.0; 3] }
    }

    /// The matrix of the unit quaternion (a, b, c, d) with a ≥ 0, its last column by the sign of
    /// `pixdim[0]`.
    fn rotation(&self) -> Matrix3<f64> {
        let [b, c, d] = self.quaternion;
        let a = (1.0 - b * b - c * c - d * d).max(0.0).sqrt();
        let turn = UnitQuaternion::from_quaternion(Quaternion::new(a, b, c, d));
        let mut matrix = turn.to_rotation_matrix().into_inner();
        if self.pixdim[0] < 0.0 {
            matrix.column_mut(2).neg_mut();
        }
        matrix
    }

    /// The forms that have a code, the one that counts first: as ITK chooses, `sform` only if it is of the scanner
    /// (code 1) or alone.
    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        if self.sform > 0 {
            places.push(self.by_sform());
        }
        if self.qform > 0 {
            places.push(self.by_qform());
        }
        if self.sform != SCANNER {
            places.reverse();
        }
        if places.is_empty() {
            places.push(self.by_spacing());
        }
        places
    }

    /// The lattice: by the first of the forms that is one. `warnings` says where that is doubtful.
    pub(super) fn geometry(&self, shape: &[usize], warnings: &mut Vec<String>) -> Result<Geometry> {
        let places = self.places();
        let placed =
            |place: &Place| placement::geometry(shape.to_vec(), &place.steps, &place.origin);
        let (taken, geometry) = match (places.as_slice(), places.first().map(placed)) {
            ([first, second], Some(Err(refused))) => {
                // The header says first what the first form lacks.
                let Ok(geometry) = placed(second) else { return Err(refused) };
                warnings.push(format!(
                    "the {} (code {}) is no place of an image ({refused}); the {} (code {}) is taken",
                    first.name, first.code, second.name, second.code
                ));
                (second, geometry)
            }
            ([first, ..], Some(geometry)) => {
                let geometry = geometry?;
                if let Some(second) = places.get(1) {
                    warnings.extend(apart(first, second, &geometry));
                }
                (first, geometry)
            }
            _ => return Err(Problem::content("header", "a form", "none")),
        };
        if taken.name == "sform" {
            warnings.extend(self.scaled(taken, shape.len()));
        }
        Ok(geometry)
    }

    /// What is to be said where the columns of the `sform` are not as long as `pixdim` says.
    fn scaled(&self, sform: &Place, axes: usize) -> Option<String> {
        let pixdim = &self.pixdim[1..=axes];
        let lengths = sform.steps.column_iter().take(axes).map(|step| step.norm());
        let lengths: Vec<f64> = lengths.collect();
        let off = |(length, pixdim): (&f64, &f64)| (length - pixdim).abs() > SCALE * pixdim;
        lengths.iter().zip(pixdim).any(off).then(|| {
            format!(
                "the sform has a spacing of {lengths:?} mm, pixdim one of {pixdim:?}: that of the sform is taken, as FSL \
                 and nibabel do (ITK takes pixdim)"
            )
        })
    }

    /// The forms where they say more than the lattice that was read by them.
    pub(super) fn beside(self, geometry: &Geometry) -> Option<Self> {
        let plain = Self::of(geometry).by_sform();
        let same = |place: &Place| distance(place, &plain, geometry) <= limit(geometry);
        let places = self.places();
        let alike = places.iter().all(same);
        // A slice that is not in the x-y plane is at neither: it is written there, with the forms of that place.
        let written = places.iter().any(same);
        let codes = (self.qform, self.sform) == (SCANNER, SCANNER);
        (written && !(codes && alike)).then_some(self)
    }

    /// Whether a volume on this lattice lies at one of the forms, the one that is read.
    pub(super) fn fits(&self, geometry: &Geometry) -> bool {
        let placed = self.geometry(&geometry.shape, &mut Vec::new());
        placed.is_ok_and(|found| {
            let (found, wanted) = (Self::of(&found), Self::of(geometry));
            distance(&found.by_sform(), &wanted.by_sform(), geometry) <= limit(geometry)
        })
    }
}

/// The largest distance of the corners of an image, mm, as two forms have them.
fn distance(a: &Place, b: &Place, geometry: &Geometry) -> f64 {
    let last = |axis: usize| geometry.shape.get(axis).map_or(0.0, |&n| n as f64 - 1.0);
    let corner = |bits: usize| {
        let index =
            std::array::from_fn(|axis| if bits >> axis & 1 == 1 { last(axis) } else { 0.0 });
        let (a, b) = (a.at(index), b.at(index));
        (0..3).map(|r| (a[r] - b[r]).powi(2)).sum::<f64>().sqrt()
    };
    // Of NaN nothing is known: it is as far as can be.
    (0..8).map(corner).fold(0.0, |most, x| if x.is_nan() { f64::INFINITY } else { x.max(most) })
}

/// Distances that count as none, mm.
fn limit(geometry: &Geometry) -> f64 {
    APART * geometry.spacing.iter().copied().fold(f64::INFINITY, f64::min)
}

/// What is to be said where two forms differ.
fn apart(taken: &Place, other: &Place, geometry: &Geometry) -> Option<String> {
    let found = distance(taken, other, geometry);
    (found > limit(geometry)).then(|| {
        format!(
            "the {} (code {}) and the {} (code {}) place the image up to {found:.3} mm apart: the {} is taken, as ITK \
             does; make them alike if that is wrong",
            taken.name, taken.code, other.name, other.code, taken.name
        )
    })
}
