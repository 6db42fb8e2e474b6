//! ITK's classes of transforms: from parameters to a matrix and a shift, or to a displacement field.

use nalgebra::{DMatrix, SMatrix, SVector};
use rdmm_core::field::Displacement;
use rdmm_core::field::kind::Map;
use rdmm_core::world::Affine;

use crate::error::Problem;
use crate::placement::Geometry;
use crate::samples::planar;
use crate::volume::{Meaning, Sample, Volume};

/// How far the square of a versor's length may be above one: rounding of its three parameters.
const VERSOR: f64 = 1e-6;

/// One transform of a file, as it stands there.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// Such as `AffineTransform_double_3_3`.
    pub(super) name: String,
    pub(super) parameters: Vec<f64>,
    pub(super) fixed: Vec<f64>,
}

/// The affine map of a file: one record, or a composite and those that it holds.
pub(super) fn affine<const D: usize>(
    records: &[Record],
) -> std::result::Result<Affine<D>, Problem> {
    match records {
        [] => Err(Problem::content(
            "transform file",
            "`Transform:` and its parameters",
            "no transform",
        )),
        [one] => single(one),
        [first, parts @ ..] if first.name.starts_with("CompositeTransform_") => {
            // The last part is applied first.
            let whole = |whole: Affine<D>, part| Ok(whole.after(&single(part)?)?);
            parts.iter().try_fold(Affine::identity(), whole)
        }
        [..] => {
            let expected = "one transform, or a CompositeTransform as the first: split the file";
            let names: Vec<&str> = records.iter().map(|record| record.name.as_str()).collect();
            Err(Problem::content("transform file", expected, names.join(", ")))
        }
    }
}

/// The maps of a file, the first one applied first to points, each as `of_affine` or `of_field` makes it. Linear ones only are
/// one map.
pub(super) fn maps<M, const D: usize>(
    records: &[Record],
    of_affine: impl Fn(Affine<D>) -> M,
    of_field: impl Fn(Displacement<f32, D>) -> M,
) -> std::result::Result<Vec<M>, Problem> {
    if !records.iter().any(|record| record.name.starts_with(FIELD)) {
        return Ok(vec![of_affine(affine(records)?)]);
    }
    let parts = match records {
        [first, parts @ ..] if first.name.starts_with("CompositeTransform_") => parts,
        _ => records,
    };
    let map = |record: &Record| {
        if record.name.starts_with(FIELD) {
            return Ok(of_field(field(record)?));
        }
        Ok(of_affine(single(record)?))
    };
    // The last part is applied first.
    parts.iter().rev().map(map).collect()
}

/// How the names of displacement fields begin.
const FIELD: &str = "DisplacementFieldTransform_";

/// A displacement field: vectors voxel by voxel, the first axis the fastest, and the lattice as fixed parameters: size,
/// origin, spacing, and the direction by rows.
fn field<const D: usize>(record: &Record) -> std::result::Result<Displacement<f32, D>, Problem> {
    class_of::<D>(&record.name)?;
    if record.fixed.len() != 3 * D + D * D {
        let found = format!("{} numbers of {}", record.fixed.len(), record.name);
        let expected = "size, origin, spacing and direction of a lattice";
        return Err(Problem::content("fixed parameters of the transform", expected, found));
    }
    let whole = |&x: &f64| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        let n = x as usize;
        let fits = x.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&x);
        fits.then_some(n).ok_or_else(|| Problem::content("size of a field", "voxels an axis", x))
    };
    let (size, rest) = record.fixed.split_at(D);
    let shape: Vec<usize> = size.iter().map(whole).collect::<std::result::Result<_, _>>()?;
    let geometry = Geometry {
        shape: shape.clone(),
        origin: rest[..D].to_vec(),
        spacing: rest[D..2 * D].to_vec(),
        direction: DMatrix::from_row_slice(D, D, &rest[2 * D..]),
    };
    let count = shape.iter().try_fold(D, |count, &n| count.checked_mul(n));
    let values = planar(counted(record, count.unwrap_or(usize::MAX))?.to_vec(), 1, D)?;
    Volume::new(geometry, D, Meaning::Vectors, Sample::F64, values).vectors::<D, Map>()
}

