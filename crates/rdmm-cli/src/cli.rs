//! Commands and their options.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::BoundaryKind;
pub(crate) use crate::how::HowArgs;

const CODES: &str = "Exit codes: 0 done; 2 options, files or data that cannot be used; 3 not converged, or folded \
                     beyond what was asked; 124 time limit, 130 interrupted (the best state so far is written).";

/// Diffeomorphic registration of medical images: affine, vSVF, LDDMM and RDMM.
///
/// Images are NIfTI, NRRD, MetaImage or PNG files; the world is that of ITK (millimetres, LPS). Transforms pull back:
/// they carry points of the fixed image to the moving image.
#[derive(Debug, Parser)]
#[command(name = "rdmm", version, after_help = CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of all commands.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Threads; 0 for all cores. Results do not depend on it
    #[arg(long, global = true, default_value_t = 0, value_name = "N")]
    pub(crate) threads: usize,
    /// More lines of progress
    #[arg(short, long, global = true, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Progress as one JSON object a line, on the standard error
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register a moving image onto a fixed one
    Register(Box<RegisterArgs>),
    /// Carry an image, a label map or points by transforms
    Apply(ApplyArgs),
    /// Write a list of transforms as one warp
    Compose(ComposeArgs),
    /// Invert a transform
    Invert(InvertArgs),
    /// Jacobian determinant of a warp, and its folds
    Jacobian(JacobianArgs),
    /// Integrate the evolution equations from an initial momentum
    ///
    /// Writes, for t = 1: inverse_displacement.npy (Φ⁻¹ − id), forward_displacement.npy (Φ − id), momentum.npy,
    /// preweights.npy and report.json (energies, determinants, folds). Arrays are of double precision, C order,
    /// components first along the axes of the array, lengths in the unit of the spacing. The momentum of vSVF is not
    /// advected: its momentum.npy is the initial one. preweights.npy holds what the flow advects, the weights with
    /// --advect weights, and the constants √share for vSVF and LDDMM.
    Shoot(ShootArgs),
    /// Figures of a transform: overlap, landmarks, folds, inverse consistency (JSON)
    Evaluate(EvaluateArgs),
    /// Generate a pair of images with known objects
    Synth(SynthArgs),
    /// Write the HTML report of a registration again
    Report(ReportArgs),
    /// Register many pairs, listed in a CSV file
    Batch(Box<BatchArgs>),
    /// Generate a pair, register it, and say where the report is
    Demo(DemoArgs),
    /// Print the configuration with all its defaults (TOML)
    Config(ConfigArgs),
    /// Print shell completions
    Completions(CompletionsArgs),
    /// Write man pages
    Man(ManArgs),
}

fn seconds(text: &str) -> Result<f64, String> {
    let parsed = text.parse().ok().filter(|&x| std::time::Duration::try_from_secs_f64(x).is_ok());
    parsed.ok_or_else(|| format!("expected seconds, a finite number from 0, found {text}"))
}

/// `rdmm register`
#[derive(Clone, Debug, Args)]
pub(crate) struct RegisterArgs {
    /// Image to register onto
    #[arg(long, short)]
    pub(crate) fixed: PathBuf,
    /// Image to register
    #[arg(long, short)]
    pub(crate) moving: PathBuf,
    /// Folder of results
    #[arg(long, short)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) how: HowArgs,
    #[command(flatten)]
    pub(crate) beside: BesideArgs,
    /// Folds that are accepted before the exit code is 3
    #[arg(long, default_value_t = 0, value_name = "VOXELS")]
    pub(crate) max_folds: usize,
    /// Seconds after which the best state so far is written
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) time_limit: Option<f64>,
    /// Go on from the checkpoint in the folder of results, if there is one
    #[arg(long)]
    pub(crate) resume: bool,
    /// Seconds between checkpoints; 0 writes one after every iteration
    #[arg(long, default_value_t = CHECKPOINT_SECONDS, value_name = "SECONDS", value_parser = seconds)]
    pub(crate) checkpoint_every: f64,
    /// Also write the affine map and the warp as FSL reads them (3-D)
    #[arg(long)]
    pub(crate) fsl: bool,
}

