//! Transforms against the programs that they are exchanged with: `tests/interop/transforms.py` moves the same points
//! and images by SimpleITK, ANTsPy, nitransforms, fslpy and greedy.
//!
//! Runs with the interpreter that `RDMM_PYTHON` names and is skipped without it; packages that the interpreter lacks
//! are skipped too, and named.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a broken file stops the test")]
#![expect(clippy::print_stdout, reason = "the differences are what one wants to see")]

use std::path::{Path, PathBuf};
use std::process::Command;

use nalgebra::{SMatrix, SVector};
use rdmm_core::Real;
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::testing::random;
use rdmm_core::world::Affine;
use rdmm_io::points::Points;
use rdmm_io::transform::{fsl, itk, read_warp, write_warp};
use rdmm_io::{Chain, Listed, Transform};

/// Coordinates of the same point by two programs, in millimetres: headers of NIfTI are in single precision, and so is
/// a voxel's place a hundred millimetres from the origin.
const SINGLE: f64 = 1e-4;

/// The same with headers in double precision; vectors of ten millimetres are single.
const DOUBLE: f64 = 5e-6;

/// Rounding decides on which side of a face a point is that is nearer than this, in voxels.
const FACE: f64 = 1e-3;

/// Lists of transforms in the notation of ANTs.
const LISTS: [(&str, &[&str]); 7] = [
    ("affine", &["affine.txt"]),
    ("inverse", &["[affine.mat,1]"]),
    ("warp_affine", &["warp.nii.gz", "affine.mat"]),
    ("affine_warp", &["affine.mat", "warp.nii.gz"]),
    ("inverse_warp", &["[second.mat,1]", "warp.nii.gz"]),
    ("unwarp", &["[affine.mat,1]", "inverse.nii.gz"]),
    ("three", &["[second.mat,1]", "warp.nii.gz", "affine.mat"]),
];

fn turn<const D: usize>(planes: &[(usize, usize, f64)]) -> SMatrix<f64, D, D> {
    planes.iter().fold(SMatrix::identity(), |whole, &(a, b, angle)| {
        let mut turn = SMatrix::<f64, D, D>::identity();
        let (s, c) = angle.sin_cos();
        (turn[(a, a)], turn[(a, b)], turn[(b, a)], turn[(b, b)]) = (c, -s, s, c);
        whole * turn
    })
}

/// A grid around a point of the world.
fn grid<const D: usize>(
    shape: [usize; D],
    spacing: [f64; D],
    centre: [f64; D],
    direction: SMatrix<f64, D, D>,
) -> Grid<D> {
    let grid = Grid::new(shape, spacing).unwrap().with_direction(direction).unwrap();
    let middle = grid.to_world(shape.map(|n| 0.5 * (n as f64 - 1.0)));
    grid.with_origin(std::array::from_fn(|a| centre[a] - middle[a])).unwrap()
}

/// A pair of images and what lies between them.
struct Case<const D: usize> {
    folder: PathBuf,
    fixed: Grid<D>,
    moving: Grid<D>,
    warp: Displacement<f32, D>,
    affine: Affine<D>,
    points: Vec<[f64; D]>,
    voxels: Vec<[f64; D]>,
}

