//! Registers two images by vSVF, LDDMM and RDMM.
//!
//! Without arguments it makes a synthetic pair with known objects, registers it by all three models and
//! fails unless each of them helps without folding. `--fixed F --moving M` take `NIfTI` or PNG files of
//! two or three dimensions; `--help` lists all options. A table goes to the terminal; `report.json` and
//! one picture a model go to the folder `--out`.
#![expect(clippy::print_stdout, reason = "an example reports on the terminal")]

mod support;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use rdmm_core::synthetic::Shapes;
use rdmm_core::world::Affine;
use support::arguments::Arguments;
use support::case::{Case, Kind, Similarity};
use support::outcome::{HEADINGS, Outcome, table};
use support::panel::Orientation;
use support::read::{self, AnyImage, FromHeader};

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const OPTIONS: [(&str, &str); 12] = [
    ("fixed", "image to register onto (.nii, .nii.gz, .png); a synthetic pair without"),
    ("moving", "image to register"),
    ("fixed-labels", "objects of the fixed image: Dice needs these and the next"),
    ("moving-labels", "objects of the moving image: also RDMM's regions, stiff where 0"),
    ("labels", "the same as --moving-labels"),
    ("mask", "weights of the fixed image's voxels, from 0 to 1"),
    ("model", "vsvf, lddmm, rdmm, rdmm-optimised or all (default)"),
    ("similarity", "ssd (default), ncc, lncc, mk-lncc, mi or nmi"),
    ("weight", "weight of the similarity; the measure's default without"),
    ("penalties", "λ of OMT, total variation and range in place of the default"),
    ("out", "folder of results (default out/register)"),
    ("seed", "seed of the synthetic pair (default 0)"),
];

/// Voxels an axis of the synthetic pair.
const SYNTHETIC: [usize; 2] = [128, 128];

/// How the pair is registered.
struct Plan {
    models: Vec<Kind>,
    similarity: Similarity,
    weight: Option<f64>,
    penalties: Option<[f64; 3]>,
    out: PathBuf,
}

impl Plan {
    fn of(arguments: &Arguments) -> Fallible<Self> {
        let models = match arguments.text("model").unwrap_or("all") {
            "vsvf" => vec![Kind::Vsvf],
            "lddmm" => vec![Kind::Lddmm],
            "rdmm" => vec![Kind::Rdmm],
            "rdmm-optimised" => vec![Kind::RdmmOptimised],
            "all" => vec![Kind::Vsvf, Kind::Lddmm, Kind::Rdmm],
            other => {
                let expected = "vsvf, lddmm, rdmm, rdmm-optimised or all";
                return Err(format!("--model: expected {expected}, found {other}").into());
            }
        };
        Ok(Self {
            models,
            similarity: arguments.text("similarity").unwrap_or("ssd").parse()?,
            weight: arguments.number("weight")?,
            penalties: arguments.numbers("penalties")?,
            out: arguments.text("out").unwrap_or("out/register").into(),
        })
    }

