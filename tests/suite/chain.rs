//! Chains of geodesics: their maps, and the bound on the whole of them.
#![expect(clippy::unwrap_used, reason = "a test stops where its problem cannot be built")]

use nalgebra::{SMatrix, SVector};
use rdmm_core::evaluate::Folds;
use rdmm_core::field::{Displacement, Image};
use rdmm_core::grid::Grid;
use rdmm_core::maps::PointMap;
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::ops::warp::warp;
use rdmm_core::registration::{Level, Registration, Settings};
use rdmm_core::similarity::Ssd;
use rdmm_core::world::Affine;

fn grid() -> Grid<2> {
    Grid::new([40, 40], [1.0; 2]).unwrap()
}

/// A soft disc of this radius.
fn disc(radius: f64) -> Image<f64, 2> {
    Image::from_fn(&grid(), |x| {
        let r = (x[0] - 19.5).hypot(x[1] - 19.5);
        1.0 / (1.0 + (1.5 * (r - radius)).exp())
    })
    .unwrap()
}

fn registration(bound: f64) -> Registration<Lddmm, f64, 2> {
    let model = Lddmm::new(MultiGaussian::new(&[3.0, 6.0], &[0.5, 0.5]).unwrap());
    let levels = [2.0, 1.0].map(|factor| Level { factor, iterations: 25 }).to_vec();
    let settings = Settings::default().with_levels(levels).with_min_jacobian(Some(bound));
    Registration::new(model, Ssd).with_settings(settings.with_similarity_weight(20.0))
}

fn points() -> Vec<[f64; 2]> {
    (8..32)
        .step_by(5)
        .flat_map(|i| (8..32).step_by(5).map(move |j| [i, j].map(f64::from)))
        .collect()
}

/// Largest distance of f(x) and g(x) over some points.
fn apart(f: impl Fn([f64; 2]) -> [f64; 2], g: impl Fn([f64; 2]) -> [f64; 2]) -> f64 {
    let distance = |x: [f64; 2]| (SVector::from(f(x)) - SVector::from(g(x))).norm();
    points().into_iter().map(distance).fold(0.0, f64::max)
}

#[test]
fn the_maps_of_a_chain_are_those_of_its_segments_one_after_the_other() {
    let (fixed, moving) = (disc(11.0), disc(8.0));
    let turn = SMatrix::<f64, 2, 2>::new(1.1, 0.05, -0.05, 1.05);
    let initial = Affine::new(turn, SVector::from([-2.0, 0.5])).unwrap();
    let registration = registration(0.05).with_initial(initial);
    let chain = registration.run_chain(&fixed, &moving, 2).unwrap();
    let [first, second] = chain.segments.as_slice() else { panic!("two segments") };
    let map = |u: &Displacement<f64, 2>| PointMap::new(u).unwrap();
    let (one, two) = (map(&first.inverse_map), map(&second.inverse_map));
    let whole = map(&chain.inverse_map);
    // Maps are interpolated by splines on either way: errors of the fourth order of a smooth map.
    let off = apart(|x| whole.apply(x), |x| one.apply(two.apply(x)));
    assert!(off < 0.01, "{off} voxels");
    assert!(apart(|x| whole.apply(x), |x| one.apply(x)) > 0.1, "the second segment does something");
    let (one, two) = (map(&first.forward_map), map(&second.forward_map));
    let forward = map(&chain.forward_map);
    let off = apart(|x| forward.apply(x), |x| two.apply(one.apply(x)));
    assert!(off < 0.01, "{off} voxels");
    let off = apart(|x| forward.apply(whole.apply(x)), |x| x);
    assert!(off < 0.1, "{off} voxels");

    // Read once at the whole map.
    let expected = warp(&moving, &chain.inverse_map).unwrap();
    let inner = |i: &usize| grid().unravel(*i).iter().all(|k| (6..34).contains(k));
    let same = |i: usize| (chain.warped.data()[i] - expected.data()[i]).abs() < 1e-12;
    assert!((0..fixed.grid().len()).filter(inner).all(same));
    assert_eq!(second.affine, Affine::identity());
}

#[test]
fn the_bound_of_a_chain_is_on_its_whole_map() {
    // So much smaller that each of two geodesics alone would keep a bound that both together break.
    let (fixed, moving, bound) = (disc(4.0), disc(13.0), 0.3);
    let chain = registration(bound).run_chain(&fixed, &moving, 2).unwrap();
    let legs: Vec<Folds> = chain.segments.iter().map(|leg| leg.report.folds).collect();
    let least = |folds: &Folds| folds.cells.min.min(folds.cells.max.recip());
    assert!(legs.iter().all(|folds| least(folds) >= bound), "{legs:?}");
    assert!(least(&chain.folds) >= bound, "{:?}", chain.folds.cells);
    // By the barrier, not by smoothing afterwards.
    let smoothed = chain.unfolded.voxels;
    assert!(smoothed < 30, "{smoothed} of 1600 voxels");
    // Without a bound the same chain goes beyond it: there is something to hold.
    let free = registration(0.01).run_chain(&fixed, &moving, 2).unwrap();
    assert!(least(&free.folds) < 0.7 * bound, "{:?}", free.folds.cells);
}
