//! A registration and its parts.

use std::sync::Arc;

use super::channel::{Channel, Pair};
use super::grids::{LevelGrids, level_grids};
use super::landmarks::Landmarks;
use super::settings::Settings;
use super::term::TermRecipe;
use crate::error::Result;
use crate::field::Image;
use crate::grid::Grid;
use crate::model::Model;
use crate::scalar::Real;
use crate::similarity::Measure;
use crate::world::Affine;

/// A model, a measure and settings, ready for pairs of images.
///
/// ```
/// use rdmm_core::grid::Grid;
/// use rdmm_core::model::{Lddmm, MultiGaussian};
/// use rdmm_core::registration::Registration;
/// use rdmm_core::similarity::Ssd;
/// use rdmm_core::synthetic::Shapes;
///
/// let grid = Grid::<2>::unit([48, 48])?;
/// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
/// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
/// let result = Registration::new(model, Ssd).run(&pair.fixed, &pair.moving)?;
/// assert_eq!(result.report.folds.total().folded, 0);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Registration<M, T: Real, const D: usize> {
    pub(super) model: M,
    pub(super) measure: Arc<dyn Measure<T, D>>,
    pub(super) settings: Settings,
    pub(super) mask: Option<Image<T, D>>,
    pub(super) moving_mask: Option<Image<T, D>>,
    pub(super) initial: Affine<D>,
    pub(super) channels: Vec<Channel<T, D>>,
    pub(super) landmarks: Option<Landmarks<D>>,
    pub(super) terms: Vec<Arc<dyn TermRecipe<T, D>>>,
}

impl<M: Model<T, D>, T: Real, const D: usize> Registration<M, T, D> {
    /// Registration with default settings.
    #[must_use]
    pub fn new(model: M, measure: impl Measure<T, D> + 'static) -> Self {
        Self {
            model,
            measure: Arc::new(measure),
            settings: Settings::default(),
            mask: None,
            moving_mask: None,
            initial: Affine::identity(),
            channels: Vec::new(),
            landmarks: None,
            terms: Vec::new(),
        }
    }

    /// The same with other settings.
    #[must_use]
    pub fn with_settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The same with a mask on the fixed image: voxels count by their value from 0 to 1.
    #[must_use]
    pub fn with_mask(mut self, mask: Image<T, D>) -> Self {
        self.mask = Some(mask);
        self
    }

    /// The same with a mask on the moving image, over its grid, for the half of a comparison that is seen from
    /// there: for a [`TwoSided`](crate::model::TwoSided) model, together with the fixed image's mask.
    #[must_use]
    pub fn with_moving_mask(mut self, mask: Image<T, D>) -> Self {
        self.moving_mask = Some(mask);
        self
    }

    /// The same from an affine map A, such as that of
    /// [`AffineRegistration`](crate::affine::AffineRegistration): points of the fixed image's world to those of
    /// the moving image's.
    ///
    #[doc = include_str!("../../docs/math/totalmap.html")]
    ///
    /// The flow lives in the fixed image's world. The moving image is read at A(x + u(x)) and interpolated
    /// once, on every level. What a model is given in the moving image's world is read through A as well:
    /// the weights of [`Rdmm`](crate::model::Rdmm) at x are those given at A(x)
    /// ([`Model::discretise`]), so give them as without an initial map. `inverse_map` and `forward_map` of the result
    /// are the whole maps: labels, images and landmarks go through them as they are.
    ///
    /// ```
    /// use nalgebra::{SMatrix, SVector};
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Lddmm, MultiGaussian};
    /// use rdmm_core::registration::Registration;
    /// use rdmm_core::{evaluate::dice_whole, similarity::Ssd, synthetic::Shapes, world::Affine};
    ///
    /// let grid = Grid::<2>::unit([40, 40])?;
    /// let pair = Shapes::default().with_outside(1).pair::<f32, 2>(&grid)?;
    /// // The moving image stands elsewhere in the world, and it is known where.
    /// let moving = pair.moving.on_grid(&grid.clone().with_origin([5.0, -2.0])?)?;
    /// let initial = Affine::new(SMatrix::identity(), SVector::from([5.0, -2.0]))?;
    /// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
    /// let result = Registration::new(model, Ssd).with_initial(initial).run(&pair.fixed, &moving)?;
    /// assert!(result.inverse_map.data()[0] > 4.0 && result.deformation.data()[0] < 0.1);
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    #[must_use]
    pub fn with_initial(mut self, initial: Affine<D>) -> Self {
        self.initial = initial;
        self
    }

    /// The same with a further pair of images, beside those before.
    #[must_use]
    pub fn with_channel(mut self, channel: Channel<T, D>) -> Self {
        self.channels.push(channel);
        self
    }

    /// The same with these landmarks, in place of those before.
    #[must_use]
    pub fn with_landmarks(mut self, landmarks: Landmarks<D>) -> Self {
        self.landmarks = Some(landmarks);
        self
    }

    /// The same with a further term of the energy, beside those before: any function of the maps. See
    /// [`MapTerm`](super::MapTerm) for an example.
    #[must_use]
    pub fn with_term(mut self, term: impl TermRecipe<T, D> + 'static) -> Self {
        self.terms.push(Arc::new(term));
        self
    }

    /// Whether there are terms beside the similarity.
    pub(super) fn has_further_terms(&self) -> bool {
        !self.channels.is_empty() || self.landmarks.is_some() || !self.terms.is_empty()
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The grids of each level for a fixed image on `fixed`: those of the images, and those that momentum, weights
    /// and map live on.
    ///
    /// # Errors
    /// Those of the settings.
    ///
    /// ```
    /// use rdmm_core::grid::Grid;
    /// use rdmm_core::model::{Lddmm, MultiGaussian};
    /// use rdmm_core::registration::Registration;
    /// use rdmm_core::similarity::Ssd;
    ///
    /// let grid = Grid::<2>::unit([96, 96])?;
    /// let model = Lddmm::new(MultiGaussian::for_grid(&grid));
    /// let registration = Registration::<_, f32, 2>::new(model, Ssd);
    /// let levels = registration.grids(&grid)?;
    /// assert_eq!(levels[2].images.shape(), [96, 96]);
    /// assert_eq!(levels[2].maps.shape(), [50, 50]); // 1.25 voxels for the smallest σ, 2.5 % of the image
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn grids(&self, fixed: &Grid<D>) -> Result<Vec<LevelGrids<D>>> {
        self.settings.validate()?;
        let levels = self.settings.levels_for(fixed);
        level_grids(fixed, &levels, &self.settings, self.model.smallest_sigma())
    }

    /// λ.
    pub(super) fn weight(&self) -> f64 {
        self.settings.similarity_weight.unwrap_or_else(|| self.measure.default_weight())
    }

    /// A pair by the measure, weight and masks of the registration.
    pub(super) fn pair(&self, fixed: Image<T, D>, moving: Image<T, D>) -> Pair<'_, T, D> {
        let (measure, weight) = (&*self.measure, self.weight());
        let (mask, moving_mask) = (self.mask.as_ref(), self.moving_mask.as_ref());
        Pair { fixed, moving, measure, weight, mask, moving_mask }
    }
}
