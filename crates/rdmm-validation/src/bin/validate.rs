//! Registers real pairs of images with default settings and compares the figures with targets.
//!
//! The images are those of the folder `$RDMM_DATA`; without it nothing is done. `--help` lists the
//! options. A Markdown table goes to the terminal and, with all figures and a picture a registration, to
//! the folder `--out`.
#![expect(clippy::print_stdout, reason = "a program reports on the terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rdmm_core::affine::{AffineRegistration, AffineSettings, Transform};
use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_core::kernel::{Gaussian, Kernel};
use rdmm_core::labels::Labels;
use rdmm_core::registration::Level;
use rdmm_core::similarity::Lncc;
use rdmm_io::{read_image, read_labels};
use rdmm_validation::Fallible;
use rdmm_validation::arguments::Arguments;
use rdmm_validation::case::{Case, Kind, Similarity};
use rdmm_validation::outcome::{HEADINGS, Outcome, Overlap, table};
use rdmm_validation::panel::Orientation;

const OPTIONS: [(&str, &str); 7] = [
    ("only", "one set: oasis, colin, lung, histology, knee, hippocampus or brain3d"),
    ("model", "vsvf, lddmm, rdmm or rdmm-optimised alone (default: those that suit the set)"),
    ("penalties", "λ of OMT, total variation and range in place of the default"),
    ("book", "folder for pictures of the maps, without the images, of each set's first pair"),
    ("similarity", "ssd, ncc, lncc, mk-lncc, mi or nmi in place of the choice for each set"),
    ("weight", "weight of the similarity in place of the measure's default"),
    ("out", "folder of results (default out/validate)"),
];
const SETS: [&str; 7] = ["oasis", "colin", "lung", "histology", "knee", "hippocampus", "brain3d"];

/// What the lung and the organs below it cover in the third frame of the cine MR, by hand: corners as
/// column and row. Chest wall and spine lie outside.
const LUNG: [[f64; 2]; 11] = [
    [67.0, 28.0],
    [78.0, 34.0],
    [85.0, 48.0],
    [89.0, 85.0],
    [88.0, 110.0],
    [87.0, 128.0],
    [24.0, 128.0],
    [24.0, 104.0],
    [30.0, 78.0],
    [42.0, 55.0],
    [55.0, 39.0],
];

/// Headings of the means over a set's pairs.
const MEANS: [&str; 13] = [
    "set",
    "model",
    "pairs",
    "NCC",
    "mean Dice",
    "whole Dice",
    "landmarks",
    "folds, all pairs",
    "smallest det",
    "largest drift",
    "inverse (voxels)",
    "evaluations",
    "seconds",
];

/// One finished registration.
struct Row {
    set: &'static str,
    pair: String,
    outcome: Outcome,
}

/// All registrations of a run.
struct Validation {
    data: PathBuf,
    out: PathBuf,
    similarity: Option<Similarity>,
    weight: Option<f64>,
    rows: Vec<Row>,
    kind: Option<Kind>,
    penalties: Option<[f64; 3]>,
    /// The folder for pictures of the maps of each set's first pair.
    book: Option<PathBuf>,
}

