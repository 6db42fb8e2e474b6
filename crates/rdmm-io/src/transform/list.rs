//! Lists of transforms in the order of ITK and ANTs.

use std::path::PathBuf;
use std::str::FromStr;

use nalgebra::SVector;
use rayon::prelude::*;
use rdmm_core::field::Displacement;
use rdmm_core::grid::Grid;
use rdmm_core::ops::inverse::Inverse;
use rdmm_core::world::Affine;
use rdmm_core::{Error, Real};

use super::{Transform, fsl, inverse, within};
use crate::error::{Problem, Result};
use crate::placement::Geometry;
use crate::samples::{reserved, single};
use crate::volume::{Meaning, Sample, Volume};

/// Voxels that are worked on together.
const BLOCK: usize = 1 << 18;

/// A transform of a list, in the notation of ANTs: `path` as it is, `[path,1]` inverted, `[path,0]` not. Files of FSL are
/// about a pair of images, which are named beside them: `fsl:path,reference,input`, in brackets too.
///
/// ```
/// use rdmm_io::Listed;
/// let listed: Listed = "[pair0GenericAffine.mat,1]".parse()?;
/// assert!(listed.inverted && listed.path.ends_with("pair0GenericAffine.mat"));
/// assert!(!"pair1Warp.nii.gz".parse::<Listed>()?.inverted);
/// assert!("[pair1Warp.nii.gz]".parse::<Listed>().is_err());
/// let listed: Listed = "[fsl:flirt.mat,mni.nii.gz,t1.nii.gz,1]".parse()?;
/// assert!(listed.inverted && listed.images.is_some_and(|[reference, _]| reference.ends_with("mni.nii.gz")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The file.
    pub path: PathBuf,
    /// Whether the inverse of what it holds is meant.
    pub inverted: bool,
    /// For a file of FSL the fixed image (`-ref`) and the moving one (`-in`) that it is about.
    pub images: Option<[PathBuf; 2]>,
}

impl Listed {
    /// The file of any program but FSL, as it is.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), inverted: false, images: None }
    }

    /// What the file holds, the first one applied first to points.
    fn read<const D: usize>(&self) -> Result<Vec<Transform<D>>> {
        match &self.images {
            Some([fixed, moving]) => Ok(vec![fsl::read(&self.path, fixed, moving)?]),
            None => Transform::read_list(&self.path),
        }
    }
}

impl FromStr for Listed {
    type Err = Problem;

    fn from_str(text: &str) -> std::result::Result<Self, Problem> {
        let refused = || {
            let expected = "`path`, `[path,0]` or `[path,1]`, where a file of FSL is `fsl:path,reference,input`";
            Problem::content("transform", expected, text)
        };
        let path = |text: &str| match text.trim() {
            "" => Err(refused()),
            path => Ok(PathBuf::from(path)),
        };
        let listed = |text: &str, inverted| {
            let Some(files) = text.trim().strip_prefix("fsl:") else {
                return Ok(Self { path: path(text)?, inverted, images: None });
            };
            let mut files = files.rsplitn(3, ',');
            match (files.next(), files.next(), files.next()) {
                (Some(input), Some(reference), Some(file)) => {
                    let images = Some([path(reference)?, path(input)?]);
                    Ok(Self { path: path(file)?, inverted, images })
                }
                _ => Err(refused()),
            }
        };
        let Some(inner) = text.trim().strip_prefix('[') else { return listed(text, false) };
        let (inner, flag) =
            inner.strip_suffix(']').and_then(|i| i.rsplit_once(',')).ok_or_else(refused)?;
        match flag.trim() {
            "0" => listed(inner, false),
            "1" => listed(inner, true),
            _ => Err(refused()),
        }
    }
}

/// Transforms one after the other, as `antsApplyTransforms -t first -t second …` has them: a point of the
/// *fixed* image goes through the first transform of the list, the result through the second, and so on, and
/// ends in the moving image. A registration by an affine map and then a warp is listed as warp, affine.
///
/// (ANTs' own help says that the last transform is applied first; that is about the image.)
#[derive(Clone, Debug)]
pub struct Chain<const D: usize> {
    links: Vec<Link<D>>,
}

