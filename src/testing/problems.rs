//! Problems whose solutions are known.

use crate::dynamics::{Evolution, Flow, StageMap};
use crate::error::Result;
use crate::field::{Displacement, Image, Velocity};
use crate::grid::Grid;

/// A velocity that is the same everywhere and grows logistically, v′ = v − v², and the translation that it makes: time
/// alone is discretised, so that all errors are those of the integrator.
///
/// From v₀ in (0, 1) it is v(t) = v₀ eᵗ / (1 + v₀ (eᵗ − 1)), and the inverse map is id − ln(1 + v₀ (eᵗ − 1)).
///
/// ```
/// use rdmm_core::grid::{Boundary, Grid};
/// use rdmm_core::step::{MapTransport, RK4, Stepper};
/// use rdmm_core::testing::problems::{Growth, Logistic};
///
/// let grid = Grid::<2>::unit([8, 8])?.with_boundary(Boundary::Periodic);
/// let problem = Logistic::new(0.2);
/// let start = problem.state(&grid, 0.0)?;
/// let stepper = Stepper::new(Growth::<2>, RK4, MapTransport::SemiLagrangian);
/// let (mut end, mut ws) = (start.clone(), stepper.workspace(&start)?);
/// stepper.step(&start, 0.1, &mut end, &mut ws);
/// let exact = problem.state(&grid, 0.1)?;
/// assert!((end.body.data()[0] - exact.body.data()[0]).abs() < 1e-8);
/// assert!((end.map.data()[0] - exact.map.data()[0]).abs() < 1e-8);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Logistic {
    start: f64,
}

impl Logistic {
    /// The problem that begins with the velocity `start`, between 0 and 1.
    #[must_use]
    pub fn new(start: f64) -> Self {
        Self { start }
    }

    /// Velocity and inverse map at a time, exactly.
    ///
    /// # Errors
    /// Those of fields on the grid.
    pub fn state<const D: usize>(
        &self,
        grid: &Grid<D>,
        time: f64,
    ) -> Result<Flow<f64, D, Velocity<f64, D>>> {
        let grown = 1.0 + self.start * (time.exp() - 1.0);
        let n = D * grid.len();
        Ok(Flow {
            body: Velocity::from_vec(grid, vec![self.start * time.exp() / grown; n])?,
            map: Displacement::from_vec(grid, vec![-grown.ln(); n])?,
        })
    }
}

/// The problem on a grid, for an integrator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth<const D: usize>;

impl<const D: usize> Evolution for Growth<D> {
    type Scalar = f64;
    type State = Flow<f64, D, Velocity<f64, D>>;
    type Velocity = Velocity<f64, D>;
    type Tape = ();
    type Workspace = ();

    fn workspace(&self) -> Result<()> {
        Ok(())
    }

    fn tape(&self) -> Result<()> {
        Ok(())
    }

    /// It is in the state.
    fn velocity(&self, _state: &Self::State, _tape: &mut (), _ws: &mut ()) {}

    fn velocity_field<'a>(&'a self, state: &'a Self::State, _tape: &'a ()) -> &'a Velocity<f64, D> {
        &state.body
    }

    /// −D(id + u) v is −v: the map is a translation, whose derivative is the identity.
    fn rate(
        &self,
        state: &Self::State,
        _map: StageMap,
        rate: &mut Self::State,
        _tape: &(),
        _ws: &mut (),
    ) {
        for (rate, v) in rate.body.data_mut().iter_mut().zip(state.body.data()) {
            *rate = v - v * v;
        }
        for (rate, v) in rate.map.data_mut().iter_mut().zip(state.body.data()) {
            *rate = -v;
        }
    }
}

/// A shear: the velocity v(x) = (0, …, 0, sin 2πx₀/L₀ · `size`), which does not change in time, and the displacement −t v of
/// its inverse map, exactly: along the last axis nothing changes.
///
/// Solves the stationary problem ([`Stationary`](crate::dynamics::Stationary)) and is periodic along the first axis,
/// whose extent is L₀. Needs two axes or more.
///
/// # Errors
/// Those of fields on the grid.
pub fn shear<const D: usize>(
    grid: &Grid<D>,
    size: f64,
    time: f64,
) -> Result<Flow<f64, D, Velocity<f64, D>>> {
    let length = grid.spacing()[0] * grid.shape()[0] as f64;
    let speed = |x: [f64; D], axis: usize| {
        if axis + 1 == D { size * (std::f64::consts::TAU * x[0] / length).sin() } else { 0.0 }
    };
    Ok(Flow {
        body: Velocity::from_fn(grid, |x| std::array::from_fn(|axis| speed(x, axis)))?,
        map: Displacement::from_fn(grid, |x| std::array::from_fn(|axis| -time * speed(x, axis)))?,
    })
}

/// A cosine of `cycles` half periods along each axis of a reflecting grid: the eigenfunctions of all kernels that are
/// functions of the frequency, such as Gaussians. K of it is a multiple of it.
///
/// # Errors
/// Those of fields on the grid.
///
/// ```
/// use rdmm_core::{grid::Grid, kernel::{Gaussian, Kernel}, testing::problems::cosine};
///
/// let grid = Grid::<2>::unit([16, 16])?;
/// let wave = cosine(&grid, [2, 1])?;
/// let smooth = Gaussian::<f64, 2>::new(&grid, 0.2)?.smooth(&wave)?;
/// let ratio = smooth.data()[0] / wave.data()[0];
/// let off = smooth.data().iter().zip(wave.data()).map(|(s, w)| (s - ratio * w).abs());
/// assert!(off.fold(0.0, f64::max) < 1e-12);
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn cosine<const D: usize>(grid: &Grid<D>, cycles: [usize; D]) -> Result<Image<f64, D>> {
    let (shape, pi) = (grid.shape(), std::f64::consts::PI);
    let value = |flat: usize| {
        let index = grid.unravel(flat);
        let along =
            |a: usize| (pi * cycles[a] as f64 * (index[a] as f64 + 0.5) / shape[a] as f64).cos();
        (0..D).map(along).product()
    };
    Image::from_vec(grid, (0..grid.len()).map(value).collect())
}
