//! `rdmm demo`: everything once, with nothing needed.

use rdmm_core::synthetic::Shapes;

use super::{register, synth};
use crate::cli::{BesideArgs, DemoArgs, HowArgs, RegisterArgs};
use crate::config::{AffineKind, MeasureKind, Preset};
use crate::failure::Done;
use crate::log::Log;
use crate::print::print;

/// Voxels an axis of the pair.
const SHAPE: [usize; 2] = [128, 128];

/// Generates a pair, registers it, and says where the report is.
pub(crate) fn run(args: &DemoArgs, log: &Log) -> Done {
    let pair = args.out.join("pair");
    synth::write(&pair, &Shapes::default().with_seed(args.seed), SHAPE, &[])?;
    let file = |name: &str| pair.join(name);
    let out = args.out.join("result");
    register::run(
        &RegisterArgs {
            fixed: file("fixed.nii.gz"),
            moving: file("moving.nii.gz"),
            out: out.clone(),
            how: HowArgs {
                preset: Some(Preset::Rdmm),
                similarity: Some(MeasureKind::Ssd),
                affine: Some(AffineKind::None),
                ..HowArgs::default()
            },
            beside: BesideArgs {
                fixed_labels: Some(file("fixed_labels.nii.gz")),
                moving_labels: Some(file("moving_labels.nii.gz")),
                ..BesideArgs::default()
            },
            ..RegisterArgs::default()
        },
        log,
    )?;
    print(&format!(
        "Open {} in a browser: it shows what was found, and how.\n\
         Your own scans: rdmm register --fixed FIXED --moving MOVING --preset rdmm --out RESULT",
        out.join("report.html").display(),
    ))
}