/// A transform of a list, and the file that it was read from.
#[derive(Clone, Debug)]
struct Link<const D: usize> {
    step: Step<D>,
    file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Step<const D: usize> {
    Forward(Transform<D>),
    /// The inverse of a warp, found at each point.
    Backward(Box<Inverse<f32, D>>),
}

/// Points that are beyond the grid of a warp when it is their turn, see [`Chain::beyond`].
#[derive(Clone, Debug, PartialEq)]
pub struct Beyond {
    /// The file of the warp, where it was read from one.
    pub file: Option<PathBuf>,
    /// How many points.
    pub points: usize,
    /// The longest displacement at the border of the warp, in millimetres: so far apart are points torn there that lie on
    /// both sides of it.
    pub jump: f64,
    /// The same in voxels of the warp, along the axis where it is largest.
    pub jump_voxels: f64,
}

impl<const D: usize> Step<D> {
    fn new(transform: Transform<D>, inverted: bool) -> rdmm_core::Result<Self> {
        match (transform, inverted) {
            (Transform::Warp(map), true) => Ok(Self::Backward(Box::new(inverse(map)?))),
            (Transform::Affine(map), true) => Ok(Self::Forward(Transform::Affine(map.inverse()))),
            (transform, false) => Ok(Self::Forward(transform)),
        }
    }

    fn apply(&self, point: [f64; D]) -> rdmm_core::Result<[f64; D]> {
        match self {
            Self::Forward(transform) => Ok(transform.apply(point)),
            Self::Backward(inverse) => {
                let (found, grid) = (inverse.at(point)?, inverse.map().grid());
                // The warp moves nothing beyond its grid, and leads here from nowhere inside of it.
                let alone = !within(grid, found) && !within(grid, point);
                Ok(if alone { point } else { found })
            }
        }
    }

    fn inverse(&self) -> rdmm_core::Result<Self> {
        match self {
            Self::Forward(transform) => Self::new(transform.clone(), true),
            Self::Backward(inverse) => Ok(Self::Forward(Transform::Warp(inverse.map().clone()))),
        }
    }

    /// The warp, inverted or not.
    fn warp(&self) -> Option<&Displacement<f32, D>> {
        match self {
            Self::Forward(Transform::Affine(_)) => None,
            Self::Forward(Transform::Warp(map)) => Some(map),
            Self::Backward(inverse) => Some(inverse.map()),
        }
    }
}

impl<const D: usize> Chain<D> {
    /// A list of transforms, each with whether its inverse is meant. An empty list is the identity.
    ///
    /// # Errors
    /// Those of [`Inverse::new`] for warps that are inverted: folds.
    pub fn new(
        transforms: impl IntoIterator<Item = (Transform<D>, bool)>,
    ) -> rdmm_core::Result<Self> {
        let link =
            |(transform, inverted)| Ok(Link { step: Step::new(transform, inverted)?, file: None });
        Ok(Self { links: transforms.into_iter().map(link).collect::<rdmm_core::Result<_>>()? })
    }

    /// Reads a list of files.
    ///
    /// # Errors
    /// Those of [`Transform::read_list`], [`fsl::read`] and [`Chain::new`], with the file.
    pub fn read(listed: &[Listed]) -> Result<Self> {
        let mut links = Vec::new();
        for entry in listed {
            let mut maps = entry.read()?;
            // The inverse of a list has its inverses in reverse order.
            if entry.inverted {
                maps.reverse();
            }
            for map in maps {
                let step = Step::new(map, entry.inverted)
                    .map_err(|error| Problem::from(error).at(&entry.path))?;
                links.push(Link { step, file: Some(entry.path.clone()) });
            }
        }
        Ok(Self { links })
    }