impl<const D: usize> Case<D> {
    /// Writes everything that the script reads.
    fn new(folder: &Path, name: &str, fixed: Grid<D>, moving: Grid<D>) -> Self {
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let at = |name: &str| folder.join(name);

        // Smooth, without folds, several voxels, not zero at the border.
        let phase = random::<f64>(D * D, 7);
        let longest = fixed.largest_extent();
        let wave = |x: [f64; D], c: usize| {
            let along = |a: usize| (5.0 * x[a] / longest + 3.0 * phase[c * D + a]).sin();
            1.5 + 0.06 * longest * (0..D).map(along).sum::<f64>() / D as f64
        };
        let warp = Displacement::<f32, D>::from_fn(&fixed, |x| std::array::from_fn(|c| wave(x, c)))
            .unwrap();
        for ending in ["nii.gz", "nrrd", "mha"] {
            write_warp(at(&format!("warp.{ending}")), &warp).unwrap();
        }
        let inverse = Transform::Warp(warp.clone()).inverse().unwrap();
        let Transform::Warp(inverse) = inverse else { panic!("a warp stays one") };
        write_warp(at("inverse.nii.gz"), &inverse).unwrap();

        let centre = |grid: &Grid<D>| {
            SVector::from(grid.to_world(grid.shape().map(|n| 0.5 * (n as f64 - 1.0))))
        };
        let near_identity = |seed: u64| {
            let noise = SMatrix::<f64, D, D>::from_column_slice(&random::<f64>(D * D, seed));
            SMatrix::identity() + 0.15 * noise
        };
        let matrix = near_identity(3);
        let affine = Affine::new(matrix, centre(&moving) - matrix * centre(&fixed)).unwrap();
        itk::write_text(at("affine.txt"), &affine).unwrap();
        itk::write_mat(at("affine.mat"), &affine).unwrap();
        let matrix = near_identity(4);
        let second = Affine::new(matrix, centre(&fixed) - matrix * centre(&fixed)).unwrap();
        itk::write_text(at("second.txt"), &second).unwrap();
        itk::write_mat(at("second.mat"), &second).unwrap();

        let larger = Grid::new(fixed.shape().map(|n| n + 8), fixed.spacing())
            .and_then(|grid| grid.with_origin(fixed.to_world([-4.0; D])))
            .and_then(|grid| grid.with_direction(*fixed.direction()))
            .unwrap();
        for (name, grid, shift) in
            [("fixed", &fixed, 0.0), ("moving", &moving, 2.0), ("larger", &larger, 0.0)]
        {
            let middle = centre(grid);
            let value = |x: SVector<f64, D>| {
                let away = x - middle;
                let ripple: f64 = away.iter().map(|x| (0.25 * (x + shift)).cos()).sum();
                (100.0 + 20.0 * ripple) * (-(away.norm() / (0.4 * longest)).powi(2)).exp()
            };
            let place = |flat: usize| grid.to_world(grid.unravel(flat).map(|i| i as f64));
            let values = (0..grid.len()).map(|flat| f32::of(value(place(flat).into()))).collect();
            let image = Image::<f32, D>::from_vec(grid, values).unwrap();
            rdmm_io::write_image(at(&format!("{name}.nii.gz")), &image).unwrap();
        }
        let lines: Vec<String> =
            LISTS.iter().map(|(name, files)| format!("{name}\t{}", files.join("\t"))).collect();
        std::fs::write(at("lists.txt"), lines.join("\n")).unwrap();

        // Some lie outside; none within a thousandth of a face, where a warp ends.
        let shape = fixed.shape().map(|n| n as f64);
        let noise = random::<f64>(300 * D, 11);
        let spread =
            |row: &[f64]| std::array::from_fn(|a| 0.5 * (shape[a] - 1.0) + 0.6 * row[a] * shape[a]);
        let away = |i: &[f64; D]| {
            (0..D).all(|a| (i[a] + 0.5).abs() > 1e-3 && (i[a] + 0.5 - shape[a]).abs() > 1e-3)
        };
        let indices = noise.chunks(D).map(spread).filter(away);
        let points: Vec<[f64; D]> = indices.map(|i| fixed.to_world(i)).collect();
        let inner = points.iter().map(|&p| fixed.to_index(p).map(f64::round));
        let inside = |i: &[f64; D]| (0..D).all(|a| i[a] >= 0.0 && i[a] < shape[a]);
        let voxels: Vec<[f64; D]> = inner.filter(inside).map(|i| fixed.to_world(i)).collect();
        assert!(voxels.len() > 40 && voxels.len() < points.len());
        Points::new(points.clone()).write(at("points.csv")).unwrap();
        Points::new(voxels.clone()).write(at("voxels.csv")).unwrap();

        let case = Self { folder, fixed, moving, warp, affine, points, voxels };
        let inverted = case.chain(&["[warp.nii.gz,1]"]);
        case.write_points("inverted.csv", &case.moved(&inverted));
        case
    }