impl Validation {
    fn register<const D: usize>(
        &mut self,
        (set, pair): (&'static str, &str),
        case: &Case<'_, D>,
        kind: Kind,
        similarity: Similarity,
    ) -> Fallible<()> {
        if self.kind.is_some_and(|only| only != kind) {
            return Ok(());
        }
        let similarity = self.similarity.unwrap_or(similarity);
        eprintln!("{set}, {pair}:");
        let first = self.rows.iter().all(|row| row.set != set || row.pair == pair);
        let book = self.book.as_deref().filter(|_| first);
        let maps = book.map(|folder| folder.join(format!("{}-{}.png", file(set), kind.stem())));
        let panel = self.out.join(format!("{}-{pair}-{}.png", file(set), kind.stem()));
        let case = Case { penalties: self.penalties, maps: maps.as_deref(), ..*case };
        let outcome = case
            .register(kind, similarity, self.weight, &panel)
            .map_err(|error| format!("{set}, {pair}: {error}"))?;
        eprintln!("{}", outcome.cells().join(" | "));
        self.rows.push(Row { set, pair: pair.to_owned(), outcome });
        Ok(())
    }

    /// Brain slices of different people.
    fn oasis(&mut self) -> Fallible<()> {
        let folder = self.data.join("brain2d_oasis");
        for [fixed, moving] in pairs(&folder)? {
            let read = |name: &str| read_image::<2>(folder.join(format!("{name}.nii.gz")));
            let (target, source) = (read(&fixed)?, read(&moving)?);
            let pair = format!("{}-{}", digits(&fixed), digits(&moving));
            let case = Case::new(&target, &source, Orientation::RightUp);
            for kind in [Kind::Vsvf, Kind::Lddmm, Kind::RdmmOptimised] {
                self.register(("oasis", &pair), &case, kind, Similarity::Ssd)?;
            }
        }
        Ok(())
    }

    /// A slice of one person against the mean of many.
    fn colin(&mut self) -> Fallible<()> {
        let folder = self.data.join("brain2d_colin27_icbm152");
        let fixed = read_image::<2>(folder.join("icbm152_t1_z10.nii.gz"))?;
        let moving = read_image::<2>(folder.join("colin27_t1_z10.nii.gz"))?;
        let case = Case::new(&fixed, &moving, Orientation::RightUp);
        for kind in [Kind::Vsvf, Kind::Lddmm, Kind::RdmmOptimised] {
            self.register(("colin", "icbm152-colin27"), &case, kind, Similarity::Ncc)?;
        }
        Ok(())
    }

    /// Consecutive sections in two stains: an affine map, then a non-linear one, judged by landmarks.
    fn histology(&mut self) -> Fallible<()> {
        let folder = self.data.join("histology2d_cima");
        let fixed = read_image::<2>(folder.join("Rat-Kidney_HE.png"))?;
        let moving = read_image::<2>(folder.join("Rat-Kidney_PanCytokeratin.png"))?;
        let [fixed_points, moving_points] =
            points(&folder.join("landmarks_px.csv"), [fixed.grid(), moving.grid()])?;
        let levels = [8.0, 4.0, 2.0].map(|factor| Level { factor, iterations: 60 }).to_vec();
        let settings = AffineSettings::default().with_levels(levels.clone());
        let found = AffineRegistration::new(Transform::Affine, Lncc { sigma: 16.0 })
            .with_settings(settings)
            .run(&fixed, &moving)?;
        // At full resolution the sections are 0.9 megapixels of stain; the landmarks need less.
        let regions = tissue(&moving)?;
        let case = Case {
            regions: Some(&regions),
            levels: Some(&levels),
            initial: found.map,
            points: Some((&fixed_points, &moving_points)),
            ..Case::new(&fixed, &moving, Orientation::RightDown)
        };
        for kind in [Kind::Lddmm, Kind::Rdmm, Kind::RdmmOptimised] {
            self.register(("histology", "rat kidney"), &case, kind, Similarity::Nmi)?;
        }
        Ok(())
    }

    /// Cartilage of people's knees at two visits and of different people, by their labels alone.
    fn knee(&mut self) -> Fallible<()> {
        let folder = self.data.join("knee2d_cartilage_labels");
        for [fixed, moving] in listed(&folder, 1)? {
            let labels = |name: &str| read_labels::<2>(folder.join(format!("{name}_label.nii.gz")));
            let (target, source) = (labels(&fixed)?, labels(&moving)?);
            let shown = |labels: &Labels<2>| {
                let values = labels.data().iter().map(|&label| f32::from(label != 0)).collect();
                Image::from_vec(labels.grid(), values)
            };
            let (target_shown, source_shown) = (shown(&target)?, shown(&source)?);
            let case = Case {
                labels: Some((&target, &source)),
                by_labels: Some(1.5 * target.grid().coarsest_spacing()),
                ..Case::new(&target_shown, &source_shown, Orientation::RightUp)
            };
            let person = |name: &str| name.split('_').next().map(str::to_owned);
            let same = person(&fixed) == person(&moving);
            let set = if same { "knee, visits" } else { "knee, people" };
            for kind in [Kind::Vsvf, Kind::Lddmm, Kind::RdmmOptimised] {
                self.register((set, &format!("{fixed}-{moving}")), &case, kind, Similarity::Ssd)?;
            }
        }
        Ok(())
    }

    /// A head against a template, with masks of the brains as labels.
    fn brain3d(&mut self) -> Fallible<()> {
        let folder = self.data.join("brain3d_colin27_icbm152");
        let fixed = read_image::<3>(folder.join("icbm152_t1_2mm.nii.gz"))?;
        let moving = read_image::<3>(folder.join("colin27_t1_2mm.nii.gz"))?;
        let fixed_mask = read_labels::<3>(folder.join("icbm152_brainmask_2mm.nii.gz"))?;
        let moving_mask = read_labels::<3>(folder.join("colin27_brainmask_2mm.nii.gz"))?;
        let case = Case {
            labels: Some((&fixed_mask, &moving_mask)),
            ..Case::new(&fixed, &moving, Orientation::RightUp)
        };
        for kind in [Kind::Lddmm, Kind::RdmmOptimised] {
            self.register(("brain3d", "icbm152-colin27"), &case, kind, Similarity::Ncc)?;
        }
        Ok(())
    }

    /// Hippocampi of different people, with two labels.
    fn hippocampus(&mut self) -> Fallible<()> {
        let folder = self.data.join("hippocampus3d_msd");
        for [fixed, moving] in pairs(&folder)? {
            let image = |name: &str| read_image::<3>(folder.join(format!("{name}_image.nii.gz")));
            let labels = |name: &str| read_labels::<3>(folder.join(format!("{name}_label.nii.gz")));
            let (target, source) = (image(&fixed)?, image(&moving)?);
            let (target_labels, source_labels) = (labels(&fixed)?, labels(&moving)?);
            let case = Case {
                labels: Some((&target_labels, &source_labels)),
                ..Case::new(&target, &source, Orientation::RightUp)
            };
            let pair = format!("{}-{}", digits(&fixed), digits(&moving));
            for kind in [Kind::Vsvf, Kind::Lddmm, Kind::RdmmOptimised] {
                self.register(("hippocampus", &pair), &case, kind, Similarity::Ncc)?;
            }
        }
        Ok(())
    }

    /// Two frames of a breathing person: the diaphragm slides along the chest wall.
    fn lung(&mut self) -> Fallible<()> {
        let folder = self.data.join("lung2d_cine_mr");
        let path = folder.join("cine_MR_1.png");
        let (fixed, orientation) = (read_image::<2>(&path)?, Orientation::of(&path));
        let moving = read_image::<2>(folder.join("cine_MR_3.png"))?;
        let regions = polygon(moving.grid(), &LUNG)?;
        let case = Case { regions: Some(&regions), ..Case::new(&fixed, &moving, orientation) };
        for kind in [Kind::Lddmm, Kind::Rdmm, Kind::RdmmOptimised] {
            self.register(("lung", "1-3"), &case, kind, Similarity::Ncc)?;
        }
        Ok(())
    }

    /// Prints and writes all figures.
    fn report(&self) -> Fallible<()> {
        let headings: Vec<&str> =
            ["set", "pair"].into_iter().chain(HEADINGS).chain(["Dice by label"]).collect();
        let row = |row: &Row| {
            let mut cells = vec![row.set.to_owned(), row.pair.clone()];
            cells.extend(row.outcome.cells());
            cells.push(by_label(row.outcome.overlap.as_ref()));
            cells
        };
        let text = table(&headings, &self.rows.iter().map(row).collect::<Vec<_>>());
        print!("{text}");
        println!();
        print!("{}", table(&MEANS, &self.means()));
        let json = |row: &Row| row.outcome.json(&[("set", row.set), ("pair", &row.pair)]);
        let report: Vec<_> = self.rows.iter().map(json).collect();
        write(&self.out.join("table.md"), &text)?;
        write(&self.out.join("report.json"), &serde_json::to_string_pretty(&report)?)
    }

    /// Means over the pairs of each set and model.
    fn means(&self) -> Vec<Vec<String>> {
        let mut keys: Vec<[&str; 2]> = Vec::new();
        for row in &self.rows {
            let key = [row.set, row.outcome.report.model.as_str()];
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let row = |&[set, model]: &[&str; 2]| {
            let of = |figure: &dyn Fn(&Outcome) -> Option<f64>| self.mean(set, model, figure);
            let change = |figure: &dyn Fn(&Outcome, usize) -> Option<f64>| {
                let [before, after] = [0, 1].map(|k| of(&|o: &Outcome| figure(o, k)));
                match (before, after) {
                    (Some(before), Some(after)) => format!("{before:.3} → {after:.3}"),
                    _ => "–".to_owned(),
                }
            };
            let outcomes = || {
                let rows = self.rows.iter().filter(|r| r.set == set);
                rows.map(|r| &r.outcome).filter(|o| o.report.model == model)
            };
            let dice = |o: &Outcome, k: usize| Some(o.overlap.as_ref()?[k].mean());
            let whole = |o: &Outcome, k: usize| Some(o.overlap.as_ref()?[k].whole);
            let points = |o: &Outcome, k: usize| Some(o.landmarks?[2 * k]);
            let folds = |o: &Outcome| o.report.folds.total();
            let mean = |figure: &dyn Fn(&Outcome) -> f64| of(&|o| Some(figure(o))).unwrap_or(0.0);
            vec![
                set.to_owned(),
                model.to_owned(),
                outcomes().count().to_string(),
                change(&|o, k| Some(o.ncc[k])),
                change(&dice),
                change(&whole),
                change(&points),
                outcomes().map(|o| folds(o).folded).sum::<usize>().to_string(),
                format!("{:.3}", outcomes().map(|o| folds(o).min).fold(f64::INFINITY, f64::min)),
                format!("{:.1e}", outcomes().map(|o| o.report.energy_drift).fold(0.0, f64::max)),
                format!("{:.3}", mean(&|o| o.inverse[0] / o.spacing)),
                format!("{:.0}", mean(&|o| o.report.evaluations as f64)),
                format!("{:.1}", mean(&|o| o.report.seconds)),
            ]
        };
        keys.iter().map(row).collect()
    }

    /// Compares with the targets; an error where one is missed.
    fn judge(&self) -> Fallible<()> {
        let mut missed = Vec::new();
        let mut check = |what: &str, found: Option<f64>, target: f64| {
            let Some(found) = found else { return };
            let met = found >= target;
            println!("{what}: {found:.4}, target {target}: {}", if met { "met" } else { "missed" });
            if !met {
                missed.push(what.to_owned());
            }
        };
        let ncc = |o: &Outcome| Some(o.ncc[1]);
        let whole = |o: &Outcome| o.overlap.as_ref().map(|overlap| overlap[1].whole);
        let union = |o: &Outcome| o.overlap.as_ref().map(|overlap| overlap[1].ncc);
        check("oasis, mean NCC", self.mean("oasis", "LDDMM", ncc), 0.98);
        check("colin, NCC of LDDMM", self.mean("colin", "LDDMM", ncc), 0.979);
        // The best affine map of the landmarks leaves 4.5 pixels.
        let near = |o: &Outcome| o.landmarks.map(|[_, _, after]| -after);
        check("histology, landmarks of LDDMM", self.mean("histology", "LDDMM", near), -4.5);
        check("histology, landmarks of RDMM", self.mean("histology", "RDMM", near), -4.5);
        check(
            "histology, landmarks of RDMM optimised",
            self.mean("histology", "RDMM optimised", near),
            -4.5,
        );
        check("lung, NCC of LDDMM", self.mean("lung", "LDDMM", ncc), 0.85);
        check("lung, NCC of RDMM", self.mean("lung", "RDMM", ncc), 0.85);
        let optimised = self.mean("lung", "RDMM optimised", ncc);
        check("lung, NCC of RDMM optimised", optimised, 0.85);
        for model in ["vSVF", "LDDMM"] {
            let what = format!("hippocampus, mean whole Dice of {model}");
            check(&what, self.mean("hippocampus", model, whole), 0.78);
        }
        check("brain3d, Dice of the mask", self.mean("brain3d", "LDDMM", whole), 0.97);
        check("brain3d, NCC in the masks", self.mean("brain3d", "LDDMM", union), 0.85);
        for row in &self.rows {
            let (folded, model) =
                (row.outcome.report.folds.total().folded, &row.outcome.report.model);
            if folded > 0 {
                missed.push(format!("{}, {}: {model} folds at {folded} voxels", row.set, row.pair));
            }
        }
        if missed.is_empty() {
            Ok(())
        } else {
            Err(format!("missed: {}", missed.join("; ")).into())
        }
    }

    /// Mean of a figure over the pairs of a set; `None` where it was not run.
    fn mean(
        &self,
        set: &str,
        model: &str,
        figure: impl Fn(&Outcome) -> Option<f64>,
    ) -> Option<f64> {
        let of_set =
            self.rows.iter().filter(|row| row.set == set && row.outcome.report.model == model);
        let figures: Vec<f64> = of_set.filter_map(|row| figure(&row.outcome)).collect();
        (!figures.is_empty()).then(|| figures.iter().sum::<f64>() / figures.len() as f64)
    }
}

fn by_label(overlap: Option<&[Overlap; 2]>) -> String {
    let Some([before, after]) = overlap else { return "–".to_owned() };
    let entry = |(label, dice): (&u32, &f64)| {
        let before = before.by_label.get(label).copied().unwrap_or(0.0);
        format!("{label}: {before:.3} → {dice:.3}")
    };
    after.by_label.iter().map(entry).collect::<Vec<_>>().join(", ")
}

/// Corresponding points of a CSV with an identifier and the columns and rows, in pixels, of the fixed and of
/// the moving image.
fn points(path: &Path, grids: [&Grid<2>; 2]) -> Fallible<[Vec<[f64; 2]>; 2]> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut found = [Vec::new(), Vec::new()];
    for line in text.lines().skip(1).filter(|line| !line.trim().is_empty()) {
        let numbers: Result<Vec<f64>, _> =
            line.split(',').skip(1).map(|cell| cell.trim().parse()).collect();
        let [x, y, x2, y2] = numbers?[..] else {
            let path = path.display();
            return Err(format!("{path}: expected four numbers in the line {line}").into());
        };
        found[0].push(grids[0].to_world([x, y]));
        found[1].push(grids[1].to_world([x2, y2]));
    }
    Ok(found)
}

/// Names of the fixed and moving images that the folder's `pairs.csv` lists first.
fn pairs(folder: &Path) -> Fallible<Vec<[String; 2]>> {
    listed(folder, 0)
}

/// Names of the fixed and moving images in the columns from `skip` on of the folder's `pairs.csv`.
fn listed(folder: &Path, skip: usize) -> Fallible<Vec<[String; 2]>> {
    let path = folder.join("pairs.csv");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let pair = |line: &str| {
        let mut cells = line.split(',').skip(skip).map(|cell| cell.trim().to_owned());
        let (fixed, moving) = (cells.next(), cells.next());
        let missing = || format!("{}: expected two names in the line {line}", path.display());
        Ok([fixed.ok_or_else(missing)?, moving.ok_or_else(missing)?])
    };
    text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(pair).collect()
}

/// The name of a set as part of a file name.
fn file(set: &str) -> String {
    set.replace(", ", "-")
}

fn digits(name: &str) -> &str {
    name.rsplit_once('_').map_or(name, |(_, digits)| digits)
}

/// 1 where a section differs from the glass that its border shows by a tenth of its contrast, after a smoothing
/// of eight voxels.
fn tissue(image: &Image<f32, 2>) -> Fallible<Labels<2>> {
    let grid = image.grid();
    let gaussian = Gaussian::<f32, 2>::new(grid, 8.0 * grid.coarsest_spacing())?;
    let smooth = gaussian.smooth(image)?;
    let shape = grid.shape();
    let on_border = |flat: &usize| {
        let index = grid.unravel(*flat);
        (0..2).any(|a| index[a] == 0 || index[a] + 1 == shape[a])
    };
    let mut border: Vec<f32> =
        (0..grid.len()).filter(on_border).map(|flat| smooth.data()[flat]).collect();
    border.sort_by(f32::total_cmp);
    let glass = border[border.len() / 2];
    let distance = |x: &f32| (x - glass).abs();
    let contrast = smooth.data().iter().map(distance).fold(0.0, f32::max);
    let inside = smooth.data().iter().map(|x| u32::from(distance(x) > 0.1 * contrast)).collect();
    Ok(Labels::from_vec(grid, inside)?)
}

/// 1 inside a polygon of (column, row) corners, 0 outside.
fn polygon(grid: &Grid<2>, corners: &[[f64; 2]]) -> Fallible<Labels<2>> {
    let inside = |flat: usize| {
        let [column, row] = grid.unravel(flat).map(|i| i as f64);
        let before = corners.iter().cycle().skip(corners.len().saturating_sub(1));
        let crossings = corners.iter().zip(before).filter(|&(a, b)| {
            (a[1] > row) != (b[1] > row)
                && column < a[0] + (row - a[1]) / (b[1] - a[1]) * (b[0] - a[0])
        });
        u32::from(crossings.count() % 2 == 1)
    };
    Ok(Labels::from_vec(grid, (0..grid.len()).map(inside).collect())?)
}

fn write(path: &Path, text: &str) -> Fallible<()> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn run() -> Fallible<()> {
    let Some(arguments) = Arguments::parse(&OPTIONS)? else { return Ok(()) };
    let only = arguments.text("only");
    if let Some(name) = only.filter(|name| !SETS.contains(name)) {
        return Err(format!("--only: expected one of {}, found {name}", SETS.join(", ")).into());
    }
    let Some(data) = std::env::var_os("RDMM_DATA") else {
        println!("Skipped: RDMM_DATA is not set. It names the folder of the image sets.");
        return Ok(());
    };
    let mut validation = Validation {
        data: data.into(),
        out: arguments.text("out").unwrap_or("out/validate").into(),
        similarity: arguments.text("similarity").map(str::parse).transpose()?,
        weight: arguments.number("weight")?,
        rows: Vec::new(),
        kind: arguments.text("model").map(str::parse).transpose()?,
        penalties: arguments.numbers("penalties")?,
        book: arguments.text("book").map(PathBuf::from),
    };
    let out = &validation.out;
    std::fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    for set in SETS.into_iter().filter(|&set| only.is_none_or(|only| only == set)) {
        match set {
            "oasis" => validation.oasis()?,
            "lung" => validation.lung()?,
            "colin" => validation.colin()?,
            "histology" => validation.histology()?,
            "knee" => validation.knee()?,
            "hippocampus" => validation.hippocampus()?,
            _ => validation.brain3d()?,
        }
    }
    validation.report()?;
    validation.judge()
}

fn main() -> ExitCode {
    rdmm_validation::exit(run())
}