fn single<const D: usize>(record: &Record) -> std::result::Result<Affine<D>, Problem> {
    let class = class_of::<D>(&record.name)?;
    let (p, fixed) = (&record.parameters, &record.fixed);
    let linear = match (class, D) {
        ("AffineTransform" | "MatrixOffsetTransformBase", _) | ("Rigid3DTransform", 3) => {
            let p = counted(record, D * D + D)?;
            Linear { rows: p[..D * D].to_vec(), shift: p[D * D..].to_vec() }
        }
        ("Euler2DTransform" | "Rigid2DTransform", 2) => {
            let p = counted(record, 3)?;
            Linear { rows: turn(p[0], 1.0), shift: p[1..].to_vec() }
        }
        ("Similarity2DTransform", 2) => {
            let p = counted(record, 4)?;
            Linear { rows: turn(p[1], p[0]), shift: p[2..].to_vec() }
        }
        ("Euler3DTransform", 3) => {
            let p = counted(record, 6)?;
            // A fourth fixed parameter says that Z Y X is the order of the angles, not Z X Y.
            let order = if fixed.get(3).is_some_and(|&x| x != 0.0) { [2, 1, 0] } else { [2, 0, 1] };
            Linear { rows: euler([p[0], p[1], p[2]], order), shift: p[3..].to_vec() }
        }
        ("VersorTransform", 3) => {
            let p = counted(record, 3)?;
            Linear { rows: versor([p[0], p[1], p[2]], 1.0)?, shift: vec![0.0; 3] }
        }
        ("VersorRigid3DTransform", 3) => {
            let p = counted(record, 6)?;
            Linear { rows: versor([p[0], p[1], p[2]], 1.0)?, shift: p[3..].to_vec() }
        }
        ("Similarity3DTransform", 3) => {
            let p = counted(record, 7)?;
            Linear { rows: versor([p[0], p[1], p[2]], p[6])?, shift: p[3..6].to_vec() }
        }
        ("ScaleVersor3DTransform", 3) => stretched(counted(record, 9)?, [0.0; 6])?,
        ("ScaleSkewVersor3DTransform", 3) => {
            let p = counted(record, 15)?;
            stretched(p, std::array::from_fn(|k| p[9 + k]))?
        }
        ("TranslationTransform", _) => {
            return Ok(Affine::new(SMatrix::identity(), vector(counted(record, D)?))?);
        }
        ("ScaleTransform", _) => {
            let scales = SMatrix::from_diagonal(&vector::<D>(counted(record, D)?));
            let rows = scales.iter().copied().collect();
            Linear { rows, shift: vec![0.0; D] }
        }
        ("IdentityTransform", _) if p.is_empty() => return Ok(Affine::identity()),
        _ => return Err(unknown(&record.name)),
    };
    let matrix = SMatrix::<f64, D, D>::from_row_slice(&linear.rows);
    let centre = centre::<D>(record)?;
    Ok(Affine::new(matrix, vector::<D>(&linear.shift) + centre - matrix * centre)?)
}

/// x ↦ M (x − c) + c + t: M by rows, and t.
struct Linear {
    rows: Vec<f64>,
    shift: Vec<f64>,
}

fn unknown(name: &str) -> Problem {
    let expected = "a linear transform of ITK (affine, Euler, similarity, versor, with scales and skew, translation, \
                    scale, identity) or a displacement field in an image file";
    Problem::content("class of the transform", expected, name)
}

/// The class in a name such as `AffineTransform_double_3_3`, for D dimensions.
fn class_of<const D: usize>(name: &str) -> std::result::Result<&str, Problem> {
    let mut parts = name.rsplitn(4, '_');
    let (output, input, scalar) = (parts.next(), parts.next(), parts.next());
    let Some(class) = parts.next() else { return Err(unknown(name)) };
    if !matches!(scalar, Some("double" | "float")) {
        return Err(Problem::content("numbers of the transform", "double or float", name));
    }
    let dimension = D.to_string();
    if input == Some(&dimension) && output == Some(&dimension) {
        return Ok(class);
    }
    let expected = "a transform between spaces of as many dimensions as the images";
    Err(Problem::content("dimensions of the transform", expected, format!("{name}, images of {D}")))
}

fn counted(record: &Record, count: usize) -> std::result::Result<&[f64], Problem> {
    if record.parameters.len() == count {
        return Ok(&record.parameters);
    }
    let found = format!("{} of {} instead of {count}", record.parameters.len(), record.name);
    Err(Problem::content("parameters of the transform", "as many as its class has", found))
}

fn centre<const D: usize>(record: &Record) -> std::result::Result<SVector<f64, D>, Problem> {
    let most = if record.name.starts_with("Euler3DTransform_") { D + 1 } else { D };
    if !(D..=most).contains(&record.fixed.len()) {
        let found = format!("{} numbers of {}", record.fixed.len(), record.name);
        let expected = "the centre, a number a dimension";
        return Err(Problem::content("fixed parameters of the transform", expected, found));
    }
    Ok(vector(&record.fixed))
}

/// The first D numbers, of at least as many.
fn vector<const D: usize>(numbers: &[f64]) -> SVector<f64, D> {
    SVector::from_fn(|a, _| numbers[a])
}