    fn name(&self) -> &str {
        self.folder.file_name().unwrap().to_str().unwrap()
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn theirs(&self, name: &str) -> PathBuf {
        self.folder.join("theirs").join(name)
    }

    fn write_points(&self, name: &str, points: &[[f64; D]]) {
        Points::new(points.to_vec()).write(self.at(name)).unwrap();
    }

    fn chain(&self, listed: &[&str]) -> Chain<D> {
        let listed = listed.iter().map(|entry| {
            let listed: Listed = entry.parse().unwrap();
            Listed { path: self.at(listed.path.to_str().unwrap()), ..listed }
        });
        Chain::read(&listed.collect::<Vec<_>>()).unwrap()
    }

    fn moved(&self, chain: &Chain<D>) -> Vec<[f64; D]> {
        self.points.iter().map(|&p| chain.apply(p).unwrap()).collect()
    }

    /// Compares points with those that a program wrote.
    fn compare(&self, name: &str, found: &[[f64; D]], tolerance: f64) {
        let expected = Points::<D>::read(self.theirs(&format!("{name}.csv"))).unwrap();
        assert_eq!(expected.positions().len(), found.len(), "{name}");
        let off = |(a, b): (&[f64; D], &[f64; D])| {
            (0..D).map(|k| (a[k] - b[k]).abs()).fold(0.0, f64::max)
        };
        let largest = expected.positions().iter().zip(found).map(off).fold(0.0, f64::max);
        let folder = self.name();
        println!("{folder:<12} {name:<28} points off by {largest:.1e} mm at most");
        assert!(largest < tolerance, "{name} in {folder}: {largest}");
    }

    /// The moving image pulled back through a list as ITK does: linear, zero outside. And how far each
    /// voxel's point is from the moving image's faces, in voxels.
    fn warped(&self, chain: &Chain<D>, onto: &str) -> Vec<(f64, f64)> {
        let moving = rdmm_io::read_image::<D>(self.at("moving.nii.gz")).unwrap();
        let fixed = rdmm_io::read_image::<D>(self.at(onto)).unwrap();
        let (grid, n) = (fixed.grid(), fixed.grid().len());
        let map = chain.displacement(grid).unwrap();
        (0..n)
            .map(|flat| {
                let u = SVector::<f64, D>::from_fn(|a, _| f64::from(map.component(a)[flat]));
                let x = SVector::from(grid.to_world(grid.unravel(flat).map(|i| i as f64)));
                linear(&moving, (x + grid.direction() * u).into())
            })
            .collect()
    }

    /// Compares images where points are further from the moving image's faces than `beyond` voxels.
    fn compare_image(&self, name: &str, chain: &Chain<D>, beyond: f64) {
        self.compare_image_on("fixed.nii.gz", name, chain, beyond);
    }

    fn compare_image_on(&self, onto: &str, name: &str, chain: &Chain<D>, beyond: f64) {
        let theirs = rdmm_io::read_image::<D>(self.theirs(&format!("{name}.nii.gz"))).unwrap();
        let (mut largest, mut compared, mut brightest) = (0.0_f64, 0, 0.0_f64);
        for (&theirs, (ours, margin)) in theirs.data().iter().zip(self.warped(chain, onto)) {
            if margin > beyond {
                largest = largest.max((f64::from(theirs) - ours).abs());
                brightest = brightest.max(ours);
                compared += 1;
            }
        }
        let folder = self.name();
        println!("{folder:<12} {name:<28} image off by {largest:.1e} of {brightest:.0} at most");
        assert!(compared * 2 > self.fixed.len() && brightest > 80.0, "{compared} voxels");
        // Grey values change by 20 a millimetre at most, over points that differ by `SINGLE`.
        assert!(largest < 20.0 * SINGLE, "{name} in {folder}: {largest}");
    }

    fn simpleitk(&self) {
        for (ending, tolerance) in [("nii.gz", SINGLE), ("nrrd", DOUBLE), ("mha", DOUBLE)] {
            let warp = self.chain(&[&format!("warp.{ending}")]);
            self.compare(&format!("sitk_warp_{ending}"), &self.moved(&warp), tolerance);
        }
        for ending in ["txt", "mat"] {
            let found: Vec<_> = self.points.iter().map(|&p| self.affine.apply(p)).collect();
            self.compare(&format!("sitk_affine_{ending}"), &found, 1e-11);
        }
        let whole = self.chain(&["warp.nii.gz", "affine.mat"]);
        self.compare_image("sitk_warped", &whole, FACE);
        for (ending, tolerance) in
            [("nii.gz", SINGLE), ("nii", SINGLE), ("nrrd", DOUBLE), ("mha", DOUBLE)]
        {
            let field = Transform::<D>::read(self.theirs(&format!("sitk_field.{ending}"))).unwrap();
            let found: Vec<_> = self.points.iter().map(|&p| field.apply(p)).collect();
            // Their field is in double precision, of up to a hundred millimetres, ours in single.
            self.compare("sitk_field", &found, 4.0 * tolerance);
        }
        for entry in std::fs::read_dir(self.folder.join("theirs")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            if name.starts_with("class_") && path.extension().unwrap() != "csv" {
                let map = Transform::<D>::read(&path).unwrap();
                let found: Vec<_> = self.points.iter().map(|&p| map.apply(p)).collect();
                self.compare(&name, &found, 1e-10);
            }
        }
        self.compare_inverse();
    }

    /// There and back: ours back through the inverse, theirs forth through the warp.
    fn compare_inverse(&self) {
        let inside = |name: &str, tolerance: f64, back: &dyn Fn([f64; D]) -> [f64; D]| {
            let there = Points::<D>::read(self.theirs(&format!("{name}.csv"))).unwrap();
            let mut largest = 0.0_f64;
            let mut seen = 0;
            for (&p, there) in self.points.iter().zip(there.positions()) {
                let index = self.fixed.to_index(back(p));
                let shape = self.fixed.shape();
                // Outside of the grid neither moves anything. A point inside that the warp does not reach has no inverse.
                let alone = back(p).map(f64::to_bits) == p.map(f64::to_bits);
                if alone || (0..D).all(|a| index[a] > -0.499 && index[a] < shape[a] as f64 - 0.501)
                {
                    largest = (0..D).map(|a| (there[a] - p[a]).abs()).fold(largest, f64::max);
                    seen += 1;
                }
            }
            let folder = self.name();
            println!("{folder:<12} {name:<28} back and forth off by {largest:.1e} mm at most");
            assert!(seen > 40 && largest < tolerance, "{name}: {largest} at {seen} points");
        };
        let inverse = self.chain(&["[warp.nii.gz,1]"]);
        // The tolerance of the inverse in voxels of up to 2.5 mm, and SINGLE.
        inside("sitk_there", 4e-4, &|p| inverse.apply(p).unwrap());
        // As a field the inverse is interpolated linearly, and it bends where points come from outside the
        // grid: a tenth of a voxel of 2 mm.
        let inverse = self.chain(&["inverse.nii.gz"]);
        inside("sitk_there_field", 0.2, &|p| inverse.apply(p).unwrap());
    }

    fn antspy(&self) {
        for (name, listed) in LISTS {
            let chain = self.chain(listed);
            self.compare(&format!("ants_{name}"), &self.moved(&chain), SINGLE);
            self.compare_image(&format!("ants_{name}"), &chain, FACE);
        }
        // Beyond the grid of the warp, where the affine map alone goes on.
        let pair = self.chain(&["warp.nii.gz", "affine.mat"]);
        self.compare_image_on("larger.nii.gz", "ants_larger", &pair, FACE);
        let class = Transform::<D>::read(self.theirs("ants_class.mat")).unwrap();
        let found: Vec<_> = self.points.iter().map(|&p| class.apply(p)).collect();
        self.compare("ants_class", &found, SINGLE);
        let listed = std::fs::read_to_string(self.theirs("ants_registered.txt")).unwrap();
        let listed: Vec<Listed> = listed.lines().map(|path| path.parse().unwrap()).collect();
        let chain = Chain::read(&listed).unwrap();
        self.compare("ants_registered", &self.moved(&chain), SINGLE);
    }

    fn greedy(&self) {
        // Its images fall to zero within one voxel of the outermost centres.
        self.compare_image("greedy_warped", &self.chain(&["warp.nii.gz"]), 0.5 + FACE);
    }
}

impl Case<3> {
    fn write_fsl(&self) {
        fsl::write_affine(self.at("flirt.mat"), &self.affine, &self.fixed, &self.moving).unwrap();
        fsl::write_warp(self.at("fnirt.nii.gz"), &self.warp, &self.moving).unwrap();
    }

