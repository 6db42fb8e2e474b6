//! `rdmm register`: one pair of images, from files to files.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rdmm_core::field::Displacement;
use rdmm_core::grid::Grid;
use rdmm_io::Volume;
use serde_json::Value;

use crate::cli::{HowArgs, RegisterArgs};
use crate::config::{Auto, Config, Preset};
use crate::failure::{Done, Failure};
use crate::figures::Subject;
use crate::files::{self, Kind};
use crate::inputs::{Inputs, common_dimension, grey, listed};
use crate::intensities::{Which, expect_contrast};
use crate::log::Log;
use crate::maps::read;
use crate::page;
use crate::pair::{self, Course, Found};
use crate::planes::Shown;
use crate::results::{self, Compared, Named};
use crate::watch::{CheckpointFile, Fingerprint, Stopped};

/// Registers the pair that the options name.
pub(crate) fn run(args: &RegisterArgs, log: &Log) -> Done {
    let begin = Instant::now();
    let config = configuration(&args.how)?;
    results::expect_apart(&args.out, files_of(args)?.iter().map(PathBuf::as_path))?;
    let (fixed, moving) = (grey(&args.fixed, log)?, grey(&args.moving, log)?);
    match common_dimension((&args.fixed, &fixed), (&args.moving, &moving))? {
        2 if args.fsl => {
            let problem = "expected volumes of 3 axes, found 2: FSL has no transforms of slices";
            Err(Failure::at("--fsl", problem))
        }
        2 => files::<2>(args, &config, [fixed, moving], log, begin, |_, _| Ok(())),
        3 => files::<3>(args, &config, [fixed, moving], log, begin, |inputs, found| {
            if args.fsl { results::write_fsl(&args.out, found, inputs) } else { Ok(()) }
        }),
        other => Err(Failure::at(
            args.fixed.display(),
            format!("expected an image of 2 or 3 axes, found {other}"),
        )),
    }
}

/// The images and what belongs to them.
fn files_of(args: &RegisterArgs) -> Done<Vec<PathBuf>> {
    let beside = &args.beside;
    let optional = [
        &beside.fixed_labels,
        &beside.moving_labels,
        &beside.fixed_mask,
        &beside.fixed_landmarks,
        &beside.moving_landmarks,
        &beside.regions,
    ];
    let images = [&args.fixed, &args.moving].into_iter().chain(optional.into_iter().flatten());
    let initial = listed("--initial", &beside.initial)?.into_iter().map(|listed| listed.path);
    Ok(images.cloned().chain(initial).collect())
}

/// The configuration of the file, with what options override.
pub(crate) fn configuration(how: &HowArgs) -> Done<Config> {
    let mut config = how.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    if let Some(preset) = how.preset {
        config.preset = preset;
    }
    if let Some(measure) = how.similarity {
        config.similarity.measure = measure;
    }
    if let Some(weight) = how.weight {
        config.similarity.weight = Auto::Value(weight);
    }
    if let Some(transform) = how.affine {
        config.affine.transform = transform;
    }
    if let Some(start) = how.start {
        config.affine.start = start;
    }
    if let Some(sigmas) = &how.sigmas {
        config.regulariser.sigmas = Auto::Value(sigmas.clone());
    }
    if let Some(shares) = &how.shares {
        config.regulariser.shares = Auto::Value(shares.clone());
    }
    if let Some(levels) = &how.levels {
        let of = match config.preset {
            Preset::Affine => &mut config.affine.levels,
            _ => &mut config.optimiser.levels,
        };
        *of = Auto::Value(levels.clone());
    }
    if let Some(bound) = how.min_jacobian {
        config.flow.min_jacobian = bound;
    }
    if let Some([low, high]) = how.winsorize {
        let intensities = &mut config.intensities;
        (intensities.low, intensities.high, intensities.cut) = (low, high, true);
    }
    if let Some(window) = how.fixed_window {
        config.intensities.fixed_window = Auto::Value(window);
    }
    if let Some(window) = how.moving_window {
        config.intensities.moving_window = Auto::Value(window);
    }
    expect_effects(how, &config)?;
    match &how.config {
        Some(path) => config.checked().map_err(|failure| Failure::at(path.display(), failure)),
        None => config.checked(),
    }
}

