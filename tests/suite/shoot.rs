//! Differentiable shooting as a value: its gradient is the derivative of what it shot.
#![expect(clippy::unwrap_used, reason = "a problem that cannot be made stops the test")]

use rdmm_core::adjoint::{Checkpoints, Integration};
use rdmm_core::field::{Displacement, Momentum, Weights};
use rdmm_core::grid::Grid;
use rdmm_core::model::{Lddmm, Model, MultiGaussian};
use rdmm_core::shoot::{Cotangents, Shoot, Shot, Tape};
use rdmm_core::space::StateSpace;
use rdmm_core::step::{DOPRI5, MapTransport, Steps};
use rdmm_core::testing::random;
use rdmm_core::{Error, Result};
#[cfg(feature = "rayon")]
use rdmm_core::{
    dynamics::Epdiff,
    kernel::Gaussian,
    metric::Homogeneous,
    model::{GeodesicShooting, WeightControl},
    ops::difference::Order,
};

type Pair = (Momentum<f64, 2>, Option<Weights<f64, 2>>);

fn grid() -> Grid<2> {
    Grid::new([14, 12], [1.0 / 14.0, 1.0 / 12.0]).unwrap()
}

fn metric() -> MultiGaussian {
    MultiGaussian::new(&[0.15, 0.3], &[0.4, 0.6]).unwrap()
}

/// Each flow with initial conditions that move it by several voxels.
fn flows() -> Vec<(&'static str, Shoot<f64, 2>, Pair)> {
    let grid = grid();
    let momentum = Momentum::from_vec(&grid, random(2 * grid.len(), 1)).unwrap();
    let noise = random::<f64>(2 * grid.len(), 2);
    let values = noise.iter().enumerate().map(|(i, x)| [0.6, 0.8][i / grid.len()] + 0.1 * x);
    let weights = Weights::from_vec(&grid, values.collect()).unwrap();
    vec![
        ("vSVF", Shoot::vsvf(&grid, &metric()).unwrap(), (momentum.clone(), None)),
        ("LDDMM", Shoot::lddmm(&grid, &metric()).unwrap(), (momentum.clone(), None)),
        ("RDMM", Shoot::rdmm(&grid, &metric(), 0.2).unwrap(), (momentum, Some(weights))),
    ]
}

fn of<K: rdmm_core::field::kind::Kind>(
    grid: &Grid<2>,
    components: usize,
    seed: u64,
) -> rdmm_core::field::Field<f64, 2, K> {
    let mut field = rdmm_core::field::Field::zeros_with(grid, components).unwrap();
    field.data_mut().copy_from_slice(&random::<f64>(components * grid.len(), seed));
    field
}

/// Cotangents for everything in a shot, another one for every time.
fn bars(shot: &Shot<f64, 2>, seed: u64) -> Cotangents<f64, 2> {
    let grid = shot.inverse_map.grid();
    Cotangents {
        inverse_map: Some(of(grid, 2, seed)),
        forward_map: shot.forward_map.as_ref().map(|_| of(grid, 2, seed + 1)),
        energy: 0.7,
        weights: shot.weights.as_ref().map(|w| of(grid, w.components(), seed + 2)),
    }
}

fn loss(shots: &[Shot<f64, 2>], bars: &[Cotangents<f64, 2>]) -> f64 {
    let pairs = shots.iter().zip(bars);
    pairs
        .map(|(shot, bars)| {
            let map = bars.inverse_map.as_ref().map_or(0.0, |bar| bar.dot(&shot.inverse_map));
            let forward = shot.forward_map.as_ref().zip(bars.forward_map.as_ref());
            let weights = shot.weights.as_ref().zip(bars.weights.as_ref());
            map + forward.map_or(0.0, |(x, bar)| bar.dot(x))
                + bars.energy * shot.energy
                + weights.map_or(0.0, |(x, bar)| bar.dot(x))
        })
        .sum()
}

