//! Everything that a registration can be told, as TOML. Each entry has a default that `rdmm config` prints.

use std::collections::BTreeMap;
use std::ops::RangeBounds;
use std::path::Path;

use clap::ValueEnum;
use rdmm_core::registration::Level;
use serde::{Deserialize, Serialize};

use crate::failure::{Done, Failure};

/// What is registered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Preset {
    /// An affine map alone
    Affine,
    /// A stationary velocity field
    Vsvf,
    /// A geodesic of one metric everywhere
    #[default]
    Lddmm,
    /// RDMM with a regulariser given by region, from a label map of the moving image
    RdmmRegions,
    /// RDMM with a regulariser that is optimised with the momentum
    Rdmm,
}

/// A value, or `"auto"`: what suits the images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Auto<T> {
    /// This value.
    Value(T),
    /// What suits the images.
    Auto(Word),
}

/// The word `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Word {
    Auto,
}

impl<T> Default for Auto<T> {
    fn default() -> Self {
        Self::Auto(Word::Auto)
    }
}

impl<T: Clone> Auto<T> {
    /// The value, or what suits.
    pub(crate) fn or_else(&self, suits: impl FnOnce() -> T) -> T {
        match self {
            Self::Value(value) => value.clone(),
            Self::Auto(_) => suits(),
        }
    }

    /// The value, if there is one.
    pub(crate) fn value(&self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value.clone()),
            Self::Auto(_) => None,
        }
    }
}

/// The affine map before the non-linear one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum AffineKind {
    /// No affine registration
    None,
    /// Rotation and shift
    Rigid,
    /// Rotation, shift and one scale
    Similarity,
    /// All linear maps and shifts
    #[default]
    Affine,
}

/// Where the affine registration starts, after the initial transforms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StartKind {
    /// The images as they are placed in the world
    #[default]
    World,
    /// Centres of mass brought together
    Mass,
    /// Centres of mass and principal axes brought together
    Moments,
    /// Landmarks brought together, as far as maps of the kind can
    Landmarks,
}

/// What compares images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum MeasureKind {
    /// Sum of squared differences: the same scanner and scale
    Ssd,
    /// Normalised cross-correlation: the same kind of image
    Ncc,
    /// Local NCC in Gaussian windows: the same kind of image, uneven illumination
    #[default]
    Lncc,
    /// Local NCC in the windows of the RDMM paper
    MkLncc,
    /// Mutual information: two kinds of images
    Mi,
    /// Normalised mutual information: two kinds of images
    Nmi,
}

/// What happens at the border of the images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum BoundaryKind {
    /// Axes wrap around
    Periodic,
    /// Mirrored
    #[default]
    Reflecting,
    /// Zero outside
    Free,
}

impl BoundaryKind {
    pub(crate) fn core(self) -> rdmm_core::grid::Boundary {
        use rdmm_core::grid::Boundary;
        match self {
            Self::Periodic => Boundary::Periodic,
            Self::Reflecting => Boundary::Reflecting,
            Self::Free => Boundary::Free,
        }
    }
}

/// `[affine]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AffineConfig {
    pub(crate) transform: AffineKind,
    pub(crate) start: StartKind,
    /// By default `nmi` beside `mi` and `nmi`, `lncc` beside `lncc` unless the map is rigid, and `ncc` beside all others.
    /// Before local ones, a rigid registration by `ncc`.
    pub(crate) similarity: Auto<MeasureKind>,
    /// Times fewer voxels an axis, and most iterations, from coarse to fine.
    pub(crate) levels: Auto<Vec<Level>>,
}

/// `[similarity]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SimilarityConfig {
    pub(crate) measure: MeasureKind,
    /// λ against the regulariser.
    pub(crate) weight: Auto<f64>,
    /// Standard deviation of the windows of `lncc`, mm, in place of `window_voxels`.
    pub(crate) window: Auto<f64>,
    /// The same in voxels of each level.
    pub(crate) window_voxels: f64,
}

impl Default for SimilarityConfig {
    fn default() -> Self {
        Self {
            measure: MeasureKind::default(),
            weight: Auto::default(),
            window: Auto::default(),
            window_voxels: 2.5,
        }
    }
}