    /// Where a point of the fixed image lies in the moving one, world coordinates.
    ///
    /// Each transform does what [`Transform::apply`] says. The inverse of a warp is found at the point itself
    /// ([`Inverse::at`]), on no grid, and moves nothing beyond the warp's grid either: it undoes the warp wherever a
    /// point comes from, inside the grid or beyond it. A warp with an affine map in it, which leaves its grid, reaches some
    /// points inside from nowhere: there the inverse is that of the warp continued by the values on its faces.
    ///
    /// # Errors
    /// [`Error::Inverse`] where the inverse of a warp is not found; [`Error::Setting`] for a point that
    /// has left the finite numbers.
    pub fn apply(&self, point: [f64; D]) -> rdmm_core::Result<[f64; D]> {
        self.links.iter().try_fold(point, |point, link| link.step.apply(point))
    }

    /// The warps of the list whose grids some of these points have left when it is their turn, in the order of the list.
    /// There a warp moves nothing, whatever affine map it has in it: what carries such points too is the affine map as a
    /// transform of its own, after a warp of the non-linear part alone.
    ///
    /// # Errors
    /// Those of [`Chain::apply`].
    pub fn beyond(&self, points: &[[f64; D]]) -> rdmm_core::Result<Vec<Beyond>> {
        let mut points = points.to_vec();
        let mut found = Vec::new();
        for Link { step, file } in &self.links {
            let there: Vec<[f64; D]> = points
                .par_iter()
                .map(|&point| step.apply(point))
                .collect::<rdmm_core::Result<_>>()?;
            if let Some(map) = step.warp() {
                // The warp's own points: where it starts, or where its inverse ends.
                let own = if matches!(step, Step::Backward(_)) { &there } else { &points };
                let outside = own.iter().filter(|&&point| !within(map.grid(), point)).count();
                if outside > 0 {
                    let (jump, jump_voxels) = at_border(map);
                    found.push(Beyond { file: file.clone(), points: outside, jump, jump_voxels });
                }
            }
            points = there;
        }
        Ok(found)
    }

    /// The whole list as one displacement over any grid, along its axes: the points of all voxels go through the
    /// list in double precision, so that warps are interpolated once.
    ///
    /// # Errors
    /// [`Error::Inverse`] with the number of voxels where the inverse of a warp is not found;
    /// [`Error::NonFinite`] where points leave the numbers of `f32`; [`Error::OutOfMemory`].
    pub fn displacement(&self, grid: &Grid<D>) -> rdmm_core::Result<Displacement<f32, D>> {
        let axes = grid.direction();
        let back = axes.try_inverse().unwrap_or_else(|| axes.transpose());
        let mut out = Displacement::zeros(grid)?;
        let place = |flat: usize| grid.to_world(grid.unravel(flat).map(|i| i as f64));
        self.moved(grid.len(), place, |flat, u| {
            let along = back * u;
            (0..D).for_each(|a| out.component_mut(a)[flat] = Real::of(along[a]));
        })?;
        out.expect_finite("displacement of a list of transforms")?;
        Ok(out)
    }

    /// The whole list as vectors on any lattice, in the world's axes as files hold them: a warp for [`write`](
    /// crate::write), also where an axis has fewer voxels than a grid needs. The same cost as
    /// [`Chain::displacement`], in double precision.
    ///
    /// # Errors
    /// Those of [`Chain::displacement`] and [`Geometry::lattice`].
    pub fn warp(&self, geometry: &Geometry) -> std::result::Result<Volume, Problem> {
        let lattice = geometry.lattice::<D>()?;
        let n = lattice.len();
        let mut values = reserved(n * D)?;
        values.resize(n * D, 0.0);
        let place = |flat: usize| lattice.to_world(lattice.unravel(flat).map(|i| i as f64));
        self.moved(n, place, |flat, u| (0..D).for_each(|a| values[a * n + flat] = u[a]))?;
        if let Some(index) = values.iter().position(|&x| !single(x).is_finite()) {
            let what = "displacement of a list of transforms";
            return Err(Error::NonFinite { what, index, found: values[index] }.into());
        }
        Ok(Volume::new(geometry.clone(), D, Meaning::Vectors, Sample::F32, values))
    }