impl Default for RegisterArgs {
    /// The defaults of the options; the files are still to be named.
    fn default() -> Self {
        Self {
            fixed: PathBuf::new(),
            moving: PathBuf::new(),
            out: PathBuf::new(),
            how: HowArgs::default(),
            beside: BesideArgs::default(),
            max_folds: 0,
            time_limit: None,
            resume: false,
            checkpoint_every: CHECKPOINT_SECONDS,
            fsl: false,
        }
    }
}

/// Seconds between checkpoints.
const CHECKPOINT_SECONDS: f64 = 60.0;

/// What belongs to a pair of images.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct BesideArgs {
    /// Label map of the fixed image, for the overlap
    #[arg(long, value_name = "FILE")]
    pub(crate) fixed_labels: Option<PathBuf>,
    /// Label map of the moving image: carried along, and for the overlap
    #[arg(long, value_name = "FILE")]
    pub(crate) moving_labels: Option<PathBuf>,
    /// Mask of the fixed image: of integers all but 0 are inside, fractions from 0 to 1 are shares
    #[arg(long, value_name = "FILE")]
    pub(crate) fixed_mask: Option<PathBuf>,
    /// Points of the fixed image (CSV: x,y[,z], LPS mm; or .fcsv, .mrk.json of Slicer)
    #[arg(long, value_name = "CSV", requires = "moving_landmarks")]
    pub(crate) fixed_landmarks: Option<PathBuf>,
    /// The same points of the moving image
    #[arg(long, value_name = "CSV", requires = "fixed_landmarks")]
    pub(crate) moving_landmarks: Option<PathBuf>,
    /// Landmarks are only measured, not matched
    #[arg(long, requires = "fixed_landmarks")]
    pub(crate) landmarks_only_measured: bool,
    /// Label map of the moving image that gives the regulariser's regions (`rdmm-regions`)
    /// [default: the moving labels]
    #[arg(long, value_name = "FILE")]
    pub(crate) regions: Option<PathBuf>,
    /// Initial transform: FILE, or [FILE,1] for its inverse. Again for a list: points of the fixed image go through
    /// the first one first
    #[arg(long, short = 't', value_name = "FILE")]
    pub(crate) initial: Vec<String>,
}

/// How images are interpolated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interpolation {
    /// Cubic B-splines
    #[default]
    Cubic,
    /// Linear
    Linear,
    /// The nearest voxel: any numbers, as they are stored
    Nearest,
    /// Label maps: each label linearly, the largest wins
    Labels,
}

/// `rdmm apply`
#[derive(Debug, Args)]
pub(crate) struct ApplyArgs {
    /// Image or label map to carry
    #[arg(long, short, required_unless_present = "points", conflicts_with = "points")]
    pub(crate) moving: Option<PathBuf>,
    /// Points to carry (CSV: x,y[,z], LPS mm; or .fcsv, .mrk.json of Slicer): those of the fixed image go to the moving image
    #[arg(long, short)]
    pub(crate) points: Option<PathBuf>,
    /// Image whose grid the result has
    #[arg(long, short, required_unless_present = "points")]
    pub(crate) fixed: Option<PathBuf>,
    /// Transform: FILE, or [FILE,1] for its inverse; fsl:FILE,REFERENCE,INPUT for one of FSL. Again for a list: points of
    /// the fixed image go through the first one first. None stands for the identity, for images
    #[arg(long = "transform", short, value_name = "FILE")]
    pub(crate) transforms: Vec<String>,
    /// How the image is interpolated
    #[arg(long, short = 'i', default_value = "cubic")]
    pub(crate) interpolation: Interpolation,
    /// Value of what lies beyond the moving image, such as -1024 for CT
    #[arg(
        long,
        default_value_t = 0.0,
        value_name = "VALUE",
        allow_hyphen_values = true,
        conflicts_with = "points"
    )]
    pub(crate) fill: f64,
    /// Volume of a series, counted from 0 [default: all of them]
    #[arg(long, value_name = "N", conflicts_with = "points")]
    pub(crate) volume: Option<usize>,
    /// Spacing of the result, mm: one number or one an axis, over the box of the fixed image
    /// [default: that of the fixed image]
    #[arg(long, value_delimiter = ',', value_name = "MM", conflicts_with = "points")]
    pub(crate) spacing: Vec<f64>,
    /// Axes of the points
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3), value_name = "D")]
    pub(crate) dimension: u8,
    /// File of the result
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