/// `Ok` unless an option would do nothing.
fn expect_effects(how: &HowArgs, config: &Config) -> Done {
    let (of_flow, shares) = (
        [
            ("--sigmas", how.sigmas.is_some()),
            ("--shares", how.shares.is_some()),
            ("--weight", how.weight.is_some()),
            ("--min-jacobian", how.min_jacobian.is_some()),
        ],
        [("--shares", how.shares.is_some())],
    );
    let (without, expected): (&[_], _) = match config.preset {
        Preset::Affine => (&of_flow, "a preset with a regulariser, found affine, which has none"),
        Preset::RdmmRegions => (
            &shares,
            "them by region, in [regions] of the configuration, for the preset rdmm-regions",
        ),
        Preset::Vsvf | Preset::Lddmm | Preset::Rdmm => (&[], ""),
    };
    match without.iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::at(option, format!("expected {expected}: leave it out"))),
        None => Ok(()),
    }
}

/// Registers images of `D` axes and writes all results; `further` writes what only some dimensions have.
fn files<const D: usize>(
    args: &RegisterArgs,
    config: &Config,
    [fixed, mut moving]: [Volume; 2],
    log: &Log,
    begin: Instant,
    further: impl FnOnce(&Inputs<D>, &Found<D>) -> Done,
) -> Done {
    let inputs =
        Inputs::<D>::read((&args.fixed, &fixed), (&args.moving, &moving), &args.beside, config)?;
    // How the moving image was stored still counts, its numbers are in the inputs.
    drop(fixed);
    moving.values = Vec::new();
    let every = Duration::try_from_secs_f64(args.checkpoint_every)
        .map_err(|error| Failure::at("--checkpoint-every", error))?;
    let mut config = config.clone();
    let images = [
        (args.fixed.as_path(), &inputs.fixed, Which::Fixed),
        (args.moving.as_path(), &inputs.moving, Which::Moving),
    ];
    expect_contrast(images, &mut config, log)?;
    if args.beside.landmarks_only_measured {
        config.landmarks.weight = 0.0;
    }
    let file = CheckpointFile::new(&args.out, fingerprint(&config, &inputs, args)?, every);
    files::folder(&args.out)?;
    let course =
        Course { log, begin, time_limit: args.time_limit, file: Some(&file), resume: args.resume };
    let found = pair::register(&inputs, &config, &course)?;
    let report = write(args, &moving, &inputs, &found, begin)?;
    further(&inputs, &found)?;
    log.say(&format!("results: {}", args.out.display()));
    let ended = |why: &str| {
        let next =
            if file.exists() { "--resume goes on" } else { "there is nothing to go on from" };
        format!("{why}: the best state so far was written; {next}")
    };
    match found.stopped {
        Some(Stopped::TimeLimit) => Err(Failure::TimeLimit(ended("the time limit was reached"))),
        Some(Stopped::Interrupted) => Err(Failure::Interrupted(ended("interrupted"))),
        None => {
            file.remove()?;
            results::verdict(&report, args.max_folds)
        }
    }
}

/// A number that changes with everything that a checkpoint depends on.
fn fingerprint<const D: usize>(
    config: &Config,
    inputs: &Inputs<D>,
    args: &RegisterArgs,
) -> Done<u64> {
    let mut hash = Fingerprint::new()
        .bytes(env!("CARGO_PKG_VERSION").bytes())
        .bytes(config.text()?.into_bytes());
    for image in [Some(&inputs.fixed), Some(&inputs.moving), inputs.fixed_mask.as_ref()] {
        let Some(image) = image else { continue };
        hash = hash.bytes(format!("{:?}", image.grid()).into_bytes());
        hash = hash.bytes(image.data().iter().flat_map(|x| x.to_le_bytes()));
    }
    if let Some(regions) = inputs.regions.as_ref().or(inputs.moving_labels.as_ref()) {
        hash = hash.bytes(regions.data().iter().flat_map(|x| x.to_le_bytes()));
    }
    hash = hash.bytes(format!("{:?}", inputs.landmarks).into_bytes());
    for listed in listed("--initial", &args.beside.initial)? {
        let bytes = std::fs::read(&listed.path)
            .map_err(|error| Failure::at(listed.path.display(), error))?;
        hash = hash.bytes(bytes).bytes([u8::from(listed.inverted)]);
    }
    Ok(hash.value())
}

