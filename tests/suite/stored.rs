//! What is stored is read back the same, and checked as if it were made anew.
#![expect(clippy::unwrap_used, reason = "a failed setup stops the test")]

use std::collections::BTreeMap;

use rdmm_core::adjoint::Integration;
use rdmm_core::evaluate::{Folds, inverse_consistency};
use rdmm_core::field::{Displacement, Image, Weights};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::Covariance;
use rdmm_core::labels::Labels;
use rdmm_core::model::{
    Advected, Lddmm, MultiGaussian, Rdmm, RdmmControlled, TwoSided, Vsvf, weights_by_label,
};
use rdmm_core::ops::difference::Order;
use rdmm_core::regularize::{Omt, On, RangePenalty, TotalVariation, edge_weight};
use rdmm_core::similarity::{Lncc, MultiLncc, MutualInformation, Ncc, Nmi, Ssd, Window};
use rdmm_core::step::{DOPRI5, Steps};
use rdmm_core::synthetic::Shapes;
use rdmm_core::world::Affine;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads what was written.
fn back<S: Serialize + DeserializeOwned>(value: &S) -> S {
    serde_json::from_value(serde_json::to_value(value).unwrap()).unwrap()
}

#[track_caller]
fn same<S: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &S) {
    assert_eq!(&back(value), value);
}

/// The error of reading `value` after `change`.
#[track_caller]
fn damaged<S: Serialize + DeserializeOwned + std::fmt::Debug>(
    value: &S,
    change: impl FnOnce(&mut Value),
) -> String {
    let mut text = serde_json::to_value(value).unwrap();
    change(&mut text);
    serde_json::from_value::<S>(text).unwrap_err().to_string()
}

fn grid() -> Grid<2> {
    Grid::new([8, 9], [1.0, 1.5])
        .and_then(|grid| grid.with_origin([3.0, -1.0]))
        .and_then(|grid| grid.with_axes([[0.6, 0.8], [-0.8, 0.6]]))
        .unwrap()
        .with_boundary(Boundary::Periodic)
}

#[test]
fn grids_fields_labels_and_maps_of_the_world() {
    let grid = grid();
    same(&grid);
    let image = Image::<f32, 2>::from_fn(&grid, |x| 0.1 * x[0]).unwrap();
    same(&image);
    let map = Displacement::<f64, 2>::from_fn(&grid, |x| [0.1 * x[1], 0.2]).unwrap();
    same(&map);
    same(&map.to_world().unwrap());
    same(&Weights::<f64, 2>::from_fn(&grid, 3, |x, i| x[0] + i as f64).unwrap());
    let labels = Labels::from_vec(&grid, (0..72).collect()).unwrap();
    same(&labels);
    let error = damaged(&labels, |text| text["data"] = serde_json::json!([1, 2]));
    assert!(error.contains("expected length 72, found 2"), "{error}");
    same(&Affine::from_rows([[1.1, 0.2], [0.0, 0.9]], [5.0, 1.0]).unwrap());
    same(&Folds::of(&map).unwrap());
    same(&inverse_consistency(&map, &map).unwrap());
}

#[test]
fn recipes() {
    let grid = Grid::new([8, 9], [1.0, 1.5]).unwrap();
    let metric = MultiGaussian::new(&[2.0, 4.0], &[0.3, 0.7]).unwrap();
    let full = metric.clone().with_order(Order::Second).with_border(2.0).unwrap();
    let full = full.with_tolerance(1e-5).unwrap();
    same(&full);
    same(&Lddmm::new(full.clone()));
    same(&TwoSided(Vsvf::new(full.clone())));
    same(&RdmmControlled::new(full.clone(), 1.5));
    let error = damaged(&full, |text| text["border"] = serde_json::json!(-1.0));
    assert!(error.contains("border window") && error.contains("-1"), "{error}");

    let labels = Labels::from_vec(&grid, (0..72).map(|i| u32::from(i > 30)).collect()).unwrap();
    let weights = BTreeMap::from([(0, vec![0.0, 1.0]), (1, vec![0.6, 0.4])]);
    let weights = weights_by_label::<f32, 2>(&labels, &weights).unwrap();
    let rdmm = Rdmm::new(&[2.0, 4.0], weights, 1.0).unwrap().with_advected(Advected::Weights);
    same(&rdmm);
    same(&rdmm.with_order(Order::Second).with_border(2.0).unwrap().with_tolerance(0.0).unwrap());
    let h = Weights::<f64, 2>::from_fn(&grid, 2, |_, i| [0.5, 0.9][i]).unwrap();
    let given = Rdmm::from_pre_weights(&[2.0, 4.0], h.clone(), 1.0).unwrap();
    same(&given);
    let scales = [Covariance::isotropic(4.0).unwrap(), Covariance::isotropic(2.0).unwrap()];
    same(&Rdmm::anisotropic_from_pre_weights(&scales, h, 1.0).unwrap());
    let error = damaged(&given, |text| text["sigmas"] = serde_json::json!([2.0]));
    assert!(error.contains("expected length 1, found 2"), "{error}");
}

#[test]
fn penalties_and_similarities() {
    same(&Omt::new(0.1).unwrap().with_power(2.0).unwrap().with_on(On::PreWeights));
    let error = damaged(&Omt::new(0.1).unwrap(), |text| text["power"] = serde_json::json!(0.0));
    assert!(error.contains("power of OMT"), "{error}");
    let range = RangePenalty::new(0.1, &[0.4, 0.6]).unwrap().with_on(On::PreWeights);
    same(&range);
    let error = damaged(&range, |text| text["weights"] = serde_json::json!([0.4, 0.5]));
    assert!(error.contains("sum to 1"), "{error}");
    let tv = TotalVariation::<f32, 2>::new(0.1).unwrap().with_epsilon(2.0).unwrap();
    same(&tv);
    let pair = Shapes::default().pair::<f32, 2>(&Grid::unit([32, 32]).unwrap()).unwrap();
    let tv = tv.with_edges(edge_weight(&pair.moving, 0.05, 1.0).unwrap()).unwrap();
    same(&tv.with_on(On::Weights));
    same(&Shapes::default().with_seed(3));

    same(&Ssd);
    same(&Ncc);
    same(&Lncc { sigma: 2.0 });
    same(&MutualInformation::default());
    same(&Nmi::default());
    let windows = MultiLncc::new(&[(0.3, Window::Box { width: 4.0 })]).unwrap();
    same(&windows);
    let error = damaged(&windows, |text| text["windows"] = serde_json::json!([]));
    assert!(error.contains("windows"), "{error}");
}

#[test]
fn how_to_integrate() {
    same(&Integration::default());
    let steps = Steps::Tolerance { relative: 1e-4, at_most: 50 };
    same(&Integration { tableau: DOPRI5, steps, ..Integration::default() });
}