    fn fslpy(&self) {
        let found: Vec<_> = self.points.iter().map(|&p| self.affine.apply(p)).collect();
        self.compare("fsl_affine", &found, SINGLE);
        let back = fsl::read_affine(self.theirs("flirt.mat"), &self.fixed, &self.moving).unwrap();
        let found: Vec<_> = self.points.iter().map(|&p| back.apply(p)).collect();
        self.compare("fsl_affine", &found, SINGLE);
        let apply = |warp: Displacement<f32, 3>| {
            let warp = Transform::Warp(warp);
            self.voxels.iter().map(|&p| warp.apply(p)).collect::<Vec<_>>()
        };
        self.compare("fsl_warp", &apply(self.warp.clone()), SINGLE);
        let back = fsl::read_warp(self.theirs("fnirt.nii.gz"), &self.fixed, &self.moving).unwrap();
        self.compare("fsl_warp", &apply(back), SINGLE);
    }

    fn nitransforms(&self) {
        for ending in ["txt", "mat"] {
            let found: Vec<_> = self.points.iter().map(|&p| self.affine.apply(p)).collect();
            self.compare(&format!("nitransforms_affine_{ending}"), &found, SINGLE);
        }
        let warp = Transform::Warp(read_warp(self.at("warp.nii.gz")).unwrap());
        let found: Vec<_> = self.voxels.iter().map(|&p| warp.apply(p)).collect();
        self.compare("nitransforms_warp", &found, SINGLE);
    }
}

#[test]
fn other_programs_agree() {
    let Some(python) = std::env::var_os("RDMM_PYTHON") else {
        println!("skipped: RDMM_PYTHON does not name an interpreter");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let oblique = turn::<3>(&[(0, 1, 0.4), (1, 2, -0.3), (0, 2, 0.2)]);
    let flipped = SMatrix::<f64, 3, 3>::from_diagonal(&SVector::from([-1.0, 1.0, 1.0]));
    let supine = SMatrix::<f64, 3, 3>::from_diagonal(&SVector::from([-1.0, -1.0, 1.0]));
    let solid = [
        Case::new(
            folder.path(),
            "3-oblique",
            grid([24, 20, 18], [1.0, 1.5, 2.0], [-40.0, 25.0, 60.0], oblique),
            grid([30, 16, 20], [0.8, 2.0, 1.7], [-35.0, 21.0, 63.0], flipped),
        ),
        Case::new(
            folder.path(),
            "3-flipped",
            grid([18, 22, 20], [1.6, 1.2, 1.5], [20.0, 30.0, -40.0], supine * flipped),
            grid([22, 20, 24], [1.5, 1.5, 1.1], [16.0, 33.0, -42.0], oblique * supine),
        ),
    ];
    let mirrored = SMatrix::<f64, 2, 2>::new(1.0, 0.0, 0.0, -1.0);
    let flat = [
        Case::new(
            folder.path(),
            "2-turned",
            grid([40, 34], [0.8, 1.3], [-30.0, 12.0], turn(&[(0, 1, 0.5)])),
            grid([36, 44], [1.1, 0.9], [-26.0, 15.0], mirrored),
        ),
        Case::new(
            folder.path(),
            "2-mirrored",
            grid([40, 34], [0.8, 1.3], [-30.0, 12.0], mirrored * turn(&[(0, 1, 0.5)])),
            grid([36, 44], [1.1, 0.9], [-33.0, 8.0], turn(&[(0, 1, -0.3)])),
        ),
    ];
    solid.iter().for_each(Case::write_fsl);

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/transforms.py");
    let folders = solid.iter().map(|c| &c.folder).chain(flat.iter().map(|c| &c.folder));
    let output = Command::new(python).arg(script).args(folders).output().unwrap();
    let (told, error) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}");
    assert!(output.status.success(), "{told}\n{error}");
    let ran = std::fs::read_to_string(folder.path().join("ran.txt")).unwrap();
    for package in ran.lines() {
        match package {
            "simpleitk" => {
                solid.iter().for_each(Case::simpleitk);
                flat.iter().for_each(Case::simpleitk);
            }
            "antspy" => {
                solid.iter().for_each(Case::antspy);
                flat.iter().for_each(Case::antspy);
            }
            "greedy" => {
                solid.iter().for_each(Case::greedy);
                flat.iter().for_each(Case::greedy);
            }
            "fslpy" => solid.iter().for_each(Case::fslpy),
            "nitransforms" => solid.iter().for_each(Case::nitransforms),
            other => panic!("{other}"),
        }
    }
}

/// An image at a point of the world, linear between voxels and zero outside; and how far the point is from a
/// face of the grid.
fn linear<const D: usize>(image: &Image<f32, D>, point: [f64; D]) -> (f64, f64) {
    let grid = image.grid();
    let (index, shape) = (grid.to_index(point), grid.shape());
    let from_face = |a: usize| (index[a] + 0.5).abs().min((index[a] + 0.5 - shape[a] as f64).abs());
    let margin = (0..D).map(from_face).fold(f64::INFINITY, f64::min);
    if !(0..D).all(|a| index[a] >= -0.5 && index[a] < shape[a] as f64 - 0.5) {
        return (0.0, margin);
    }
    let mut value = 0.0;
    for corner in 0..1_usize << D {
        let (mut flat, mut weight) = (0, 1.0);
        for a in 0..D {
            let below = index[a].floor();
            let upper = (corner >> a & 1) as f64;
            let t = index[a] - below;
            weight *= if upper > 0.0 { t } else { 1.0 - t };
            let voxel = (below + upper).clamp(0.0, shape[a] as f64 - 1.0);
            flat += voxel.to_index() * grid.strides()[a];
        }
        value += weight * f64::from(image.data()[flat]);
    }
    (value, margin)
}
