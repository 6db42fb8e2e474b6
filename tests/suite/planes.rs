//! Steps, sweeps and optimisers know a state by its operations alone: one that keeps its numbers in vectors of rows goes
//! through them to the same bits as fields do.
#![expect(clippy::unwrap_used, reason = "a problem that cannot be made stops the test")]

use std::ops::ControlFlow;

use rdmm_core::adjoint::{Checkpoints, GradientKind, Integration, Sweep};
use rdmm_core::dynamics::{Epdiff, Evolution, EvolutionVjp, Flow, Geodesic, StageMap};
use rdmm_core::error::{Error, Result};
use rdmm_core::field::{Displacement, Field, Momentum, Velocity, kind::Kind};
use rdmm_core::grid::Grid;
use rdmm_core::kernel::Gaussian;
use rdmm_core::metric::Homogeneous;
use rdmm_core::ops::difference::Order;
use rdmm_core::optim::{Euclidean, Lbfgs, Objective};
use rdmm_core::product_space;
use rdmm_core::space::{Compose, FlowState, MapSpace, StateSpace, VectorField, set_sum_of};
use rdmm_core::step::{DOPRI5, MapTransport, Steps};
use rdmm_core::testing::random;

/// The rows of the components of a field.
#[derive(Clone)]
struct Planes {
    grid: Grid<2>,
    rows: Vec<Vec<f64>>,
}

impl Planes {
    fn of<K: Kind>(field: &Field<f64, 2, K>) -> Self {
        let width = field.grid().shape()[1];
        let rows = field.data().chunks(width).map(<[f64]>::to_vec).collect();
        Self { grid: field.grid().clone(), rows }
    }

    fn field<K: Kind>(&self) -> Field<f64, 2, K> {
        let mut field = Field::zeros_with(&self.grid, 2).unwrap();
        self.write(&mut field);
        field
    }

    fn write<K: Kind>(&self, field: &mut Field<f64, 2, K>) {
        let width = self.grid.shape()[1];
        for (to, from) in field.data_mut().chunks_mut(width).zip(&self.rows) {
            to.copy_from_slice(from);
        }
    }

    fn values(&self) -> impl Iterator<Item = &f64> {
        self.rows.iter().flatten()
    }

    fn each(&mut self, x: &Self, f: impl Fn(&mut f64, f64)) {
        self.rows.iter_mut().flatten().zip(x.values()).for_each(|(y, &x)| f(y, x));
    }
}

impl StateSpace<f64> for Planes {
    fn set_zero(&mut self) {
        self.rows.iter_mut().for_each(|row| row.fill(0.0));
    }
    fn copy_from(&mut self, other: &Self) {
        self.clone_from(other);
    }
    fn axpy(&mut self, a: f64, x: &Self) {
        self.each(x, |y, x| *y += a * x);
    }
    fn scale(&mut self, a: f64) {
        self.rows.iter_mut().flatten().for_each(|y| *y *= a);
    }
    fn dot(&self, other: &Self) -> f64 {
        self.values().zip(other.values()).map(|(a, b)| a * b).sum()
    }
    fn max_abs(&self) -> f64 {
        self.values().fold(0.0, |m: f64, x| if x.is_nan() { f64::NAN } else { m.max(x.abs()) })
    }
    fn dimension(&self) -> usize {
        self.values().count()
    }
    fn expect_like(&self, found: &Self) -> Result<()> {
        let (expected, found) = (self.rows.len(), found.rows.len());
        if expected == found {
            Ok(())
        } else {
            Err(Error::Length { what: "rows", expected, found })
        }
    }
}

impl VectorField<f64> for Planes {
    fn longest(&self) -> f64 {
        self.field::<rdmm_core::field::kind::Vector>().longest()
    }
}

struct Composer(<Displacement<f64, 2> as MapSpace<f64>>::Composer);

impl MapSpace<f64> for Planes {
    type Composer = Composer;
    fn composer(&self) -> Composer {
        Composer(Displacement::zeros(&self.grid).unwrap().composer())
    }
}

impl Compose<f64> for Composer {
    type Map = Planes;
    type Coefficients = rdmm_core::ops::SplineCoefficients<f64>;

    fn blank(&self) -> Self::Coefficients {
        self.0.blank()
    }
    fn coefficients_len(&self) -> usize {
        self.0.coefficients_len()
    }
    fn expect_coefficients(&self, found: &Self::Coefficients) -> Result<()> {
        self.0.expect_coefficients(found)
    }
    fn set_coefficients(&self, u: &Planes, coefficients: &mut Self::Coefficients) {
        self.0.set_coefficients(&u.field(), coefficients);
    }
    fn compose(&self, coefficients: &Self::Coefficients, d: &Planes, out: &mut Planes) {
        let mut composed = out.field();
        self.0.compose(coefficients, &d.field(), &mut composed);
        *out = Planes::of(&composed);
    }
    fn compose_vjp(
        &self,
        coefficients: &mut Self::Coefficients,
        d: &Planes,
        bar: &mut Planes,
        d_bar: &mut Planes,
    ) {
        let (mut of_u, mut of_d) = (bar.field(), d_bar.field());
        self.0.compose_vjp(coefficients, &d.field(), &mut of_u, &mut of_d);
        (*bar, *d_bar) = (Planes::of(&of_u), Planes::of(&of_d));
    }
}

