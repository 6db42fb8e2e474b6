//! Times a workload, with its ratio to what the bandwidth of the memory allows.

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};

use rdmm_validation::speed::clock::Clock;
use rdmm_validation::speed::workload::Workload;
use rdmm_validation::speed::{problem, traffic, triad};

/// Bytes a second of all threads, measured once a run.
fn bandwidth() -> f64 {
    static BANDWIDTH: OnceLock<f64> = OnceLock::new();
    *BANDWIDTH.get_or_init(|| triad::bytes_per_second(Clock::Wall))
}

/// Times `workload` and prints the ratio of its fastest run to the bound. Nothing is prepared for workloads
/// that the command line leaves out.
pub(crate) fn bench(c: &mut Criterion, workload: &Workload) {
    let operation = workload.operation;
    let mut group = c.benchmark_group(format!("{} {operation}", operation.model()));
    group.throughput(Throughput::Elements(workload.voxels() as u64)).sample_size(10);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(500));
    let mut least = f64::INFINITY;
    let id = BenchmarkId::from_parameter(format!("{} {}", workload.size(), workload.float));
    group.bench_function(id, |bencher| {
        let mut timed = |work: &mut dyn FnMut() -> Result<(), Box<dyn std::error::Error>>| {
            bencher.iter_custom(|count| {
                let mut total = Duration::ZERO;
                for _ in 0..count {
                    let start = Instant::now();
                    black_box(&mut *work)().unwrap();
                    let elapsed = start.elapsed();
                    least = least.min(elapsed.as_secs_f64());
                    total += elapsed;
                }
                total
            });
            Ok(())
        };
        problem::run(workload, &mut timed).unwrap();
    });
    group.finish();
    if least.is_finite() {
        let (bytes, bandwidth) = (traffic::bytes(workload), bandwidth());
        let ratio = least * bandwidth / bytes;
        let (mega, giga) = (bytes / 1e6, bandwidth / 1e9);
        println!("{:24}bound:  {ratio:.1} times {mega:.1} MB at {giga:.1} GB/s", "");
    }
}