/// `[intensities]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IntensityConfig {
    /// Fractions of the voxels that are mapped below 0 and below 1.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Whether values beyond them are cut off. If not they are kept, below 0 and above 1.
    pub(crate) cut: bool,
    /// The least and the largest value that counts, in the numbers of the file; what is beyond them is cut off first. By
    /// default nothing is.
    pub(crate) fixed_window: Auto<[f64; 2]>,
    pub(crate) moving_window: Auto<[f64; 2]>,
}

impl Default for IntensityConfig {
    fn default() -> Self {
        Self {
            low: 0.001,
            high: 0.999,
            cut: false,
            fixed_window: Auto::default(),
            moving_window: Auto::default(),
        }
    }
}

/// `[regulariser]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RegulariserConfig {
    /// Standard deviations of the Gaussians, mm.
    pub(crate) sigmas: Auto<Vec<f64>>,
    /// Their shares, of sum one.
    pub(crate) shares: Auto<Vec<f64>>,
    /// Standard deviation of the Gaussian G that smooths pre-weights (RDMM), mm.
    pub(crate) smoothing: Auto<f64>,
    pub(crate) boundary: BoundaryKind,
    /// λ of optimal mass transport, total variation and range (`rdmm`).
    pub(crate) omt: Auto<f64>,
    pub(crate) total_variation: Auto<f64>,
    pub(crate) range: Auto<f64>,
}

/// One entry of `[regions]`: the regulariser where the label map has this label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Region {
    /// Shares of the Gaussians.
    Shares(Vec<f64>),
    /// Local standard deviation, mm.
    Sigma(f64),
}

/// `[flow]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FlowConfig {
    /// Voxels of the map grid that a time step may cross.
    pub(crate) courant: f64,
    pub(crate) least_steps: usize,
    pub(crate) most_steps: usize,
    /// The smallest Jacobian determinant that is allowed.
    pub(crate) min_jacobian: f64,
    /// Maps have this many times fewer voxels an axis than the images, as far as σ allows.
    pub(crate) map_factor: f64,
    /// Fewest voxels of a map that the smallest σ spans at full resolution.
    pub(crate) sigma_voxels: f64,
    /// MiB for states that the gradient needs; more time steps than fit are computed again. By default all states are
    /// kept, and stages within 2 GiB.
    pub(crate) checkpoint_mib: Auto<usize>,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            courant: 1.5,
            least_steps: 3,
            most_steps: 50,
            min_jacobian: 0.05,
            map_factor: 2.0,
            sigma_voxels: 1.0,
            checkpoint_mib: Auto::default(),
        }
    }
}

/// `[optimiser]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OptimiserConfig {
    /// Times fewer voxels an axis, and most iterations, from coarse to fine.
    pub(crate) levels: Auto<Vec<Level>>,
    /// Relative decrease of the energy over five iterations that ends a level.
    pub(crate) tolerance: f64,
    /// Pairs that L-BFGS keeps.
    pub(crate) memory: usize,
}

impl Default for OptimiserConfig {
    fn default() -> Self {
        Self { levels: Auto::default(), tolerance: 1e-2, memory: 10 }
    }
}

/// `[landmarks]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LandmarkConfig {
    /// λ of the mean squared distance, over the square of the largest extent.
    pub(crate) weight: f64,
}

impl Default for LandmarkConfig {
    fn default() -> Self {
        Self { weight: 10.0 }
    }
}

/// A configuration file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) preset: Preset,
    pub(crate) affine: AffineConfig,
    pub(crate) similarity: SimilarityConfig,
    pub(crate) intensities: IntensityConfig,
    pub(crate) regulariser: RegulariserConfig,
    pub(crate) flow: FlowConfig,
    pub(crate) optimiser: OptimiserConfig,
    pub(crate) landmarks: LandmarkConfig,
    /// By label of the moving image's region map (`rdmm-regions`).
    pub(crate) regions: BTreeMap<String, Region>,
}

