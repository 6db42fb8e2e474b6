//! Grey values before images are compared: windows and percentiles that cut, and contrast that is left.

use std::path::Path;

use rdmm_core::Error;
use rdmm_core::field::Image;
use rdmm_core::registration::Intensities;

use crate::config::{Auto, Config, IntensityConfig};
use crate::failure::{Done, Failure};
use crate::log::Log;

/// Values further away than this, in ranges between the percentiles, lead most measures of similarity: a thousandth of the
/// voxels has ten times the variance of all others. Bright vessels and bones are at two or three.
const FAR: f32 = 10.0;

/// Which image of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    Fixed,
    Moving,
}

impl Which {
    fn window(self, config: &IntensityConfig) -> &Auto<[f64; 2]> {
        match self {
            Self::Fixed => &config.fixed_window,
            Self::Moving => &config.moving_window,
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Fixed => "--fixed-window",
            Self::Moving => "--moving-window",
        }
    }
}

/// The image with what the configuration cuts off: values beyond its window have the value of the window's end, and
/// then, with `cut`, values beyond the percentiles have theirs. `None` where nothing is to be cut.
pub(crate) fn cut<const D: usize>(
    image: &Image<f32, D>,
    config: &IntensityConfig,
    which: Which,
) -> Option<Image<f32, D>> {
    let window = which.window(config).value();
    if window.is_none() && !config.cut {
        return None;
    }
    let mut image = image.clone();
    if let Some(window) = window {
        clamp(&mut image, window);
    }
    if config.cut {
        let ends = percentiles(&image, [config.low, config.high]);
        clamp(&mut image, ends);
    }
    Some(image)
}

fn clamp<const D: usize>(image: &mut Image<f32, D>, ends: [f64; 2]) {
    #[expect(clippy::cast_possible_truncation, reason = "images are kept in single precision")]
    let [low, high] = ends.map(|x| x as f32);
    image.data_mut().iter_mut().for_each(|x| *x = x.clamp(low, high));
}

/// The values below which these fractions of the voxels lie.
fn percentiles<const D: usize>(image: &Image<f32, D>, fractions: [f64; 2]) -> [f64; 2] {
    let mut sorted = image.data().to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    fractions.map(|fraction| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let at = (fraction * (sorted.len() - 1) as f64).round() as usize;
        f64::from(sorted[at])
    })
}

/// `Ok` where all images have some contrast. Where their percentiles agree though they are not constant, as those of masks
/// and sparse images do, the smallest and the largest value take the place of the percentiles, which is said.
pub(crate) fn expect_contrast<const D: usize>(
    images: [(&Path, &Image<f32, D>, Which); 2],
    config: &mut Config,
    log: &Log,
) -> Done {
    for (path, image, which) in images {
        let varies = |image: &Image<f32, D>| {
            let first = image.data().first();
            image.data().iter().any(|x| Some(x) != first)
        };
        if !varies(image) {
            let problem = match which.window(&config.intensities).value() {
                None if config.intensities.cut => {
                    "all voxels are alike between the percentiles that cut: if only few are bright, as in sparse images and \
                     masks, take other ones (--winsorize) or none"
                        .to_owned()
                }
                None => "all voxels are alike, expected some contrast: is it the right file?".to_owned(),
                Some([low, high]) => format!(
                    "all voxels are alike between {low} and {high}, expected some contrast: take another window ({})",
                    which.option()
                ),
            };
            return Err(Failure::at(path.display(), problem));
        }
        let found = config.intensities.mapping();
        match found.applied(image, "image between its percentiles [intensities]") {
            Ok(mapped) => {
                let far = mapped.data().iter().fold(0.0_f32, |far, x| far.max(x.abs()));
                if far > FAR {
                    log.warn(&format!(
                        "{}: some values are {far:.1e} times as far off as the bulk of the voxels is wide, and count \
                         accordingly: --winsorize 0.005,0.995 or a window ({}) of rdmm register cuts them off",
                        path.display(),
                        which.option()
                    ));
                }
            }
            Err(Error::NoContrast { .. }) => {
                let IntensityConfig { low, high, .. } = config.intensities;
                log.warn(&format!(
                    "{}: the fractions {low} and {high} of the voxels end at the same value, as in sparse images and masks: \
                     the smallest and the largest value are taken (low = 0 and high = 1 under [intensities])",
                    path.display()
                ));
                (config.intensities.low, config.intensities.high) = (0.0, 1.0);
            }
            Err(error) => return Err(Failure::at(path.display(), error)),
        }
    }
    Ok(())
}

impl IntensityConfig {
    /// How each image is mapped, alone, after it was cut.
    pub(crate) fn mapping(&self) -> Intensities {
        Intensities::Percentiles { low: self.low, high: self.high }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdmm_core::grid::Grid;

    fn image(values: Vec<f32>) -> Image<f32, 2> {
        Image::from_vec(&Grid::new([5, 4], [1.0, 1.0]).unwrap(), values).unwrap()
    }

    #[test]
    fn windows_and_percentiles_cut() {
        let given = image((0..20).map(|i| if i == 7 { 1000.0 } else { i as f32 }).collect());
        let mut config = IntensityConfig::default();
        assert_eq!(cut(&given, &config, Which::Fixed), None);
        config.fixed_window = Auto::Value([2.0, 12.5]);
        let expected = given.data().iter().map(|x| x.clamp(2.0, 12.5)).collect::<Vec<_>>();
        assert_eq!(cut(&given, &config, Which::Fixed).unwrap().data(), expected);
        assert_eq!(cut(&given, &config, Which::Moving), None);
        // Sorted, the values are 0 to 6, 8 to 19 and 1000: ranks 2 and 17 of 0 to 19.
        (config.cut, config.low, config.high) = (true, 0.1, 0.9);
        let found = cut(&given, &config, Which::Moving).unwrap();
        let expected = given.data().iter().map(|x| x.clamp(2.0, 18.0)).collect::<Vec<_>>();
        assert_eq!(found.data(), expected);
        // Cut again it is the same.
        assert_eq!(cut(&found, &config, Which::Moving).unwrap(), found);
    }
}