/// The gradient of a linear loss of everything at `times` against central differences.
fn check(name: &str, shoot: &Shoot<f64, 2>, (m, h): &Pair, times: &[f64]) {
    let (shots, tape) = shoot.forward_at(m, h.as_ref(), times).unwrap();
    let cotangents: Vec<_> = (0..).zip(&shots).map(|(i, shot)| bars(shot, 10 + 3 * i)).collect();
    let gradient = tape.backward_at(&cotangents).unwrap();
    let m_direction: Momentum<f64, 2> = of(m.grid(), 2, 50);
    let h_direction = h.as_ref().map(|h| of(h.grid(), h.components(), 51));
    let at = |e: f64| {
        let mut m = m.clone();
        m.axpy(e, &m_direction);
        let mut h = h.clone();
        if let (Some(h), Some(direction)) = (&mut h, &h_direction) {
            h.axpy(e, direction);
        }
        let (shots, _) = shoot.forward_at(&m, h.as_ref(), times).unwrap();
        loss(&shots, &cotangents)
    };
    let of_h = gradient.pre_weights.as_ref().zip(h_direction.as_ref());
    let exact = gradient.momentum.dot(&m_direction) + of_h.map_or(0.0, |(a, b)| a.dot(b));
    // Central differences: e² truncation and 1e-14/e rounding of a loss of order ten.
    let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
    assert!((numeric - exact).abs() < 1e-7 * exact.abs().max(1.0), "{name}: {numeric} {exact}");
}

#[test]
fn gradients_of_shots_are_their_derivatives() {
    for (name, shoot, initial) in flows() {
        check(name, &shoot, &initial, &[1.0]);
        check(name, &shoot.clone().with_forward_map(), &initial, &[1.0]);
        check(name, &shoot, &initial, &[0.3, 0.55, 1.0]);
        // A trajectory whose last time is not its end.
        check(name, &shoot.clone().with_forward_map(), &initial, &[0.4]);
        let eulerian = Integration { transport: MapTransport::Eulerian, ..Integration::default() };
        check(name, &shoot.with_integration(eulerian).unwrap(), &initial, &[0.5, 1.0]);
    }
}

#[test]
fn adaptive_steps_end_at_the_times_that_are_asked_for() {
    let steps = Steps::Tolerance { relative: 1e-7, at_most: 500 };
    let adaptive = Integration { tableau: DOPRI5, steps, ..Integration::default() };
    for (name, shoot, (m, h)) in flows() {
        let shoot = shoot.with_integration(adaptive.clone()).unwrap();
        let (one, _) = shoot.forward(&m, h.as_ref()).unwrap();
        let (both, tape) = shoot.forward_at(&m, h.as_ref(), &[0.37, 1.0]).unwrap();
        let off: Displacement<f64, 2> = {
            let mut off = both[1].inverse_map.clone();
            off.axpy(-1.0, &one.inverse_map);
            off
        };
        // Compositions interpolate at other times: what is interpolated loses 1e-3 of a voxel on this coarse grid.
        assert!(off.max_abs() < 0.02 / 12.0, "{name}: {}", off.max_abs());
        let cotangents: Vec<_> = both.iter().map(|shot| bars(shot, 3)).collect();
        assert!(tape.backward_at(&cotangents).unwrap().momentum.is_finite());
    }
}