/// `rdmm compose`
#[derive(Debug, Args)]
pub(crate) struct ComposeArgs {
    /// Transform: FILE, or [FILE,1] for its inverse; fsl:FILE,REFERENCE,INPUT for one of FSL. Again for a list: points of
    /// the fixed image go through the first one first
    #[arg(long = "transform", short, required = true, value_name = "FILE")]
    pub(crate) transforms: Vec<String>,
    /// Image whose grid the warp has
    #[arg(long, short)]
    pub(crate) fixed: PathBuf,
    /// Spacing of the warp, mm: one number or one an axis, over the box of the fixed image
    /// [default: that of the fixed image]
    #[arg(long, value_delimiter = ',', value_name = "MM")]
    pub(crate) spacing: Vec<f64>,
    /// File of the warp
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

/// `rdmm invert`
#[derive(Debug, Args)]
pub(crate) struct InvertArgs {
    /// Transform to invert
    #[arg(long, short)]
    pub(crate) transform: PathBuf,
    /// Axes of the world
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=3), value_name = "D")]
    pub(crate) dimension: u8,
    /// File of the inverse: .txt or .mat of an affine map, an image file of a warp
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

/// `rdmm jacobian`
#[derive(Debug, Args)]
pub(crate) struct JacobianArgs {
    /// Warp
    #[arg(long, short)]
    pub(crate) warp: PathBuf,
    /// Write log det instead of det; folds, where it has no logarithm, are refused
    #[arg(long)]
    pub(crate) log: bool,
    /// File of the determinant
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

/// Which evolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ShotModel {
    /// Stationary velocity K m
    Vsvf,
    /// EPDiff with one metric everywhere
    Lddmm,
    /// EPDiff with pre-weights
    Rdmm,
}

/// What RDMM advects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Advected {
    /// Pre-weights, smoothed again at every instant
    #[default]
    Preweights,
    /// Weights that were smoothed once
    Weights,
}

/// `rdmm shoot`
#[derive(Debug, Args)]
pub(crate) struct ShootArgs {
    /// Evolution
    #[arg(long)]
    pub(crate) model: ShotModel,
    /// Initial momentum, a covector density: .npy, components first in the order of the axes, or an image file of
    /// vectors in the axes of the world
    #[arg(long)]
    pub(crate) momentum: PathBuf,
    /// Initial pre-weights h (RDMM), one component a Gaussian, Σ h² = 1: .npy or an image file
    #[arg(long, required_if_eq("model", "rdmm"))]
    pub(crate) preweights: Option<PathBuf>,
    /// Spacing of the axes: with .npy only, image files have their own
    #[arg(long, value_delimiter = ',', value_name = "S")]
    pub(crate) spacing: Vec<f64>,
    /// Standard deviations of the Gaussians, increasing
    #[arg(long, value_delimiter = ',', required = true, value_name = "SIGMA")]
    pub(crate) sigmas: Vec<f64>,
    /// Shares of the Gaussians, of sum one (vSVF, LDDMM) [default: equal]
    #[arg(long, value_delimiter = ',', value_name = "SHARE")]
    pub(crate) shares: Vec<f64>,
    /// Standard deviation of G, which smooths pre-weights (RDMM)
    #[arg(long, required_if_eq("model", "rdmm"), value_name = "SIGMA")]
    pub(crate) preweight_sigma: Option<f64>,
    /// What the flow advects (RDMM)
    #[arg(long, default_value = "preweights")]
    pub(crate) advect: Advected,
    /// What happens at the border
    #[arg(long, default_value = "reflecting")]
    pub(crate) boundary: BoundaryKind,
    /// Time steps (fourth-order Runge–Kutta) from 0 to 1
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub(crate) steps: usize,
    /// Further times, increasing, in (0, 1), at which the same arrays are written, as momentum_t0.25.npy. An interval
    /// of length d between times takes ⌈N d⌉ equal steps
    #[arg(long, value_delimiter = ',', value_name = "T")]
    pub(crate) times: Vec<f64>,
    /// Folder of results
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

/// `rdmm evaluate`
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// Image whose grid figures are taken on
    #[arg(long, short)]
    pub(crate) fixed: PathBuf,
    /// Moving image: for the similarity
    #[arg(long, short)]
    pub(crate) moving: Option<PathBuf>,
    /// Transform: FILE, or [FILE,1] for its inverse; fsl:FILE,REFERENCE,INPUT for one of FSL. Again for a list: points of
    /// the fixed image go through the first one first. None stands for the identity
    #[arg(long = "transform", short, value_name = "FILE")]
    pub(crate) transforms: Vec<String>,
    /// Inverse of the transforms: for the inverse consistency
    #[arg(long, value_name = "FILE")]
    pub(crate) inverse: Vec<String>,
    #[command(flatten)]
    pub(crate) beside: EvaluateBeside,
    /// File of the figures [default: the standard output]
    #[arg(long, short)]
    pub(crate) out: Option<PathBuf>,
}

