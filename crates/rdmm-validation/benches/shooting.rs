//! Shooting, and shooting with its gradient: RK4 with ten steps, in voxels per second, beside the bound by
//! the bandwidth of the memory.
#![expect(clippy::unwrap_used, reason = "a bench stops where its problem cannot be built")]
#![expect(clippy::print_stdout, reason = "a bench reports on the terminal")]

mod bound;

use criterion::{Criterion, criterion_group, criterion_main};

fn shooting(c: &mut Criterion) {
    for workload in rdmm_validation::speed::workload::flows() {
        bound::bench(c, &workload);
    }
}

criterion_group!(benches, shooting);
criterion_main!(benches);