impl Config {
    /// Reads a configuration; entries that it leaves out have their defaults.
    pub(crate) fn read(path: &Path) -> Done<Self> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::at(path.display(), error))?;
        toml::from_str(&text).map_err(|error| Failure::at(path.display(), error))
    }

    /// `Ok` where every number is in its range, as far as it can be told without the images.
    pub(crate) fn checked(self) -> Done<Self> {
        let (flow, optimiser, intensities) = (&self.flow, &self.optimiser, &self.intensities);
        let positive = f64::MIN_POSITIVE..=f64::MAX;
        let fractions = 0.0..=1.0;
        let from_one = 1.0..=f64::MAX;
        let weights = [
            ("similarity.weight", &self.similarity.weight),
            ("similarity.window", &self.similarity.window),
            ("regulariser.smoothing", &self.regulariser.smoothing),
        ];
        for (name, weight) in weights {
            within(name, weight.or_else(|| 1.0), "a finite number > 0", &positive)?;
        }
        let window = self.similarity.window_voxels;
        within("similarity.window_voxels", window, "a finite number > 0", &positive)?;
        within("intensities.low", intensities.low, "a fraction from 0 to 1", &fractions)?;
        within("intensities.high", intensities.high, "a fraction from 0 to 1", &fractions)?;
        within(
            "landmarks.weight",
            self.landmarks.weight,
            "a finite number from 0",
            &(0.0..=f64::MAX),
        )?;
        within("flow.courant", flow.courant, "a finite number > 0", &positive)?;
        within("flow.map_factor", flow.map_factor, "a finite number ≥ 1", &from_one)?;
        within("flow.sigma_voxels", flow.sigma_voxels, "a finite number ≥ 0.6", &(0.6..=f64::MAX))?;
        within("flow.min_jacobian", flow.min_jacobian, "a number from 0 to below 1", &(0.0..1.0))?;
        within(
            "optimiser.tolerance",
            optimiser.tolerance,
            "a finite number from 0",
            &(0.0..=f64::MAX),
        )?;
        if flow.least_steps == 0 || flow.most_steps < flow.least_steps {
            let found = format!("{} and {}", flow.least_steps, flow.most_steps);
            let problem = format!("expected 1 ≤ least_steps ≤ most_steps, found {found}");
            return Err(Failure::at("flow.least_steps, most_steps", problem));
        }
        if optimiser.memory == 0 {
            return Err(Failure::at("optimiser.memory", "expected at least 1, found 0"));
        }
        if intensities.low >= intensities.high {
            let found = format!("{} and {}", intensities.low, intensities.high);
            return Err(Failure::at(
                "[intensities] (--winsorize)",
                format!("expected low < high, found {found}"),
            ));
        }
        for (name, window) in [
            ("intensities.fixed_window (--fixed-window)", &intensities.fixed_window),
            ("intensities.moving_window (--moving-window)", &intensities.moving_window),
        ] {
            let Some([low, high]) = window.value() else { continue };
            if !(low.is_finite() && high.is_finite() && low < high) {
                let problem =
                    format!("expected two finite numbers, low < high, found {low} and {high}");
                return Err(Failure::at(name, problem));
            }
        }
        for (name, levels) in
            [("affine.levels", &self.affine.levels), ("optimiser.levels", &optimiser.levels)]
        {
            let Some(levels) = levels.value() else { continue };
            if levels.is_empty() {
                return Err(Failure::at(name, "expected at least one level, found none"));
            }
            for level in levels {
                within(name, level.factor, "factors ≥ 1", &from_one)?;
            }
        }
        if self.preset == Preset::Affine && self.affine.transform == AffineKind::None {
            return Err(Failure::at(
                "affine.transform (--affine)",
                "expected rigid, similarity or affine with the preset affine, found none",
            ));
        }
        Ok(self)
    }

    /// As TOML.
    pub(crate) fn text(&self) -> Done<String> {
        toml::to_string(self).map_err(|error| Failure::at("configuration", error))
    }
}

/// `Ok` if the value of an entry is in its range.
fn within(name: &str, value: f64, expected: &str, range: &impl RangeBounds<f64>) -> Done {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Failure::at(name, format!("expected {expected}, found {value}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_printed_and_read_again() {
        let config = Config::default();
        let text = config.text().unwrap();
        for entry in ["preset = \"lddmm\"", "weight = \"auto\"", "min_jacobian = 0.05", "[regions]"]
        {
            assert!(text.contains(entry), "{entry} is missing from\n{text}");
        }
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn values_and_regions_are_read_and_unknown_entries_refused() {
        let text = "[regulariser]\nsigmas = [2.0, 4.0]\n[regions]\n0 = { sigma = 4.0 }\n\
                    2 = { shares = [0.5, 0.5] }\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.regulariser.sigmas.value(), Some(vec![2.0, 4.0]));
        assert_eq!(config.regions["0"], Region::Sigma(4.0));
        let error = toml::from_str::<Config>("[optimizer]\nmemory = 3").unwrap_err().to_string();
        assert!(error.contains("optimizer") && error.contains("optimiser"), "{error}");
    }
}
