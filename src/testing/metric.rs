//! The contract of a metric.

use super::differences::{check_gradient, check_vjp};
use super::failure::{Checked, expect, within};
use super::random::smooth;
use crate::dynamics::Geodesic;
use crate::field::{Momentum, Velocity};
use crate::grid::Grid;
use crate::metric::{Metric, Tape};
use crate::space::StateSpace;

/// Sums of some hundred terms in another order.
const ROUNDING: f64 = 1e-11;

/// What a metric makes of a momentum and weights: the rates that advecting the weights causes, and the velocity.
#[derive(Clone, Debug)]
struct Answer<const D: usize, W> {
    rates: Geodesic<f64, D, W>,
    velocity: Velocity<f64, D>,
}

crate::product_space!(
    @linear [const D: usize, W: StateSpace<f64>] Answer<D, W> { rates, velocity } f64
);

/// A metric holds its contract on a grid, at `weights` and for changes along `direction` (both `&()` for a metric
/// without weights): K is symmetric and positive; the transposes of the velocity and of the rates are those of what is
/// computed; the gradient of the energy is; force and transport balance, so that the energy is conserved,
/// ⟨force, v⟩ + ⟨∂H/∂w, ∂w/∂t⟩ = 0; what is set does not depend on what was there, and what is added is added to it; and
/// nothing depends on what a tape or a workspace held before.
///
/// Momenta are smooth. The direction should be about as long as the weights vary. Answers the largest relative
/// deviation of a transpose from differences.
///
/// # Errors
/// [`CheckError`](super::CheckError) with what does not hold, and those of [`Metric::tape`].
///
/// ```
/// use rdmm_core::{grid::Grid, kernel::Gaussian, metric::Homogeneous, testing::check_metric};
///
/// let grid = Grid::<2>::unit([12, 10])?;
/// let metric = Homogeneous::new(Gaussian::<f64, 2>::new(&grid, 0.2)?);
/// check_metric(&metric, &grid, &(), &())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn check_metric<M: Metric<f64, D>, const D: usize>(
    metric: &M,
    grid: &Grid<D>,
    weights: &M::Weights,
    direction: &M::Weights,
) -> Checked {
    let momentum = |seed| Momentum::<f64, D>::from_vec(grid, smooth(grid, D, seed));
    let at = Geodesic { momentum: momentum(1)?, weights: weights.clone() };
    let moved = Geodesic { momentum: momentum(2)?, weights: direction.clone() };
    let mut bench = Bench::new(metric, grid)?;
    let length = bench.tape.len();

    let other = Geodesic { momentum: moved.momentum.clone(), weights: weights.clone() };
    let [one, two] = [bench.answer(&at).velocity, bench.answer(&other).velocity];
    let [left, right] = [pair(&other.momentum, &one), pair(&at.momentum, &two)];
    let energies = [pair(&at.momentum, &one), pair(&other.momentum, &two)];
    for energy in energies {
        expect(energy > 0.0, || "⟨m, K m⟩".to_owned(), "a number above zero", energy)?;
    }
    let found = bench.tape.len();
    expect(
        found == length,
        || "a tape that was written".to_owned(),
        "the length of a blank one",
        found,
    )?;
    let scale = energies[0].max(energies[1]);
    within("symmetry of the metric", (left - right).abs() / scale, ROUNDING, || {
        format!("⟨m′, K m⟩ = {left}, ⟨m, K m′⟩ = {right}")
    })?;

    let once = bench.answer(&at);
    let size = once.max_abs();
    let over = || "velocity and rate of the weights over what was NaN".to_owned();
    expect(size.is_finite(), over, "finite numbers", size)?;
    bench.answer(&moved);
    let mut again = bench.answer(&at);
    again.axpy(-1.0, &once);
    let same = again.max_abs() <= 0.0;
    let after = || "a second velocity and its rates".to_owned();
    expect(same, after, "those of the first", format!("a difference of {:.1e}", again.max_abs()))?;

    let answer_bar = Answer {
        rates: Geodesic { momentum: momentum(3)?, weights: direction.clone() },
        velocity: Velocity::from_vec(grid, smooth(grid, D, 4))?,
    };
    let size = bench.rates_vjp(&at, &answer_bar).max_abs();
    let over = || "cotangent of the weights by the rates over what was NaN".to_owned();
    expect(size.is_finite(), over, "finite numbers", size)?;
    let bench = std::cell::RefCell::new(bench);
    let apply = |at: &Geodesic<f64, D, M::Weights>| bench.borrow_mut().answer(at);
    let vjp = |at: &_, bar: &_| bench.borrow_mut().rates_vjp(at, bar);
    let mut worst = check_vjp("rates of the metric", apply, vjp, &at, &moved, &answer_bar)?;
    let apply = |at: &Geodesic<f64, D, M::Weights>| bench.borrow_mut().answer(at).velocity;
    let vjp = |at: &_, bar: &_| bench.borrow_mut().velocity_vjp(at, bar);
    let bar = &answer_bar.velocity;
    worst = worst.max(check_vjp("velocity of the metric", apply, vjp, &at, &moved, bar)?);

    let gradient = bench.borrow_mut().energy_gradient(&at);
    let energy = |e: f64| {
        let mut moved = at.clone();
        moved.weights.axpy(e, direction);
        0.5 * pair(&moved.momentum, &bench.borrow_mut().answer(&moved).velocity)
    };
    let size = 1e-2 * gradient.norm() * direction.norm();
    let slope = gradient.dot(direction);
    worst = worst.max(check_gradient("½⟨m, K m⟩ along the weights", energy, slope, size)?);

    let Answer { rates, velocity } = once;
    let (work, change) = (pair(&rates.momentum, &velocity), gradient.dot(&rates.weights));
    // The force was added to the momentum, whose rounding is far below `ROUNDING` of its thousandth.
    let force = rates.momentum.norm().max(1e-3 * at.momentum.norm());
    let size = force * velocity.norm();
    within("balance of force and transport", (work + change).abs() / size, ROUNDING, || {
        format!("⟨force, v⟩ = {work}, ⟨∂H/∂w, ∂w/∂t⟩ = {change}")
    })?;
    Ok(worst)
}

