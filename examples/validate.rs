//! Registers real pairs of images with default settings and compares the figures with targets.
//!
//! The images are those of the folder `$RDMM_DATA`; without it nothing is done. `--help` lists the
//! options. A Markdown table goes to the terminal and, with all figures and a picture a registration, to
//! the folder `--out`.
#![expect(clippy::print_stdout, reason = "an example reports on the terminal")]

mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use support::arguments::{Arguments, Asked};
use support::case::{Case, Kind, Similarity};
use support::outcome::{HEADINGS, Outcome, Overlap, table};
use support::panel::Orientation;
use support::read::{self, AnyImage};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const OPTIONS: [(&str, &str); 4] = [
    ("only", "one set: oasis, brain3d, hippocampus or lung"),
    ("similarity", "ssd, ncc, lncc, mk-lncc, mi or nmi in place of the choice for each set"),
    ("weight", "weight of the similarity in place of the measure's default"),
    ("out", "folder of results (default out/validate)"),
];
const SETS: [&str; 4] = ["oasis", "lung", "hippocampus", "brain3d"];

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
}

impl Validation {
    fn register<const D: usize>(
        &mut self,
        (set, pair): (&'static str, &str),
        case: &Case<'_, D>,
        kind: Kind,
        similarity: Similarity,
    ) -> Fallible<()> {
        let similarity = self.similarity.unwrap_or(similarity);
        eprintln!("{set}, {pair}:");
        let panel = self.out.join(format!("{set}-{pair}-{}.png", kind.stem()));
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
            let read = |name: &str| two(folder.join(format!("{name}.nii.gz")));
            let (target, source) = (read(&fixed)?, read(&moving)?);
            let pair = format!("{}-{}", digits(&fixed), digits(&moving));
            let case = plain(&target, &source, Orientation::RightUp);
            self.register(("oasis", &pair), &case, Kind::Lddmm, Similarity::Ssd)?;
        }
        Ok(())
    }

    /// A head against a template, with masks of the brains as labels.
    fn brain3d(&mut self) -> Fallible<()> {
        let folder = self.data.join("brain3d_colin27_icbm152");
        let fixed = three(folder.join("icbm152_t1_2mm.nii.gz"))?;
        let moving = three(folder.join("colin27_t1_2mm.nii.gz"))?;
        let fixed_mask = read::labels(folder.join("icbm152_brainmask_2mm.nii.gz"))?;
        let moving_mask = read::labels(folder.join("colin27_brainmask_2mm.nii.gz"))?;
        let case = Case {
            labels: Some((&fixed_mask, &moving_mask)),
            ..plain(&fixed, &moving, Orientation::RightUp)
        };
        self.register(("brain3d", "icbm152-colin27"), &case, Kind::Lddmm, Similarity::Ncc)
    }

    /// Hippocampi of different people, with two labels.
    fn hippocampus(&mut self) -> Fallible<()> {
        let folder = self.data.join("hippocampus3d_msd");
        for [fixed, moving] in pairs(&folder)? {
            let image = |name: &str| three(folder.join(format!("{name}_image.nii.gz")));
            let labels =
                |name: &str| read::labels::<3>(folder.join(format!("{name}_label.nii.gz")));
            let (target, source) = (image(&fixed)?, image(&moving)?);
            let (target_labels, source_labels) = (labels(&fixed)?, labels(&moving)?);
            let case = Case {
                labels: Some((&target_labels, &source_labels)),
                ..plain(&target, &source, Orientation::RightUp)
            };
            let pair = format!("{}-{}", digits(&fixed), digits(&moving));
            for kind in [Kind::Vsvf, Kind::Lddmm] {
                self.register(("hippocampus", &pair), &case, kind, Similarity::Ncc)?;
            }
        }
        Ok(())
    }