#[test]
fn batches_and_budgets_keep_the_bits() {
    for (name, shoot, (m, h)) in flows() {
        let mut half = m.clone();
        half.scale(0.5);
        let initial = [(&m, h.as_ref()), (&half, h.as_ref()), (&m, h.as_ref())];
        let mut expected: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
        for (m, h) in initial {
            let (end, tape) = shoot.forward(m, h).unwrap();
            let gradient = tape.backward(&bars(&end, 4)).unwrap();
            expected.push((end.inverse_map.into_vec(), gradient.momentum.into_vec()));
        }
        for (jobs, bytes) in [(1, 1 << 30), (2, 1), (3, 100_000)] {
            let done: Result<Vec<_>> =
                shoot.forward_batch(&initial, jobs, bytes).into_iter().collect();
            for ((end, tape), (map, momentum)) in done.unwrap().into_iter().zip(&expected) {
                // Tapes go to other threads.
                let bar = bars(&end, 4);
                let gradient = std::thread::spawn(move || tape.backward(&bar)).join().unwrap();
                assert_eq!(end.inverse_map.data(), &map[..], "{name} {jobs} {bytes}");
                assert_eq!(
                    gradient.unwrap().momentum.data(),
                    &momentum[..],
                    "{name} {jobs} {bytes}"
                );
            }
        }
    }
}

#[test]
fn smaller_budgets_hold_less() {
    let (_, shoot, (m, h)) = flows().pop().unwrap();
    let held = |bytes: usize| {
        let batch = shoot.forward_batch(&[(&m, h.as_ref())], 1, bytes).pop().unwrap();
        batch.unwrap().1.bytes()
    };
    let all = held(1 << 30);
    assert!(held(1) < all);
    let one = Integration { checkpoints: Checkpoints::Binomial(1), ..Integration::default() };
    let shoot = shoot.with_integration(one).unwrap();
    assert!(shoot.forward(&m, h.as_ref()).unwrap().1.bytes() < all);
}

#[test]
fn batches_honour_the_checkpoints_that_are_set() {
    let (_, shoot, (m, h)) = flows().pop().unwrap();
    let with = |checkpoints| {
        let steps = Steps::Fixed(6);
        let integration = Integration { steps, checkpoints, ..Integration::default() };
        shoot.clone().with_integration(integration).unwrap()
    };
    let alone = |checkpoints| with(checkpoints).forward(&m, h.as_ref()).unwrap().1.bytes();
    let both = [(&m, h.as_ref()); 2];
    let batch = |checkpoints, bytes| -> Result<Vec<usize>> {
        let done = with(checkpoints).forward_batch(&both, 1, bytes);
        done.into_iter().map(|one| Ok(one?.1.bytes())).collect()
    };
    // Momentum, map and two pre-weights.
    let state = 6 * 8 * grid().len();
    // No budget of theirs: `bytes` has no effect.
    for checkpoints in [Checkpoints::All, Checkpoints::Every(3), Checkpoints::Binomial(2)] {
        for bytes in [1, 1 << 30] {
            assert_eq!(
                batch(checkpoints, bytes),
                Ok(vec![alone(checkpoints); 2]),
                "{checkpoints:?}"
            );
        }
    }
    // Half of the bytes each, whatever was set.
    for (states, set) in [(1, 1 << 30), (3, state)] {
        let expected = alone(Checkpoints::Bytes(states * state));
        assert_eq!(batch(Checkpoints::Bytes(set), 2 * states * state), Ok(vec![expected; 2]));
    }
    assert!(matches!(
        batch(Checkpoints::Bytes(1 << 30), 2 * state - 2),
        Err(Error::Setting { .. })
    ));
    // The states of all steps, however small the part is. The start is held in any case.
    let all = alone(Checkpoints::All);
    assert_eq!(batch(Checkpoints::Stages(1 << 30), 1), Ok(vec![all; 2]));
    assert!(all >= alone(Checkpoints::Binomial(1)) + 5 * state);
    assert!(alone(Checkpoints::Stages(1 << 30)) > all);
}