#[derive(Clone)]
struct State {
    momentum: Planes,
    map: Planes,
}
product_space!(linear State { momentum, map } over f64);

impl FlowState<f64> for State {
    type Map = Planes;
    fn map(&self) -> &Planes {
        &self.map
    }
    fn map_mut(&mut self) -> &mut Planes {
        &mut self.map
    }
    fn set_sum_but_map<'a>(&mut self, terms: impl Iterator<Item = (f64, &'a Self)> + Clone) {
        set_sum_of(&mut self.momentum, terms.map(|(a, x)| (a, &x.momentum)));
    }
    fn scale_add_but_map(&mut self, a: f64, x: &Self) {
        self.momentum.scale_add(a, &x.momentum);
    }
}

type Fields = Epdiff<Homogeneous<Gaussian<f64, 2>>, f64, 2>;
type FieldState = Flow<f64, 2, Geodesic<f64, 2, ()>>;

impl State {
    fn of(state: &FieldState) -> Self {
        Self { momentum: Planes::of(&state.body.momentum), map: Planes::of(&state.map) }
    }

    fn fields(&self) -> FieldState {
        let body = Geodesic { momentum: self.momentum.field(), weights: () };
        Flow { body, map: self.map.field() }
    }
}

/// EPDiff of states in planes.
struct InPlanes(Fields);

/// The tape of the fields, and the velocity in planes.
struct Tape {
    fields: <Fields as Evolution>::Tape,
    velocity: Planes,
}

impl rdmm_core::metric::Tape for Tape {
    fn len(&self) -> usize {
        self.fields.len()
    }
}

impl Evolution for InPlanes {
    type Scalar = f64;
    type State = State;
    type Velocity = Planes;
    type Tape = Tape;
    type Workspace = <Fields as Evolution>::Workspace;

    fn workspace(&self) -> Result<Self::Workspace> {
        self.0.workspace()
    }
    fn tape(&self) -> Result<Tape> {
        let velocity = Velocity::<f64, 2>::zeros(self.0.grid())?;
        Ok(Tape { fields: self.0.tape()?, velocity: Planes::of(&velocity) })
    }
    fn velocity(&self, state: &State, tape: &mut Tape, ws: &mut Self::Workspace) {
        let state = state.fields();
        self.0.velocity(&state, &mut tape.fields, ws);
        tape.velocity = Planes::of(self.0.velocity_field(&state, &tape.fields));
    }
    fn velocity_field<'a>(&'a self, _state: &'a State, tape: &'a Tape) -> &'a Planes {
        &tape.velocity
    }
    fn rate(
        &self,
        state: &State,
        map: StageMap,
        rate: &mut State,
        tape: &Tape,
        ws: &mut Self::Workspace,
    ) {
        let mut out = rate.fields();
        self.0.rate(&state.fields(), map, &mut out, &tape.fields, ws);
        *rate = State::of(&out);
    }
}

impl EvolutionVjp for InPlanes {
    fn rate_vjp(
        &self,
        state: &State,
        map: StageMap,
        rate_bar: &State,
        state_bar: &mut State,
        tape: &Tape,
        ws: &mut Self::Workspace,
    ) {
        let mut out = state_bar.fields();
        self.0.rate_vjp(&state.fields(), map, &rate_bar.fields(), &mut out, &tape.fields, ws);
        *state_bar = State::of(&out);
    }
    fn velocity_vjp(
        &self,
        state: &State,
        velocity_bar: &Planes,
        state_bar: &mut State,
        tape: &Tape,
        ws: &mut Self::Workspace,
    ) {
        let mut out = state_bar.fields();
        let fields = state.fields();
        self.0.velocity_vjp(&fields, &velocity_bar.field(), &mut out, &tape.fields, ws);
        *state_bar = State::of(&out);
    }
}

fn evolution(grid: &Grid<2>) -> Fields {
    Epdiff::new(grid, Homogeneous::new(Gaussian::new(grid, 1.5).unwrap()), Order::Fourth)
}

fn start(grid: &Grid<2>) -> FieldState {
    let momentum = Momentum::from_vec(grid, random(2 * grid.len(), 1)).unwrap();
    let mut map = Displacement::zeros(grid).unwrap();
    // Not the identity, so that the first step composes too.
    map.data_mut().copy_from_slice(&random::<f64>(2 * grid.len(), 2));
    Flow { body: Geodesic { momentum, weights: () }, map }
}