/// What figures can be taken from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct EvaluateBeside {
    /// Label map of the fixed image
    #[arg(long, value_name = "FILE", requires = "moving_labels")]
    pub(crate) fixed_labels: Option<PathBuf>,
    /// Label map of the moving image
    #[arg(long, value_name = "FILE", requires = "fixed_labels")]
    pub(crate) moving_labels: Option<PathBuf>,
    /// Points of the fixed image (CSV: x,y[,z], LPS mm; or .fcsv, .mrk.json of Slicer)
    #[arg(long, value_name = "CSV", requires = "moving_landmarks")]
    pub(crate) fixed_landmarks: Option<PathBuf>,
    /// The same points of the moving image
    #[arg(long, value_name = "CSV", requires = "fixed_landmarks")]
    pub(crate) moving_landmarks: Option<PathBuf>,
}

/// `rdmm synth`
#[derive(Debug, Args)]
pub(crate) struct SynthArgs {
    /// Voxels an axis: two or three numbers
    #[arg(long, value_delimiter = ',', default_value = "128,128", value_name = "N")]
    pub(crate) shape: Vec<usize>,
    /// Spacing of the axes, mm [default: 1 each]
    #[arg(long, value_delimiter = ',', value_name = "MM")]
    pub(crate) spacing: Vec<f64>,
    /// Seed: the same one gives the same pair
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Objects around the foreground object, at most 8
    #[arg(long, default_value_t = 4, value_name = "N")]
    pub(crate) outside: usize,
    /// How far the foreground moves, in extents of the image, at most 0.1
    #[arg(long, default_value_t = 0.09)]
    pub(crate) change: f64,
    /// Folder of results
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

/// `rdmm report`
#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    /// Folder that `rdmm register` wrote
    pub(crate) folder: PathBuf,
}

/// `rdmm batch`
#[derive(Clone, Debug, Args)]
pub(crate) struct BatchArgs {
    /// Pairs (CSV). Columns: fixed, moving, and any of name, fixed_labels, moving_labels, fixed_mask, fixed_landmarks,
    /// moving_landmarks, regions, initial. Paths are relative to the file
    #[arg(long, value_name = "CSV")]
    pub(crate) pairs: PathBuf,
    /// Folder of results: a folder a pair, and batch.csv
    #[arg(long, short)]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) how: HowArgs,
    /// Pairs at a time; they share the threads
    #[arg(long, short, default_value_t = 1, value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: u16,
    /// Leave out pairs that are done, go on with one that was interrupted
    #[arg(long)]
    pub(crate) resume: bool,
    /// Folds that are accepted before a pair counts as unfinished
    #[arg(long, default_value_t = 0, value_name = "VOXELS")]
    pub(crate) max_folds: usize,
    /// Seconds a pair, after which its best state so far is written
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_hyphen_values = true)]
    pub(crate) time_limit: Option<f64>,
}

/// `rdmm demo`
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder of results
    #[arg(long, short, default_value = "rdmm-demo")]
    pub(crate) out: PathBuf,
    /// Seed of the pair
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

/// `rdmm config`
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) how: HowArgs,
}

/// `rdmm completions`
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell
    pub(crate) shell: clap_complete::Shell,
}

/// `rdmm man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Folder of the pages
    #[arg(long, short)]
    pub(crate) out: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn options_do_not_contradict_one_another() {
        super::Cli::command().debug_assert();
    }
}