/// Writes images, maps, and both reports; returns `report.json`.
fn write<const D: usize>(
    args: &RegisterArgs,
    moving: &Volume,
    inputs: &Inputs<D>,
    found: &Found<D>,
    begin: Instant,
) -> Done<Value> {
    let kind = Kind::of_pair(&args.fixed, moving);
    let labels = results::write(&args.out, kind, moving, inputs, found)?;
    let intensities = found.config.intensities.mapping();
    let subject = Subject {
        images: Some((&inputs.fixed, &inputs.moving)),
        intensities,
        mask: inputs.fixed_mask.as_ref(),
        labels: inputs.fixed_labels.as_ref().zip(inputs.moving_labels.as_ref()),
        landmarks: inputs.landmarks.as_ref(),
    };
    let grid = inputs.fixed.grid();
    let affine: Displacement<f32, D> = match inputs.initial.affine() {
        Some(_) => found.affine.displacement(grid)?,
        None => inputs.initial.displacement(grid)?,
    };
    let compared = Compared {
        before: subject.under(&Displacement::zeros(grid)?)?,
        affine: subject.under(&affine)?,
        after: subject.under(&found.map)?,
    };
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let named = Named {
        fixed: text(&args.fixed),
        moving: text(&args.moving),
        fixed_labels: args.beside.fixed_labels.as_deref().map(text),
        moving_labels: args.beside.moving_labels.as_deref().map(text),
        initial: args.beside.initial.clone(),
        command: std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect(),
        seconds: found.earlier + begin.elapsed().as_secs_f64(),
        could_show: inputs.fixed_mask.is_none().then(|| could_show(grid, inputs.moving.grid())),
    };
    let json = results::json(&named, found, &compared)?;
    files::write_json(&args.out.join("report.json"), &json)?;

    let target = page::comparable(&inputs.fixed, &json, Which::Fixed)?;
    let source = page::comparable(&inputs.moving, &json, Which::Moving)?;
    let (start, end) = (read(&source, &affine)?, read(&source, &found.map)?);
    let flow = found.flow.as_ref();
    let sigma = flow.and_then(|flow| flow.sigma_start.as_ref().zip(flow.sigma_end.as_ref()));
    let sigma = sigma.map(|(start, end)| [start, end]);
    let shown = Shown {
        fixed: &target,
        moving: Some(&start),
        warped: &end,
        map: &found.map,
        det: &found.det,
        sigma: sigma.filter(|sigma| sigma.iter().any(|image| varies(image))),
        labels: inputs.fixed_labels.as_ref().zip(labels.as_ref()).map(|(a, b)| [a, b]),
    };
    page::write(&args.out, &json, &shown)?;
    Ok(json)
}

/// Whether an image varies beyond rounding.
pub(crate) fn varies<const D: usize>(image: &rdmm_core::field::Image<f32, D>) -> bool {
    let values = image.data().iter().copied();
    let (low, high) =
        values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    high - low > 1e-4 * high.abs()
}

/// Part of the box of the fixed image that one of the size of the moving image can cover, by their sorted edges.
fn could_show<const D: usize>(fixed: &Grid<D>, moving: &Grid<D>) -> f64 {
    let edges = |grid: &Grid<D>| {
        let mut edges = grid.extent();
        edges.sort_by(f64::total_cmp);
        edges
    };
    edges(moving).iter().zip(edges(fixed)).map(|(a, b)| (a / b).min(1.0)).product()
}