#[test]
fn a_state_in_planes_gives_the_bits_of_fields() {
    use MapTransport::{Eulerian, SemiLagrangian};
    let grid = Grid::new([18, 15], [1.0, 1.2]).unwrap();
    let start = start(&grid);
    let settings = |checkpoints, transport, gradient| Integration {
        checkpoints,
        transport,
        gradient,
        ..Integration::default()
    };
    let courant = [
        settings(Checkpoints::default(), SemiLagrangian, GradientKind::Discrete),
        settings(Checkpoints::All, Eulerian, GradientKind::Discrete),
        settings(Checkpoints::Binomial(2), SemiLagrangian, GradientKind::Discrete),
        settings(Checkpoints::Stages(1), SemiLagrangian, GradientKind::Continuous),
    ];
    let steps = Steps::Tolerance { relative: 1e-4, at_most: 100 };
    let adaptive = Integration { tableau: DOPRI5, steps, ..Integration::default() };
    for integration in courant.into_iter().chain([adaptive]) {
        let mut fields = Sweep::new(evolution(&grid), &start, integration.clone()).unwrap();
        let of_fields = fields.forward(&start).unwrap().clone();
        let mut bar = of_fields.clone();
        fields.backward(&start, &mut bar).unwrap();

        let in_planes = State::of(&start);
        let evolution = InPlanes(evolution(&grid));
        let mut planes = Sweep::new(evolution, &in_planes, integration).unwrap();
        let of_planes = planes.forward(&in_planes).unwrap().clone();
        let mut planes_bar = of_planes.clone();
        planes.backward(&in_planes, &mut planes_bar).unwrap();
        assert_eq!(planes.step_sizes(), fields.step_sizes());
        assert!(fields.step_sizes().len() > 2, "composes several times");
        for (fields, planes) in [(of_fields, of_planes), (bar, planes_bar)] {
            assert_eq!(planes.fields().body.momentum.data(), fields.body.momentum.data());
            assert_eq!(planes.fields().map.data(), fields.map.data());
        }
    }
}

/// ½ Σ (u(1) − target)² of the map that a momentum shoots.
struct Shot<E: EvolutionVjp, C> {
    sweep: Sweep<E>,
    target: E::State,
    of: fn(&C) -> E::State,
    momentum: fn(E::State) -> C,
}

impl<E: EvolutionVjp<Scalar = f64>, C: StateSpace<f64>> Objective<f64> for Shot<E, C> {
    type Control = C;
    fn evaluate(&mut self, control: &C, gradient: &mut C) -> Result<f64> {
        let start = (self.of)(control);
        let mut bar = self.sweep.forward(&start)?.clone();
        bar.axpy(-1.0, &self.target);
        let mut map_alone = bar.zeros_like();
        map_alone.map_mut().copy_from(bar.map());
        let value = 0.5 * bar.map().dot(bar.map());
        self.sweep.backward(&start, &mut map_alone)?;
        *gradient = (self.momentum)(map_alone);
        Ok(value)
    }
}

#[test]
fn lbfgs_takes_the_same_way_in_planes() {
    let grid = Grid::new([18, 15], [1.0, 1.2]).unwrap();
    let mut target = start(&grid);
    target.map.scale(0.5);
    let identity = Momentum::<f64, 2>::zeros(&grid).unwrap();
    let still = |momentum: &Momentum<f64, 2>| Flow {
        body: Geodesic { momentum: momentum.clone(), weights: () },
        map: Displacement::zeros(momentum.grid()).unwrap(),
    };
    let lbfgs = Lbfgs::default().with_max_iterations(6);
    let watch = |_: &_| ControlFlow::Continue(());

    let sweep = Sweep::new(evolution(&grid), &target, Integration::default()).unwrap();
    let mut fields =
        Shot { sweep, target: target.clone(), of: still, momentum: |state| state.body.momentum };
    let of_fields = lbfgs.minimize(&mut fields, &mut Euclidean, identity.clone(), watch).unwrap();

    let in_planes = State::of(&target);
    let sweep = Sweep::new(InPlanes(evolution(&grid)), &in_planes, Integration::default()).unwrap();
    let mut planes = Shot {
        sweep,
        target: in_planes,
        of: |momentum: &Planes| {
            let mut map = momentum.clone();
            map.set_zero();
            State { momentum: momentum.clone(), map }
        },
        momentum: |state| state.momentum,
    };
    let watch = |_: &_| ControlFlow::Continue(());
    let start = Planes::of(&identity);
    let of_planes = lbfgs.minimize(&mut planes, &mut Euclidean, start, watch).unwrap();
    assert_eq!(of_planes.state.iteration(), of_fields.state.iteration());
    assert!(of_fields.state.iteration() >= 3, "it moves");
    let best = of_planes.state.best().field::<rdmm_core::field::kind::Covector>();
    assert_eq!(best.data(), of_fields.state.best().data());
}
