//! Options on how to register, which several commands share.

use std::path::PathBuf;

use clap::Args;

use crate::config::{AffineKind, MeasureKind, Preset, StartKind};

/// How to register, shared by `register`, `batch` and `config`. Options override the configuration file.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct HowArgs {
    /// What to register by [default: lddmm, or that of the configuration]
    #[arg(long, short)]
    pub(crate) preset: Option<Preset>,
    /// Configuration file; `rdmm config` prints one
    #[arg(long, value_name = "TOML")]
    pub(crate) config: Option<PathBuf>,
    /// Similarity measure
    #[arg(long)]
    pub(crate) similarity: Option<MeasureKind>,
    /// Weight λ of the similarity against the regulariser
    #[arg(long, value_name = "λ")]
    pub(crate) weight: Option<f64>,
    /// Affine registration before the non-linear one
    #[arg(long)]
    pub(crate) affine: Option<AffineKind>,
    /// Where the affine registration starts
    #[arg(long)]
    pub(crate) start: Option<StartKind>,
    /// Standard deviations of the regulariser's Gaussians, mm
    #[arg(long, value_delimiter = ',', value_name = "MM")]
    pub(crate) sigmas: Option<Vec<f64>>,
    /// Shares of the Gaussians, of sum one
    #[arg(long, value_delimiter = ',', value_name = "SHARE")]
    pub(crate) shares: Option<Vec<f64>>,
    /// Resolution levels as factor:iterations, from coarse to fine, such as 4:60,2:60,1:60
    #[arg(long, value_delimiter = ',', value_name = "F:N", value_parser = level)]
    pub(crate) levels: Option<Vec<rdmm_core::registration::Level>>,
    /// The smallest Jacobian determinant that is allowed
    #[arg(long, value_name = "DET")]
    pub(crate) min_jacobian: Option<f64>,
    /// Fractions of the voxels beyond which grey values are cut off, such as 0.005,0.995
    #[arg(long, value_name = "LOW,HIGH", value_parser = two)]
    pub(crate) winsorize: Option<[f64; 2]>,
    /// Values of the fixed image beyond which they are cut off, such as -1000,1000 for CT
    #[arg(long, value_name = "LOW,HIGH", value_parser = two, allow_hyphen_values = true)]
    pub(crate) fixed_window: Option<[f64; 2]>,
    /// The same of the moving image
    #[arg(long, value_name = "LOW,HIGH", value_parser = two, allow_hyphen_values = true)]
    pub(crate) moving_window: Option<[f64; 2]>,
}

fn two(text: &str) -> Result<[f64; 2], String> {
    let parsed = text.split_once(',').and_then(|(low, high)| {
        Some([low.trim().parse::<f64>().ok()?, high.trim().parse::<f64>().ok()?])
    });
    parsed.ok_or_else(|| format!("expected two numbers such as 0.005,0.995, found {text}"))
}

fn level(text: &str) -> Result<rdmm_core::registration::Level, String> {
    let parsed = text.split_once(':').and_then(|(factor, iterations)| {
        Some((factor.parse::<f64>().ok()?, iterations.parse::<usize>().ok()?))
    });
    let (factor, iterations) =
        parsed.ok_or_else(|| format!("expected factor:iterations such as 2:60, found {text}"))?;
    if !(factor.is_finite() && factor >= 1.0) {
        return Err(format!("expected a factor of 1 or more, found {factor}"));
    }
    Ok(rdmm_core::registration::Level { factor, iterations })
}