/// A scaled turn of the plane.
fn turn(angle: f64, scale: f64) -> Vec<f64> {
    let (s, c) = angle.sin_cos();
    vec![scale * c, -scale * s, scale * s, scale * c]
}

/// The product of turns about the axes in `order`, the last of which is applied first.
fn euler(angles: [f64; 3], order: [usize; 3]) -> Vec<f64> {
    let about = |axis: usize| {
        let (s, c) = angles[axis].sin_cos();
        let (a, b) = ((axis + 1) % 3, (axis + 2) % 3);
        let mut turn = SMatrix::<f64, 3, 3>::identity();
        (turn[(a, a)], turn[(a, b)], turn[(b, a)], turn[(b, b)]) = (c, -s, s, c);
        turn
    };
    let product = about(order[0]) * about(order[1]) * about(order[2]);
    product.transpose().iter().copied().collect()
}

/// A scaled turn by a unit quaternion with the vector part v and a real part that is not negative.
fn versor(v: [f64; 3], scale: f64) -> std::result::Result<Vec<f64>, Problem> {
    let [x, y, z] = v;
    let square = x * x + y * y + z * z;
    if square > 1.0 + VERSOR {
        let expected = "a vector part of length one at most";
        return Err(Problem::content("versor", expected, format!("length {}", square.sqrt())));
    }
    let w = (1.0 - square.min(1.0)).sqrt();
    let rows = [
        [1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y - z * w), 2.0 * (x * z + y * w)],
        [2.0 * (x * y + z * w), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z - x * w)],
        [2.0 * (x * z - y * w), 2.0 * (y * z + x * w), 1.0 - 2.0 * (x * x + y * y)],
    ];
    Ok(rows.as_flattened().iter().map(|entry| scale * entry).collect())
}