    /// Hands what moves each of `n` points to `put`, in their order.
    fn moved(
        &self,
        n: usize,
        place: impl Fn(usize) -> [f64; D] + Sync,
        mut put: impl FnMut(usize, SVector<f64, D>),
    ) -> rdmm_core::Result<()> {
        let moved = |flat: usize| -> rdmm_core::Result<SVector<f64, D>> {
            let x = place(flat);
            Ok(SVector::from(self.apply(x)?) - SVector::from(x))
        };
        let (mut points, mut farthest, mut tolerance) = (0, 0.0_f64, 0.0);
        for lo in (0..n).step_by(BLOCK) {
            let voxels = lo..n.min(lo + BLOCK);
            let block: Vec<_> = voxels.into_par_iter().map(moved).collect();
            for (flat, found) in (lo..).zip(block) {
                match found {
                    Ok(u) => put(flat, u),
                    Err(Error::Inverse { farthest: far, tolerance: asked, .. }) => {
                        (points, farthest, tolerance) = (points + 1, farthest.max(far), asked);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        if points > 0 {
            return Err(Error::Inverse { points, of: n, farthest, tolerance });
        }
        Ok(())
    }

    /// The list as one affine map; `None` where it holds a warp, or where the product of its matrices is too
    /// ill-conditioned to be inverted.
    #[must_use]
    pub fn affine(&self) -> Option<Affine<D>> {
        if self.links.iter().any(|link| link.step.warp().is_some()) {
            return None;
        }
        self.affine_part()
    }

    /// The affine maps of the list one after the other, without its warps: what it does to points beyond the grids of all
    /// of these. `None` where the product of the matrices is too ill-conditioned to be inverted.
    #[must_use]
    pub fn affine_part(&self) -> Option<Affine<D>> {
        self.links.iter().try_fold(Affine::identity(), |first, link| match &link.step {
            Step::Forward(Transform::Affine(map)) => map.after(&first).ok(),
            _ => Some(first),
        })
    }

    /// The inverse: each transform inverted, in reverse order. It takes points of the moving image to the fixed.
    ///
    /// # Errors
    /// Those of [`Inverse::new`]: folds.
    pub fn inverse(&self) -> rdmm_core::Result<Self> {
        let links = self
            .links
            .iter()
            .rev()
            .map(|Link { step, file }| Ok(Link { step: step.inverse()?, file: file.clone() }));
        Ok(Self { links: links.collect::<rdmm_core::Result<_>>()? })
    }
}

/// The longest displacement of the outermost voxels, in millimetres and in voxels of its axis.
fn at_border<const D: usize>(map: &Displacement<f32, D>) -> (f64, f64) {
    let (grid, spacing) = (map.grid(), map.grid().spacing());
    let outermost = |flat: &usize| {
        let index = grid.unravel(*flat);
        (0..D).any(|a| index[a] == 0 || index[a] + 1 == grid.shape()[a])
    };
    let longest = |flat: usize| {
        let u = SVector::<f64, D>::from_fn(|a, _| f64::from(map.component(a)[flat]));
        (u.norm(), u.component_div(&spacing.into()).amax())
    };
    (0..grid.len())
        .filter(outermost)
        .map(longest)
        .fold((0.0, 0.0), |(a, b), (c, d)| (f64::max(a, c), f64::max(b, d)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::TOLERANCE;
    use crate::transform::tests::{oblique, wave};
    use nalgebra::SMatrix;

    fn affine() -> Affine<3> {
        let matrix = SMatrix::<f64, 3, 3>::new(1.1, 0.2, 0.0, -0.1, 0.9, 0.1, 0.0, 0.2, 1.2);
        Affine::new(matrix, SVector::from([3.0, -8.0, 12.0])).unwrap()
    }

    fn near(a: [f64; 3], b: [f64; 3], tolerance: f64) -> bool {
        (0..3).all(|k| (a[k] - b[k]).abs() <= tolerance)
    }

    #[test]
    fn the_first_of_the_list_is_the_first_for_points() {
        let (warp, map) = (Transform::Warp(wave(&oblique())), Transform::Affine(affine()));
        let x = oblique().to_world([6.3, 5.1, 4.7]);
        let chain = Chain::new([(warp.clone(), false), (map.clone(), false)]).unwrap();
        assert!(near(chain.apply(x).unwrap(), affine().apply(warp.apply(x)), 0.0));
        assert_eq!(chain.affine(), None);
        let both = Chain::new([(map.clone(), false), (map.clone(), true)]).unwrap();
        assert!(near(both.apply(x).unwrap(), x, 1e-12));
        let twice = Chain::new([(map.clone(), false), (map, false)]).unwrap().affine().unwrap();
        assert!(near(twice.apply(x), affine().apply(affine().apply(x)), 1e-12));
        assert!(near(Chain::<3>::new([]).unwrap().apply(x).unwrap(), x, 0.0));
    }

    #[test]
    fn inverses_reverse_the_list() {
        let steps =
            [(Transform::Warp(wave(&oblique())), false), (Transform::Affine(affine()), true)];
        let chain = Chain::new(steps).unwrap();
        let inverse = chain.inverse().unwrap();
        for index in [[6.0, 5.0, 4.0], [2.7, 8.1, 3.3], [9.9, 4.2, 6.6]] {
            let x = oblique().to_world(index);
            let back = inverse.apply(chain.apply(x).unwrap()).unwrap();
            // A tolerance in voxels of up to 2.5 mm, through slopes of one at least one half.
            assert!(near(back, x, 5.0 * TOLERANCE), "{back:?} {x:?}");
            let again = inverse.inverse().unwrap().apply(x).unwrap();
            assert!(near(again, chain.apply(x).unwrap(), 1e-11));
        }
    }

    #[test]
    fn one_field_stands_for_the_list() {
        let steps =
            [(Transform::Warp(wave(&oblique())), true), (Transform::Affine(affine()), false)];
        let chain = Chain::new(steps).unwrap();
        let grid = oblique().resampled([9, 7, 8]).unwrap();
        let field = Transform::Warp(chain.displacement(&grid).unwrap());
        for flat in 0..grid.len() {
            let x = grid.to_world(grid.unravel(flat).map(|i| i as f64));
            // Single precision of displacements of up to a hundred.
            assert!(near(field.apply(x), chain.apply(x).unwrap(), 2e-5));
        }
    }

    #[test]
    fn folds_are_refused_with_the_file_or_the_list() {
        let grid = oblique();
        let fold = |x: [f64; 3], c: usize| if c == 0 { -2.0 * x[0] } else { 0.0 };
        let fold = Transform::Warp(
            Displacement::from_fn(&grid, |x| std::array::from_fn(|c| fold(x, c))).unwrap(),
        );
        assert!(matches!(Chain::new([(fold.clone(), true)]), Err(Error::NotInvertible { .. })));
        let chain = Chain::new([(fold, false)]).unwrap();
        assert!(matches!(chain.inverse(), Err(Error::NotInvertible { .. })));
        let missing = [Listed::new("missing.mat")];
        let error = Chain::<3>::read(&missing).unwrap_err().to_string();
        assert!(error.contains("missing.mat"), "{error}");
    }

    #[test]
    fn the_notation_of_ants() {
        let parse = |text: &str| text.parse::<Listed>();
        for (text, path, inverted) in [
            ("a.mat", "a.mat", false),
            ("[a.mat,1]", "a.mat", true),
            (" [ with space, comma.mat , 0 ] ", "with space, comma.mat", false),
        ] {
            assert_eq!(parse(text).unwrap(), Listed { inverted, ..Listed::new(path) });
        }
        for (text, path, inverted) in [
            ("fsl:a.mat,b.nii, c d.nii", "a.mat", false),
            ("[fsl:with, comma.mat,b.nii,c d.nii,1]", "with, comma.mat", true),
        ] {
            let images = Some(["b.nii", "c d.nii"].map(PathBuf::from));
            assert_eq!(parse(text).unwrap(), Listed { path: path.into(), inverted, images });
        }
        for text in [
            "",
            "[a.mat,2]",
            "[a.mat,1",
            "[a.mat]",
            "[,1]",
            "[a.mat,true]",
            "fsl:a.mat",
            "fsl:a.mat,b",
            "fsl:a,,c",
            "[fsl:a,b,1]",
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("[path,1]"), "{text}: {error}");
        }
    }
}
