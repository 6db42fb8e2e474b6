//! An integrator of one's own.

// ANCHOR: bogacki
use rdmm_core::step::Tableau;

const BOGACKI_SHAMPINE: Tableau = match Tableau::new(
    "Bogacki-Shampine",
    3,
    &[&[], &[0.5], &[0.0, 0.75], &[2.0 / 9.0, 1.0 / 3.0, 4.0 / 9.0]],
    &[2.0 / 9.0, 1.0 / 3.0, 4.0 / 9.0, 0.0],
    Some(&[-5.0 / 72.0, 1.0 / 12.0, 1.0 / 9.0, -1.0 / 8.0]),
) {
    Ok(tableau) => tableau,
    Err(_) => panic!("the coefficients do not fit"),
};
// ANCHOR_END: bogacki

use crate::pair::{Fallible, Pair, settings};
use rdmm_core::model::{Lddmm, MultiGaussian};
use rdmm_core::registration::Registration;
use rdmm_core::similarity::Ssd;
use rdmm_core::testing::check_order;

pub fn register(pair: &Pair) -> Fallible<f64> {
    check_order(BOGACKI_SHAMPINE)?;

    let model = Lddmm::new(MultiGaussian::for_grid(pair.grid()));
    let mut settings = settings();
    settings.integration.tableau = BOGACKI_SHAMPINE;
    let registration = Registration::new(model, Ssd).with_settings(settings);
    pair.gain(&registration.run(&pair.fixed, &pair.moving)?.warped)
}