/// A turn by a versor, a shift and scales s, three numbers each, and skew k. ITK does not multiply the turn by what
/// stretches it: s − 1 is added to its diagonal, and k to the other entries, row by row.
fn stretched(p: &[f64], skew: [f64; 6]) -> std::result::Result<Linear, Problem> {
    let mut rows = versor([p[0], p[1], p[2]], 1.0)?;
    for (entry, scale) in [0, 4, 8].into_iter().zip(&p[6..9]) {
        rows[entry] += scale - 1.0;
    }
    for (entry, k) in [1, 2, 3, 5, 6, 7].into_iter().zip(skew) {
        rows[entry] += k;
    }
    Ok(Linear { rows, shift: p[3..6].to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, parameters: &[f64], fixed: &[f64]) -> Record {
        Record { name: name.to_owned(), parameters: parameters.to_vec(), fixed: fixed.to_vec() }
    }

    fn close<const D: usize>(found: [f64; D], expected: [f64; D]) {
        // A few roundings of numbers of order ten.
        assert!((0..D).all(|a| (found[a] - expected[a]).abs() < 1e-13), "{found:?} {expected:?}");
    }

    #[test]
    fn scales_and_skew_are_added_to_the_turn() {
        // Without a turn: (1.5, 0.5, 2) along the axes, about (1, 2, 3).
        let mut p = vec![0.0, 0.0, 0.0, 5.0, -3.0, 8.0, 1.5, 0.5, 2.0];
        let map = affine::<3>(&[record("ScaleVersor3DTransform_double_3_3", &p, &[1.0, 2.0, 3.0])]);
        close(map.unwrap().apply([3.0, 4.0, 4.0]), [9.0, 0.0, 13.0]);
        // A quarter about the last axis, and half of y added to x.
        p[2] = std::f64::consts::FRAC_1_SQRT_2;
        p.extend([0.5, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let name = "ScaleSkewVersor3DTransform_double_3_3";
        let map = affine::<3>(&[record(name, &p, &[0.0; 3])]).unwrap();
        close(map.apply([1.0, 0.0, 0.0]), [5.5, -2.0, 8.0]);
        close(map.apply([0.0, 1.0, 0.0]), [4.5, -3.5, 8.0]);
        assert!(affine::<3>(&[record(name, &p[..9], &[0.0; 3])]).is_err());
    }

    #[test]
    fn the_centre_stays_but_for_the_translation() {
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let turn = std::f64::consts::FRAC_PI_2;
        let (c2, c3) = ([4.0, -7.0], [4.0, -7.0, 11.0]);
        // A quarter about the last axis takes (1, 0) beside the centre to (0, 1).
        for (name, p) in [
            ("Euler2DTransform_double_2_2", vec![turn, 1.0, 2.0]),
            ("Rigid2DTransform_float_2_2", vec![turn, 1.0, 2.0]),
            ("Similarity2DTransform_double_2_2", vec![1.0, turn, 1.0, 2.0]),
            ("AffineTransform_double_2_2", vec![0.0, -1.0, 1.0, 0.0, 1.0, 2.0]),
            ("MatrixOffsetTransformBase_double_2_2", vec![0.0, -1.0, 1.0, 0.0, 1.0, 2.0]),
        ] {
            let map = affine::<2>(&[record(name, &p, &c2)]).unwrap();
            close(map.apply(c2), [5.0, -5.0]);
            close(map.apply([5.0, -7.0]), [5.0, -4.0]);
        }
        for (name, p) in [
            ("Euler3DTransform_double_3_3", vec![0.0, 0.0, turn, 1.0, 2.0, 3.0]),
            ("VersorRigid3DTransform_double_3_3", vec![0.0, 0.0, half, 1.0, 2.0, 3.0]),
            ("Similarity3DTransform_double_3_3", vec![0.0, 0.0, half, 1.0, 2.0, 3.0, 1.0]),
        ] {
            let map = affine::<3>(&[record(name, &p, &c3)]).unwrap();
            close(map.apply(c3), [5.0, -5.0, 14.0]);
            close(map.apply([5.0, -7.0, 11.0]), [5.0, -4.0, 14.0]);
        }
    }

    #[test]
    fn scales_versors_shifts_and_nothing() {
        let map =
            affine::<3>(&[record("ScaleTransform_double_3_3", &[2.0, 3.0, 4.0], &[1.0, 1.0, 1.0])]);
        close(map.unwrap().apply([2.0, 2.0, 2.0]), [3.0, 4.0, 5.0]);
        let map = affine::<3>(&[record("TranslationTransform_double_3_3", &[1.0, 2.0, 3.0], &[])]);
        close(map.unwrap().apply([0.0; 3]), [1.0, 2.0, 3.0]);
        let map = affine::<3>(&[record("IdentityTransform_double_3_3", &[], &[])]);
        assert_eq!(map.unwrap(), Affine::identity());
        let long = record("VersorTransform_double_3_3", &[1.0, 0.5, 0.0], &[0.0; 3]);
        assert!(affine::<3>(&[long]).unwrap_err().to_string().contains("1.118"));
    }

    #[test]
    fn the_orders_of_euler_angles_differ() {
        let [a, b] = [0.3_f64, 0.5];
        let angles = [a, b, 0.0, 0.0, 0.0, 0.0];
        let point = [0.0, 0.0, 1.0];
        let at = |fixed: &[f64]| {
            affine::<3>(&[record("Euler3DTransform_double_3_3", &angles, fixed)])
                .unwrap()
                .apply(point)
        };
        // Rx(Ry z) and Ry(Rx z).
        close(at(&[0.0; 3]), [b.sin(), -a.sin() * b.cos(), a.cos() * b.cos()]);
        close(at(&[0.0; 4]), at(&[0.0; 3]));
        close(at(&[0.0, 0.0, 0.0, 1.0]), [b.sin() * a.cos(), -a.sin(), b.cos() * a.cos()]);
    }

    #[test]
    fn composites_apply_the_last_first() {
        let shift = record("TranslationTransform_double_2_2", &[1.0, 0.0], &[]);
        let double = record("ScaleTransform_double_2_2", &[2.0, 2.0], &[0.0, 0.0]);
        let composite = record("CompositeTransform_double_2_2", &[], &[]);
        let map = affine::<2>(&[composite, shift.clone(), double.clone()]).unwrap();
        close(map.apply([3.0, 5.0]), [7.0, 10.0]);
        let error = affine::<2>(&[shift, double]).unwrap_err().to_string();
        assert!(error.contains("TranslationTransform_double_2_2, ScaleTransform"), "{error}");
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name() {
        for (name, p, fixed, part) in [
            ("AffineTransform_double_2_2", vec![0.0; 6], vec![0.0; 2], "images of 3"),
            ("AffineTransform_double_3_3", vec![0.0; 11], vec![0.0; 3], "11 of AffineTransform"),
            (
                "AffineTransform_double_3_3",
                vec![1.0; 12],
                vec![0.0; 2],
                "2 numbers of AffineTransform",
            ),
            (
                "AffineTransform_double_3_3",
                vec![1.0; 12],
                vec![0.0; 4],
                "4 numbers of AffineTransform",
            ),
            ("AffineTransform_int_3_3", vec![0.0; 12], vec![0.0; 3], "double or float"),
            ("Euler2DTransform_double_3_3", vec![0.0; 3], vec![0.0; 3], "Euler2DTransform"),
            ("ScaleLogarithmicTransform_double_3_3", vec![0.0; 3], vec![0.0; 3], "ScaleLog"),
            ("CompositeTransform_double_3_3", vec![], vec![], "CompositeTransform"),
            ("Affine", vec![], vec![], "Affine"),
        ] {
            let error = affine::<3>(&[record(name, &p, &fixed)]).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
