//! The bandwidth of the memory: a ← b + s·c on arrays far beyond the caches, as in STREAM.
//!
//! McCalpin, *Memory bandwidth and machine balance in current high performance computers*, 1995.

use std::hint::black_box;

use rayon::prelude::*;

use super::clock::Clock;

/// Elements of each of the three arrays: 64 MiB.
const LEN: usize = 16 << 20;
/// Elements of a piece that one thread works on.
const PIECE: usize = 1 << 16;
/// Passes, of which the fastest counts.
const PASSES: usize = 16;

/// Bytes a second of the threads of this pool: three arrays a pass, two read and one written. What a processor
/// reads of an array before it overwrites it is not counted, neither here nor in the model of the traffic.
pub fn bytes_per_second(clock: Clock) -> f64 {
    let (mut a, b, c) = (vec![0.0_f32; LEN], vec![1.0_f32; LEN], vec![2.0_f32; LEN]);
    let mut pass = || {
        let s = black_box(3.0_f32);
        a.par_chunks_mut(PIECE).zip(b.par_chunks(PIECE)).zip(c.par_chunks(PIECE)).for_each(
            |((a, b), c)| {
                for ((a, b), c) in a.iter_mut().zip(b).zip(c) {
                    *a = b + s * c;
                }
            },
        );
        black_box(&mut a);
    };
    // The first pass brings the pages in.
    pass();
    let least = (0..PASSES).map(|_| clock.seconds(&mut pass)).fold(f64::INFINITY, f64::min);
    (3 * LEN * size_of::<f32>()) as f64 / least
}
