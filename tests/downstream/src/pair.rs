//! The images that the parts register.

use std::path::PathBuf;

use rdmm_core::evaluate::ncc;
use rdmm_core::field::Image;
use rdmm_core::grid::Grid;
use rdmm_core::registration::{Level, Settings};
use rdmm_core::synthetic::Shapes;

pub type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

pub struct Pair {
    pub name: String,
    pub fixed: Image<f32, 2>,
    pub moving: Image<f32, 2>,
}

impl Pair {
    /// Two brains of the data, or generated shapes.
    pub fn found() -> Fallible<Self> {
        if let Some(root) = std::env::var_os("RDMM_DATA") {
            let folder = PathBuf::from(root).join("brain2d_oasis");
            let image = |name: &str| rdmm_io::read_image(folder.join(name));
            return Ok(Self {
                name: format!("two brains of {}", folder.display()),
                fixed: image("oasis2d_0041.nii.gz")?,
                moving: image("oasis2d_0042.nii.gz")?,
            });
        }
        let shapes = Shapes::default().with_outside(1);
        let pair = shapes.pair::<f32, 2>(&Grid::unit([64, 64])?)?;
        let name = "a generated pair: RDMM_DATA names no folder of images".to_owned();
        Ok(Self { name, fixed: pair.fixed, moving: pair.moving })
    }

    pub fn grid(&self) -> &Grid<2> {
        self.fixed.grid()
    }

    /// How much more alike the warped image is than the moving one.
    pub fn gain(&self, warped: &Image<f32, 2>) -> Fallible<f64> {
        Ok(ncc(warped, &self.fixed, None)? - ncc(&self.moving, &self.fixed, None)?)
    }
}

/// A few iterations at full resolution.
pub fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.levels = Some(vec![Level { factor: 1.0, iterations: 6 }]);
    settings
}