/// Trajectories and their gradients on so many threads have the bits of those one by one, and end: threads that wait for one
/// another wait for ever, which a test must not.
#[cfg(feature = "rayon")]
fn expect_to_end(shoot: &Shoot<f64, 2>, threads: usize) {
    use rayon::prelude::*;

    let momenta: Vec<Momentum<f64, 2>> = (0..8)
        .map(|k| {
            let size = 0.01 * f64::from(k + 1);
            Momentum::from_fn(shoot.grid(), |x| x.map(|x| size * (9.0 * x).sin())).unwrap()
        })
        .collect();
    let gradient = |(end, tape): (Shot<f64, 2>, Tape<f64, 2>)| {
        let gradient = tape.backward(&bars(&end, 4)).unwrap();
        (end.inverse_map.into_vec(), gradient.momentum.into_vec())
    };
    let (_, h) = shoot.identity();
    let expected: Vec<_> =
        momenta.iter().map(|m| gradient(shoot.forward(m, h.as_ref()).unwrap())).collect();
    let (shoot, (send, receive)) = (shoot.clone(), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let initial: Vec<_> = momenta.iter().map(|m| (m, h.as_ref())).collect();
        let found: Vec<_> = pool.install(|| {
            let shots = shoot.forward_batch(&initial, 4, 64 << 20);
            let shots = shots.into_par_iter().with_max_len(1);
            shots.map(|shot| gradient(shot.unwrap())).collect()
        });
        send.send(found).unwrap();
    });
    // It takes seconds.
    let found = receive.recv_timeout(std::time::Duration::from_secs(120));
    assert!(found == Ok(expected), "with {threads} threads: {:?}", found.err());
}

/// A control that does what a thread may do that waits for the rest of a parallel loop: it takes up other work.
#[cfg(feature = "rayon")]
struct TakesUpOtherWork;

#[cfg(feature = "rayon")]
impl WeightControl<f64, ()> for TakesUpOtherWork {
    type Control = ();
    fn neutral(&self) {}
    fn blank(&self) {}
    fn weights(&mut self, (): &(), (): &mut ()) {
        let _ = rayon::yield_now();
    }
    fn weights_vjp(&mut self, (): &(), (): &(), (): &mut ()) {
        let _ = rayon::yield_now();
    }
    fn prolong(&self, (): &()) -> Result<()> {
        Ok(())
    }
}

#[cfg(feature = "rayon")]
#[test]
fn a_thread_in_the_midst_of_a_trajectory_may_begin_another() {
    let recipe = || {
        let metric = Homogeneous::new(Gaussian::new(&grid(), 0.2)?);
        GeodesicShooting::new(Epdiff::new(&grid(), metric, Order::Fourth), TakesUpOtherWork)
    };
    // One thread has all other trajectories to take up.
    expect_to_end(&Shoot::new(recipe).unwrap(), 1);
    expect_to_end(&Shoot::new(recipe).unwrap(), 3);
}

/// The same by chance: loops over this grid are parallel.
#[cfg(feature = "rayon")]
#[test]
fn parallel_trajectories_do_not_wait_for_one_another() {
    let grid = Grid::new([160, 130], [1.0 / 160.0, 1.0 / 130.0]).unwrap();
    let shoot = Shoot::rdmm(&grid, &metric(), 0.2).unwrap();
    // Little but what is done with the shooting itself.
    let one = Integration { steps: Steps::Fixed(1), ..Integration::default() };
    expect_to_end(&shoot.with_integration(one).unwrap().with_forward_map(), 4);
}

#[test]
fn gradients_that_are_not_finite_are_errors() {
    for (name, shoot, (m, h)) in flows() {
        let tape = |times: &[f64]| shoot.forward_at(&m, h.as_ref(), times).unwrap().1;
        let energy = |energy| Cotangents::<f64, 2> { energy, ..Cotangents::default() };
        for found in [f64::NAN, f64::INFINITY] {
            let refused = tape(&[1.0]).backward(&energy(found));
            assert!(matches!(refused, Err(Error::NonFinite { index: 0, .. })), "{name}");
            let refused = tape(&[0.5, 1.0]).backward_at(&[energy(0.0), energy(found)]);
            assert!(matches!(refused, Err(Error::NonFinite { index: 1, .. })), "{name}");
        }
        // Finite cotangents whose sum is not.
        let largest = tape(&[0.5, 1.0]).backward_at(&[energy(f64::MAX), energy(f64::MAX)]);
        assert!(matches!(largest, Err(Error::Diverged { .. })), "{name}");
        let mut inverse_map = Displacement::zeros(m.grid()).unwrap();
        inverse_map.data_mut()[5] = f64::NAN;
        let bars = Cotangents { inverse_map: Some(inverse_map), ..Cotangents::default() };
        assert!(matches!(tape(&[1.0]).backward(&bars), Err(Error::Diverged { .. })), "{name}");
    }
}

