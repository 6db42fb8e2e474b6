//! Registers two images by vSVF, LDDMM and RDMM.
//!
//! Without arguments it makes a synthetic pair with known objects, registers it by all three models and
//! fails unless each of them helps without folding. `--fixed F --moving M` take `NIfTI` or PNG files of
//! two or three dimensions; `--help` lists all options. A table goes to the terminal; `report.json` and
//! one picture a model go to the folder `--out`.
#![expect(clippy::print_stdout, reason = "an example reports on the terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use rdmm_core::grid::Grid;
use rdmm_core::labels::Labels;
use rdmm_core::synthetic::Shapes;
use rdmm_io::Volume;
use rdmm_validation::Fallible;
use rdmm_validation::arguments::Arguments;
use rdmm_validation::case::{Case, Kind, Similarity};
use rdmm_validation::outcome::{HEADINGS, Outcome, table};
use rdmm_validation::panel::Orientation;

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
    let pair = Shapes::default().with_seed(seed).pair::<f32, 2>(&grid)?;
    let outcomes = plan.run(&Case {
        labels: Some((&pair.fixed_labels, &pair.moving_labels)),
        regions: Some(&pair.foreground),
        fixed_region: Some(&pair.fixed_foreground),
        penalties: plan.penalties,
        ..Case::new(&pair.fixed, &pair.moving, Orientation::Rows)
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
    fixed: &Path,
    volume: &Volume,
) -> Fallible<()> {
    let image = |name: &str| arguments.text(name).map(rdmm_io::read_image::<D>).transpose();
    let labels = |name: &str| arguments.text(name).map(rdmm_io::read_labels::<D>).transpose();
    let fixed_labels: Option<Labels<D>> = labels("fixed-labels")?;
    let moving_labels = match (labels("moving-labels")?, labels("labels")?) {
        (Some(_), Some(_)) => return Err("--labels and --moving-labels are the same".into()),
        (first, second) => first.or(second),
    };
    plan.run(&Case {
        labels: fixed_labels.as_ref().zip(moving_labels.as_ref()),
        regions: moving_labels.as_ref(),
        penalties: plan.penalties,
        mask: image("mask")?.as_ref(),
        ..Case::new(
            &volume.image().map_err(|problem| problem.at(fixed))?,
            &image("moving")?.ok_or("--fixed and --moving need one another")?,
            Orientation::of(fixed),
        )
    })?;
    Ok(())
}

fn run() -> Fallible<()> {
    let Some(arguments) = Arguments::parse(&OPTIONS)? else { return Ok(()) };
    let plan = Plan::of(&arguments)?;
    let Some(fixed) = arguments.text("fixed") else {
        let of_files = ["moving", "fixed-labels", "moving-labels", "labels", "mask"];
        if let Some(name) = of_files.into_iter().find(|name| arguments.text(name).is_some()) {
            return Err(format!("--{name} needs --fixed and --moving").into());
        }
        return synthetic(&plan, arguments.number("seed")?.unwrap_or(0));
    };
    let volume = rdmm_io::read(fixed)?;
    match volume.dimension() {
        2 => files::<2>(&plan, &arguments, fixed.as_ref(), &volume),
        _ => files::<3>(&plan, &arguments, fixed.as_ref(), &volume),
    }
}

fn main() -> ExitCode {
    rdmm_validation::exit(run())
}
