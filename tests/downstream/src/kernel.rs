//! A kernel of one's own.

// ANCHOR: raised
use rdmm_core::Real;
use rdmm_core::kernel::{Kernel, Workspace};

/// K + s: a kernel and a share of the identity, so that momentum of one voxel has an energy too.
#[derive(Clone, Debug)]
struct Raised<K> {
    kernel: K,
    share: f64,
}

impl<T: Real, K: Kernel<T>> Kernel<T> for Raised<K> {
    fn apply(&self, input: &[T], out: &mut [T], ws: &mut Workspace<T>) {
        self.kernel.apply(input, out, ws);
        for (out, &x) in out.iter_mut().zip(input) {
            *out += T::of(self.share) * x;
        }
    }
}
// ANCHOR_END: raised

use crate::pair::{Fallible, Pair, settings};
use rdmm_core::grid::{Boundary, Grid};
use rdmm_core::kernel::Gaussian;
use rdmm_core::model::Geodesics;
use rdmm_core::registration::Registration;
use rdmm_core::similarity::Ssd;
use rdmm_core::testing::{check_positive, check_symmetric};

pub fn register(pair: &Pair) -> Fallible<f64> {
    for boundary in Boundary::ALL {
        let grid = Grid::new([14, 12], [1.0, 1.0])?.with_boundary(boundary);
        let kernel = Raised { kernel: Gaussian::<f64, 2>::new(&grid, 1.5)?, share: 0.01 };
        check_symmetric(&kernel, grid.len(), 1e-12)?;
        check_positive(&kernel, grid.len(), 1e-12)?;
    }

    let sigma = 0.08 * pair.grid().largest_extent();
    let model = Geodesics::new(sigma, move |grid| {
        Ok(Raised { kernel: Gaussian::new(grid, sigma)?, share: 0.001 })
    });
    let registration = Registration::new(model, Ssd).with_settings(settings());
    pair.gain(&registration.run(&pair.fixed, &pair.moving)?.warped)
}