#[test]
fn errors_of_a_recipe_are_those_of_its_shoot() {
    let wrong = || {
        let grid = Grid::new([14, 12], [1.0, 1.0])?;
        // A Gaussian as wide as a tenth of a voxel.
        Model::<f64, 2>::on(&Lddmm::new(MultiGaussian::new(&[0.1], &[1.0])?), &grid)
    };
    assert!(matches!(Shoot::<f64, 2>::new(wrong), Err(Error::Sigma { .. })));
}

#[test]
fn what_does_not_fit_is_refused() {
    let grid = grid();
    let (lddmm, rdmm) = (
        Shoot::<f64, 2>::lddmm(&grid, &metric()).unwrap(),
        Shoot::rdmm(&grid, &metric(), 0.2).unwrap(),
    );
    let (m, h) = rdmm.identity();
    assert!(matches!(lddmm.forward(&m, h.as_ref()), Err(Error::Length { expected: 0, .. })));
    assert!(matches!(rdmm.forward(&m, None), Err(Error::Length { found: 0, .. })));
    let three = Weights::from_fn(&grid, 3, |_, _| 0.5).unwrap();
    assert!(matches!(rdmm.forward(&m, Some(&three)), Err(Error::Length { .. })));
    let other = Momentum::zeros(&Grid::new([12, 12], [1.0, 1.0]).unwrap()).unwrap();
    assert!(matches!(lddmm.forward(&other, None), Err(Error::GridMismatch { .. })));
    for times in [&[0.0, 1.0][..], &[0.5, 0.5], &[0.5, 1.1], &[f64::NAN]] {
        assert!(matches!(lddmm.forward_at(&m, None, times), Err(Error::Setting { .. })));
    }
    assert!(matches!(lddmm.forward_at(&m, None, &[]), Err(Error::Length { .. })));
    let wanted = |bars: Cotangents<f64, 2>| lddmm.forward(&m, None).unwrap().1.backward(&bars);
    let map = Displacement::zeros(&grid).unwrap();
    let forward = Cotangents { forward_map: Some(map.clone()), ..Cotangents::default() };
    assert!(matches!(wanted(forward), Err(Error::Setting { .. })));
    let coarse = Displacement::zeros(other.grid()).unwrap();
    let inverse = Cotangents { inverse_map: Some(coarse), ..Cotangents::default() };
    assert!(matches!(wanted(inverse), Err(Error::GridMismatch { .. })));
    let weights = Cotangents { weights: Some(three), ..Cotangents::default() };
    assert!(matches!(wanted(weights), Err(Error::Length { expected: 2, .. })));
    let (_, tape) = lddmm.forward_at(&m, None, &[0.5, 1.0]).unwrap();
    assert!(matches!(tape.backward_at(&[]), Err(Error::Length { expected: 2, .. })));
}

#[test]
fn weights_cotangents_of_a_uniform_metric_change_nothing() {
    // The weights of LDDMM are those of its metric, whatever the momentum.
    let (_, shoot, (m, h)) = flows().remove(1);
    let (end, tape) = shoot.forward(&m, h.as_ref()).unwrap();
    let weights = end.weights.map(|w| of(w.grid(), 2, 9));
    let gradient = tape.backward(&Cotangents { weights, ..Cotangents::default() }).unwrap();
    assert!(gradient.momentum.data().iter().all(|x| x.to_bits() << 1 == 0));
}