    /// Registers by each model and writes everything down.
    fn run<const D: usize>(&self, case: &Case<'_, D>) -> Fallible<Vec<Outcome>> {
        std::fs::create_dir_all(&self.out)
            .map_err(|error| format!("{}: {error}", self.out.display()))?;
        let mut outcomes = Vec::new();
        for &kind in &self.models {
            let kind = if kind == Kind::Rdmm && case.regions.is_none() {
                println!(
                    "RDMM has no labels for its regions: its regulariser is optimised instead."
                );
                Kind::RdmmOptimised
            } else {
                kind
            };
            let panel = self.out.join(kind.stem()).with_extension("png");
            outcomes.push(case.register(kind, self.similarity, self.weight, &panel)?);
        }
        let rows: Vec<_> = outcomes.iter().map(Outcome::cells).collect();
        print!("{}", table(&HEADINGS, &rows));
        for outcome in &outcomes {
            print_levels(outcome);
        }
        let report: Vec<_> = outcomes.iter().map(|outcome| outcome.json(&[])).collect();
        let path = self.out.join("report.json");
        std::fs::write(&path, serde_json::to_string_pretty(&report)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        println!("report and pictures: {}", self.out.display());
        Ok(outcomes)
    }
}

fn print_levels(outcome: &Outcome) {
    for level in &outcome.report.levels {
        let (first, last) = (&level.first.terms, &level.last.terms);
        println!(
            "{}: images {:?}, map {:?}: {} iterations, {} evaluations, energy {:.3e} → {:.3e}, {:?}, {:.1} s",
            outcome.report.model,
            level.images,
            level.map,
            level.iterations,
            level.evaluations,
            first.total,
            last.total,
            level.stop,
            level.seconds,
        );
    }
}

/// Registers a synthetic pair: a large object that deforms strongly, with two inside it, and others
/// around it that hardly move.
fn synthetic(plan: &Plan, seed: u64) -> Fallible<()> {
    let grid = Grid::<2>::unit(SYNTHETIC)?;
    let pair = Shapes { seed, ..Shapes::default() }.pair::<f32, 2>(&grid)?;
    let outcomes = plan.run(&Case {
        fixed: &pair.fixed,
        moving: &pair.moving,
        labels: Some((&pair.fixed_labels, &pair.moving_labels)),
        regions: Some(&pair.foreground),
        fixed_region: Some(&pair.fixed_foreground),
        levels: None,
        initial: Affine::identity(),
        points: None,
        penalties: plan.penalties,
        by_labels: None,
        maps: None,
        mask: None,
        orientation: Orientation::Rows,
    })?;
    let mut complaints = Vec::new();
    for outcome in &outcomes {
        let model = &outcome.report.model;
        let folded = outcome.report.folds.total().folded;
        if outcome.ncc[1] <= outcome.ncc[0] {
            complaints.push(format!("{model} does not raise the NCC"));
        }
        if folded > 0 {
            complaints.push(format!("{model} folds at {folded} voxels"));
        }
        if let Some([before, after]) = &outcome.overlap
            && after.mean() <= before.mean()
        {
            complaints.push(format!("{model} does not raise the mean Dice"));
        }
    }
    if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ").into()) }
}

/// Registers images from files.
fn files<const D: usize>(
    plan: &Plan,
    arguments: &Arguments,
    fixed: &Image<f32, D>,
    moving: &Image<f32, D>,
    mask: Option<&Image<f32, D>>,
) -> Fallible<()>
where
    Grid<D>: FromHeader,
{
    let labels = |name: &str| arguments.text(name).map(read::labels::<D>).transpose();
    let fixed_labels: Option<Labels<D>> = labels("fixed-labels")?;
    let moving_labels = match (labels("moving-labels")?, labels("labels")?) {
        (Some(_), Some(_)) => return Err("--labels and --moving-labels are the same".into()),
        (first, second) => first.or(second),
    };
    let orientation = Orientation::of(arguments.text("fixed").map_or(Path::new(""), Path::new));
    plan.run(&Case {
        fixed,
        moving,
        labels: fixed_labels.as_ref().zip(moving_labels.as_ref()),
        regions: moving_labels.as_ref(),
        fixed_region: None,
        levels: None,
        initial: Affine::identity(),
        points: None,
        penalties: plan.penalties,
        by_labels: None,
        maps: None,
        mask,
        orientation,
    })?;
    Ok(())
}

fn run() -> Fallible<()> {
    let Some(arguments) = Arguments::parse(&OPTIONS)? else { return Ok(()) };
    let plan = Plan::of(&arguments)?;
    let (fixed, moving) = match (arguments.text("fixed"), arguments.text("moving")) {
        (None, None) => {
            let of_files = ["fixed-labels", "moving-labels", "labels", "mask"];
            if let Some(name) = of_files.into_iter().find(|name| arguments.text(name).is_some()) {
                return Err(format!("--{name} needs --fixed and --moving").into());
            }
            return synthetic(&plan, arguments.number("seed")?.unwrap_or(0));
        }
        (Some(fixed), Some(moving)) => (read::image(fixed)?, read::image(moving)?),
        _ => return Err("--fixed and --moving need one another".into()),
    };
    let mask = arguments.text("mask").map(read::image).transpose()?;
    match (fixed, moving, mask) {
        (AnyImage::Two(a), AnyImage::Two(b), None) => files(&plan, &arguments, &a, &b, None),
        (AnyImage::Two(a), AnyImage::Two(b), Some(AnyImage::Two(mask))) => {
            files(&plan, &arguments, &a, &b, Some(&mask))
        }
        (AnyImage::Three(a), AnyImage::Three(b), None) => files(&plan, &arguments, &a, &b, None),
        (AnyImage::Three(a), AnyImage::Three(b), Some(AnyImage::Three(mask))) => {
            files(&plan, &arguments, &a, &b, Some(&mask))
        }
        _ => Err("the images do not all have the same number of axes".into()),
    }
}

fn main() -> ExitCode {
    support::exit(run())
}