    /// Two frames of a breathing person: the diaphragm slides along the chest wall.
    fn lung(&mut self) -> Fallible<()> {
        let folder = self.data.join("lung2d_cine_mr");
        let path = folder.join("cine_MR_1.png");
        let (fixed, orientation) = (two(&path)?, Orientation::of(&path));
        let moving = two(folder.join("cine_MR_3.png"))?;
        let regions = polygon(moving.grid(), &LUNG)?;
        let case = Case { regions: Some(&regions), ..plain(&fixed, &moving, orientation) };
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
        let json = |row: &Row| row.outcome.json(&[("set", row.set), ("pair", &row.pair)]);
        let report: Vec<_> = self.rows.iter().map(json).collect();
        write(&self.out.join("table.md"), &text)?;
        write(&self.out.join("report.json"), &serde_json::to_string_pretty(&report)?)
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
        check("lung, NCC of LDDMM", self.mean("lung", "LDDMM", ncc), 0.85);
        check("lung, NCC of RDMM", self.mean("lung", "RDMM", ncc), 0.85);
        for model in ["vSVF", "LDDMM"] {
            let what = format!("hippocampus, mean whole Dice of {model}");
            check(&what, self.mean("hippocampus", model, whole), 0.78);
        }
        check("brain3d, Dice of the mask", self.mean("brain3d", "LDDMM", whole), 0.97);
        check("brain3d, NCC in the masks", self.mean("brain3d", "LDDMM", union), 0.85);
        // The optimised regulariser is listed for comparison: nothing holds it back from small σ.
        let judged = self.rows.iter().filter(|row| row.outcome.report.model != "RDMM optimised");
        for row in judged {
            let (folded, model) =
                (row.outcome.report.folds.total().folded, row.outcome.report.model);
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

/// A case without anything but the images.
fn plain<'a, const D: usize>(
    fixed: &'a Image<f32, D>,
    moving: &'a Image<f32, D>,
    orientation: Orientation,
) -> Case<'a, D> {
    Case { fixed, moving, labels: None, regions: None, fixed_region: None, mask: None, orientation }
}

fn by_label(overlap: Option<&[Overlap; 2]>) -> String {
    let Some([before, after]) = overlap else { return "–".to_owned() };
    let entry = |(label, dice): (&u32, &f64)| {
        let before = before.by_label.get(label).copied().unwrap_or(0.0);
        format!("{label}: {before:.3} → {dice:.3}")
    };
    after.by_label.iter().map(entry).collect::<Vec<_>>().join(", ")
}

/// Names of the fixed and moving images that the folder's `pairs.csv` lists.
fn pairs(folder: &Path) -> Fallible<Vec<[String; 2]>> {
    let path = folder.join("pairs.csv");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let pair = |line: &str| {
        let mut cells = line.split(',').map(|cell| cell.trim().to_owned());
        let (fixed, moving) = (cells.next(), cells.next());
        let missing = || format!("{}: expected two names in the line {line}", path.display());
        Ok([fixed.ok_or_else(missing)?, moving.ok_or_else(missing)?])
    };
    text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(pair).collect()
}

fn digits(name: &str) -> &str {
    name.rsplit_once('_').map_or(name, |(_, digits)| digits)
}

fn two(path: impl AsRef<Path>) -> Fallible<Image<f32, 2>> {
    match read::image(&path)? {
        AnyImage::Two(image) => Ok(image),
        AnyImage::Three(_) => {
            Err(format!("{}: expected two axes, found three", path.as_ref().display()).into())
        }
    }
}

fn three(path: impl AsRef<Path>) -> Fallible<Image<f32, 3>> {
    match read::image(&path)? {
        AnyImage::Three(image) => Ok(image),
        AnyImage::Two(_) => {
            Err(format!("{}: expected three axes, found two", path.as_ref().display()).into())
        }
    }
}

/// 1 inside a polygon of (column, row) corners, 0 outside.
fn polygon(grid: &Grid<2>, corners: &[[f64; 2]]) -> Fallible<Labels<2>> {
    let inside = |flat: usize| {
        let [row, column] = grid.unravel(flat).map(|i| i as f64);
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
    let arguments = match Arguments::parse(&OPTIONS)? {
        Asked::Run(arguments) => arguments,
        Asked::Help(text) => {
            println!("{text}");
            return Ok(());
        }
    };
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
    };
    let out = &validation.out;
    std::fs::create_dir_all(out).map_err(|error| format!("{}: {error}", out.display()))?;
    for set in SETS.into_iter().filter(|&set| only.is_none_or(|only| only == set)) {
        match set {
            "oasis" => validation.oasis()?,
            "lung" => validation.lung()?,
            "hippocampus" => validation.hippocampus()?,
            _ => validation.brain3d()?,
        }
    }
    validation.report()?;
    validation.judge()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