/// A metric with its buffers.
struct Bench<'a, M: Metric<f64, D>, const D: usize> {
    metric: &'a M,
    tape: M::Tape,
    ws: M::Workspace,
    velocity: Velocity<f64, D>,
}

impl<'a, M: Metric<f64, D>, const D: usize> Bench<'a, M, D> {
    fn new(metric: &'a M, grid: &Grid<D>) -> crate::Result<Self> {
        let (tape, ws) = (metric.tape(grid)?, M::Workspace::default());
        Ok(Self { metric, tape, ws, velocity: Velocity::zeros(grid)? })
    }

    /// Velocity and rates. The force is added to a momentum, which is taken away again; what is set is NaN before.
    fn answer(&mut self, at: &Geodesic<f64, D, M::Weights>) -> Answer<D, M::Weights> {
        self.velocity.scale(f64::NAN);
        self.metric.velocity(at.inputs(), &mut self.velocity, &mut self.tape, &mut self.ws);
        let mut rates = at.clone();
        rates.weights.scale(f64::NAN);
        let (v, tape) = (&self.velocity, &self.tape);
        self.metric.advect(at.inputs(), v, rates.outputs(), tape, &mut self.ws);
        rates.momentum.axpy(-1.0, &at.momentum);
        Answer { rates, velocity: self.velocity.clone() }
    }

    /// The transpose of [`Bench::answer`]. It adds to the cotangent of the momentum and sets that of the weights.
    fn rates_vjp(
        &mut self,
        at: &Geodesic<f64, D, M::Weights>,
        bar: &Answer<D, M::Weights>,
    ) -> Geodesic<f64, D, M::Weights> {
        self.answer(at);
        let (mut bars, mut velocity_bar) = (at.clone(), bar.velocity.clone());
        bars.weights.scale(f64::NAN);
        let (v, tape, ws) = (&self.velocity, &self.tape, &mut self.ws);
        let rate_bars = bar.rates.inputs();
        let outputs = bars.outputs();
        self.metric.rates_vjp(at.inputs(), v, rate_bars, &mut velocity_bar, outputs, tape, ws);
        bars.momentum.axpy(-1.0, &at.momentum);
        bars
    }

    /// The transpose of the velocity. It adds to what is there.
    fn velocity_vjp(
        &mut self,
        at: &Geodesic<f64, D, M::Weights>,
        bar: &Velocity<f64, D>,
    ) -> Geodesic<f64, D, M::Weights> {
        self.answer(at);
        let mut bars = at.clone();
        self.metric.velocity_vjp(at.inputs(), bar, bars.outputs(), &self.tape, &mut self.ws);
        bars.axpy(-1.0, at);
        bars
    }

    /// ∂/∂w ½⟨m, K(w) m⟩. It adds to what is there.
    fn energy_gradient(&mut self, at: &Geodesic<f64, D, M::Weights>) -> M::Weights {
        self.answer(at);
        let mut bar = at.weights.clone();
        self.metric.energy_gradient(at.inputs(), 1.0, &mut bar, &self.tape, &mut self.ws);
        bar.axpy(-1.0, &at.weights);
        bar
    }
}

/// ⟨m, v⟩ as a sum.
fn pair<const D: usize>(momentum: &Momentum<f64, D>, velocity: &Velocity<f64, D>) -> f64 {
    crate::field::dot(momentum.data(), velocity.data())
}
