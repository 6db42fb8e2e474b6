//! Blocks against points one by one, transposes, borders, and what is not finite.

use nalgebra::SMatrix;

use super::*;
use crate::field::dot;
use crate::grid::Boundary;
use crate::testing::random;

fn pair(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Values and their transpose, in blocks of points and one by one.
fn check_blocks<const D: usize>(shape: [usize; D]) {
    for boundary in Boundary::ALL {
        let spacing = std::array::from_fn(|a| [0.5, 1.0, 2.0, 0.8][a]);
        let grid = Grid::new(shape, spacing).unwrap().with_boundary(boundary);
        let (n, warp) = (grid.len(), Warp::<f64, D>::new(&grid, &grid));
        let (c, mut u, bar) = (random::<f64>(2 * n, 1), random::<f64>(D * n, 2), random(2 * n, 3));
        // Points inside, near a face, just beyond one, and far away.
        u.iter_mut().step_by(5).for_each(|u| *u *= 3.0);
        u.iter_mut().step_by(23).for_each(|u| *u *= 30.0);
        let (mut blocks, mut scattered) = (vec![f64::NAN; 2 * n], vec![0.0; 2 * n]);
        warp.values::<2>(&c, &u, &mut blocks);
        warp.scatter::<2>(&u, &bar, &mut scattered);
        let mut one_by_one = vec![0.0; 2 * n];
        for i in 0..n {
            let voxel = grid.unravel(i);
            let index = std::array::from_fn(|a| voxel[a] as f64 + u[a * n + i] / grid.spacing()[a]);
            for (k, value) in warp.at_index::<2>(&c, index).into_iter().enumerate() {
                // Sums of up to 256 products of numbers below one, in another order, at places that are
                // rounded at up to a hundred.
                assert!((blocks[k * n + i] - value).abs() < 1e-13, "{boundary:?} {i}");
            }
            warp.scatter_at_index(index, [bar[i], bar[n + i]], &mut one_by_one);
        }
        for (a, b) in scattered.iter().zip(&one_by_one) {
            // Some hundred of such products meet at a voxel.
            assert!((a - b).abs() < 1e-12, "{boundary:?}");
        }
        let (mut value, mut slope) = (vec![0.0; n], vec![0.0; D * n]);
        warp.value_and_gradient(&c[..n], &u, &mut value, &mut slope);
        for i in 0..D * n {
            let (a, voxel) = (i / n, grid.unravel(i % n));
            let at = |e: f64| {
                let moved = |b: usize| u[b * n + i % n] + if a == b { e } else { 0.0 };
                let index = |b: usize| voxel[b] as f64 + moved(b) / grid.spacing()[b];
                let [value] = warp.at_index::<1>(&c[..n], std::array::from_fn(index));
                value
            };
            // Central differences: e² truncation and 1e-16/e rounding, of places that are rounded at up to a hundred.
            let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert!((numeric - slope[i]).abs() < 1e-7, "{boundary:?} {i}");
            let index =
                std::array::from_fn(|b| voxel[b] as f64 + u[b * n + i % n] / grid.spacing()[b]);
            let by_index =
                Cell::new(index, &warp.places.source).derivatives::<1>(c[..n].as_chunks().0);
            // As for the values.
            assert!((by_index[a][0] / grid.spacing()[a] - slope[i]).abs() < 1e-12, "{boundary:?}");
        }
    }
}

#[test]
fn blocks_of_points_equal_points_one_by_one() {
    // No multiple of a block, and axes of no more than four voxels.
    check_blocks([61]);
    check_blocks([4]);
    check_blocks([9, 37]);
    check_blocks([4, 5]);
    check_blocks([14, 12, 13]);
    check_blocks([5, 4, 33]);
    check_blocks([5, 6, 4, 18]);
}

/// Derivatives for `C` fields at once, and one after the other.
fn check_position_bar<T: Real, const C: usize>() {
    let grid = Grid::new([7, 6, 21], [0.5, 1.0, 2.0]).unwrap();
    let (n, warp) = (grid.len(), Warp::<T, 3>::new(&grid, &grid));
    let (c, u, bar) = (random::<T>(C * n, 1), random::<T>(3 * n, 2), random::<T>(C * n, 3));
    let (mut at_once, mut apart) = (vec![T::one(); 3 * n], vec![T::one(); 3 * n]);
    warp.add_position_bar::<C>(&c, &u, &bar, &mut at_once);
    for k in 0..C {
        let component: Vec<T> = c.iter().copied().skip(k).step_by(C).collect();
        warp.add_position_bar::<1>(&component, &u, &bar[k * n..][..n], &mut apart);
    }
    for (a, b) in at_once.iter().zip(&apart) {
        // Sums of 64 products a field, of numbers up to four.
        let off = (*a - *b).abs();
        assert!(off < T::of(64.0 * C as f64) * T::epsilon(), "{} {C}", T::NAME);
    }
}

#[test]
fn derivatives_for_several_fields_are_the_sums_of_those_for_each() {
    check_position_bar::<f32, 2>();
    check_position_bar::<f32, 3>();
    check_position_bar::<f32, 4>();
    check_position_bar::<f32, 5>();
    check_position_bar::<f64, 2>();
    check_position_bar::<f64, 3>();
    check_position_bar::<f64, 4>();
}

#[test]
fn slabs_scatter_as_points_one_by_one_on_any_number_of_threads() {
    for boundary in Boundary::ALL {
        let grid = Grid::new([70, 20, 18], [0.5; 3]).unwrap().with_boundary(boundary);
        let (n, warp) = (grid.len(), Warp::<f64, 3>::new(&grid, &grid));
        // Slabs that reach apart and into each other, over both ends, and once over the whole grid.
        let mut u = random::<f64>(3 * n, 1);
        (0..n).for_each(|i| u[i] += 4.0 * (i as f64 / 2000.0).sin());
        u[5 * 360 + 7] = 90.0;
        let bar = random::<f64>(2 * n, 2);
        let scattered = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut out = vec![0.0; 2 * n];
            pool.install(|| warp.scatter::<2>(&u, &bar, &mut out));
            out
        };
        let (found, mut one_by_one) = (scattered(1), vec![0.0; 2 * n]);
        assert!(found.iter().zip(&scattered(3)).all(|(a, b)| a.to_bits() == b.to_bits()));
        for i in 0..n {
            let voxel = grid.unravel(i);
            let index = std::array::from_fn(|a| voxel[a] as f64 + u[a * n + i] / 0.5);
            warp.scatter_at_index(index, [bar[i], bar[n + i]], &mut one_by_one);
        }
        for (a, b) in found.iter().zip(&one_by_one) {
            // Some hundred products of numbers below one meet at a voxel.
            assert!((a - b).abs() < 1e-12, "{boundary:?}");
        }
        let rounds = warp.places.slabs(&warp.split(&u));
        assert!(rounds.len() > 4 && rounds.iter().any(|slab| slab.planes == (0..70)));
        assert!(rounds.iter().any(|slab| slab.planes.len() < 35), "some go together");
    }
}

/// A grid turned by the angle of the 3-4-5 triangle.
fn turned(shape: [usize; 2], spacing: [f64; 2], origin: [f64; 2]) -> Grid<2> {
    let turn = SMatrix::<f64, 2, 2>::new(0.6, -0.8, 0.8, 0.6);
    let grid = Grid::new(shape, spacing).and_then(|g| g.with_origin(origin));
    grid.and_then(|g| g.with_direction(turn)).unwrap()
}

#[test]
fn slabs_reach_points_whose_coordinates_cancel() {
    let source = Grid::new([32, 20], [1.0, 1.0]).unwrap();
    let target = turned([64, 32], [0.5, 0.0625], [3.982_676, 2.1]);
    let (n, warp) = (target.len(), Warp::<f32, 2>::new(&source, &target));
    let (c, bar) = (random::<f32>(source.len(), 1), random::<f32>(n, 2));
    let mut u = vec![0.0; 2 * n];
    for (k, shift) in random::<f32>(1000, 3).into_iter().enumerate() {
        // 0.6·4 = 0.8·3, to the rounding of numbers of a million; and beyond all numbers.
        let far = if k == 0 { f32::MAX / 8.0 } else { 3e5 * (1.0 + shift) };
        u[..n].fill(4.0 * far);
        u[n..].fill(3.0 * far + 4.0 * shift);
        let (mut values, mut c_bar) = (vec![0.0; n], vec![0.0; source.len()]);
        warp.values::<1>(&c, &u, &mut values);
        warp.scatter::<1>(&u, &bar, &mut c_bar);
        let (left, right) = (dot(&values, &bar), dot(&c, &c_bar));
        // Rounded sums of two thousand products of numbers below one.
        assert!((left - right).abs() < 1e-3 || (left.is_nan() && right.is_nan()), "{k}");
    }
}

#[test]
fn what_is_not_finite_makes_values_nan_where_it_is() {
    // Several slabs.
    let grid = Grid::new([64, 256], [1.0, 1.0]).unwrap();
    let (n, warp) = (grid.len(), Warp::<f32, 2>::new(&grid, &grid));
    let (c, bar) = (random::<f32>(n, 1), vec![1.0; n]);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        for at in [0, 17 * 256 + 3, n - 1, n + 5000] {
            let mut u = random::<f32>(2 * n, 2);
            u[at] = bad;
            let (mut values, mut slope) = (vec![0.0; n], vec![0.0; 2 * n]);
            warp.value_and_gradient(&c, &u, &mut values, &mut slope);
            let nan =
                |x: &[f32]| -> Vec<usize> { (0..x.len()).filter(|&i| x[i].is_nan()).collect() };
            assert_eq!(nan(&values), [at % n], "{bad} {at}");
            assert_eq!(nan(&slope), [at % n, n + at % n], "{bad} {at}");
            let mut c_bar = vec![0.0; n];
            warp.scatter::<1>(&u, &bar, &mut c_bar);
            let taps = nan(&c_bar).len();
            assert!((1..=16).contains(&taps), "those of one point, some mirrored onto others");
        }
    }
}

#[test]
fn interleaved_coefficients_are_those_of_the_components() {
    for boundary in Boundary::ALL {
        let grid = Grid::new([6, 13, 7], [1.0; 3]).unwrap().with_boundary(boundary);
        let (n, prefilter) = (grid.len(), Prefilter::new(&grid));
        let (samples, bar) = (random::<f64>(3 * n, 1), random::<f64>(3 * n, 2));
        let (mut apart, mut interleaved) = (samples.clone(), vec![f64::NAN; 3 * n]);
        prefilter.apply(&mut apart);
        prefilter.interleaved::<3>(&samples, &mut interleaved);
        for (i, voxel) in interleaved.chunks(3).enumerate() {
            for (c, x) in voxel.iter().enumerate() {
                // The axes in another order.
                assert!((x - apart[c * n + i]).abs() < 1e-13, "{boundary:?}");
            }
        }
        let (mut scratch, mut samples_bar) = (bar.clone(), vec![1.0; 3 * n]);
        prefilter.add_transposed::<3>(&mut scratch, &mut samples_bar);
        let right = pair(&samples_bar, &samples) - samples.iter().sum::<f64>();
        let left = pair(&interleaved, &bar);
        assert!((left - right).abs() < 1e-12 * left.abs().max(1.0), "{boundary:?}");
    }
}

#[test]
fn reading_a_point_and_its_transpose_match() {
    for boundary in Boundary::ALL {
        let grid = Grid::new([6, 5, 7], [0.5, 1.0, 2.0]).unwrap().with_boundary(boundary);
        let warp = Warp::<f64, 3>::new(&grid, &grid);
        let c: Vec<f64> = random(2 * grid.len(), 1);
        // Inside, near a face, and beyond one.
        for index in [[2.3, 1.9, 4.5], [-0.3, 4.2, 0.0], [9.1, -3.7, 6.4]] {
            let (value, bar) = (warp.at_index::<2>(&c, index), [0.7, -1.3]);
            let mut c_bar = vec![1.0; c.len()];
            warp.scatter_at_index(index, bar, &mut c_bar);
            // It adds.
            let (left, right) = (pair(&value, &bar), pair(&c_bar, &c) - c.iter().sum::<f64>());
            // Rounding of 64 taps beside ones.
            assert!((left - right).abs() < 1e-13, "{boundary:?} {index:?}");
        }
        let mut short = vec![0.0; 3];
        warp.scatter_at_index([1.0; 3], [1.0], &mut short);
        assert!(short.iter().all(|x| x.is_nan()));
    }
}

#[test]
fn a_zero_displacement_samples_the_voxels_and_placed_grids_agree() {
    let fine = Grid::new([8, 10], [0.5, 1.0]).unwrap();
    let coarse = fine.resampled([4, 5]).unwrap();
    let mut c: Vec<f64> = random(80, 5);
    let samples = c.clone();
    Prefilter::new(&fine).apply(&mut c);
    let mut same = vec![0.0; 80];
    Warp::new(&fine, &fine).values::<1>(&c, &[0.0; 160], &mut same);
    for (a, b) in same.iter().zip(&samples) {
        assert!((a - b).abs() < 1e-13, "interpolation, to rounding");
    }
    // The centre of a coarse voxel lies between four fine ones: move the coarse voxels onto them.
    let mut u = vec![-0.25; 40];
    u[20..].fill(-0.5);
    let mut out = vec![0.0; 20];
    Warp::new(&fine, &coarse).values::<1>(&c, &u, &mut out);
    for i in 0..4 {
        for j in 0..5 {
            assert!((out[i * 5 + j] - samples[2 * i * 10 + 2 * j]).abs() < 1e-13);
        }
    }
}

#[test]
fn an_affine_map_in_between_reads_where_the_whole_map_does() {
    let source = Grid::new([9, 8], [0.5, 1.0]).unwrap();
    let target = turned([6, 7], [0.8, 0.6], [0.3, 1.0]);
    let shear = SMatrix::<f64, 2, 2>::new(0.9, 0.3, -0.2, 1.2);
    let affine = Affine::new(shear, [0.2, -0.4].into()).unwrap();
    let mut c: Vec<f64> = random(72, 1);
    Prefilter::new(&source).apply(&mut c);
    let u = Displacement::from_vec(&target, random::<f64>(84, 2)).unwrap();
    let whole = affine.after_displacement(&u).unwrap();
    let warp = Warp::through(&source, &target, &affine);
    let (mut a, mut b) = (vec![0.0; 42], vec![0.0; 42]);
    warp.values::<1>(&c, u.data(), &mut a);
    Warp::new(&source, &target).values::<1>(&c, whole.data(), &mut b);
    assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13), "to rounding");

    let (bar, direction) = (random::<f64>(42, 3), random::<f64>(84, 4));
    let mut u_bar = vec![0.0; 84];
    warp.add_position_bar::<1>(&c, u.data(), &bar, &mut u_bar);
    let at = |e: f64| {
        let u: Vec<f64> = u.data().iter().zip(&direction).map(|(u, d)| u + e * d).collect();
        let mut out = vec![0.0; 42];
        warp.values::<1>(&c, &u, &mut out);
        pair(&out, &bar)
    };
    let (numeric, exact) = ((at(1e-5) - at(-1e-5)) / 2e-5, pair(&u_bar, &direction));
    // As above: central differences are good to about 1e-9.
    assert!((numeric - exact).abs() < 1e-7 * exact.abs().max(1.0));
}

/// ⟨∂warp(δu, δf), bar⟩ = ⟨δu, ū⟩ + ⟨δf, f̄⟩, the map by central differences, the field linearly.
fn check_fields<K: Kind>(components: usize) {
    for boundary in Boundary::ALL {
        let source = Grid::new([6, 7], [0.5, 1.0]).unwrap().with_boundary(boundary);
        let target = turned([5, 8], [0.7, 0.6], [0.3, 1.0]).with_boundary(boundary);
        let field = |grid: &Grid<2>, seed| {
            Field::<f64, 2, K>::from_vec(grid, random(components * grid.len(), seed)).unwrap()
        };
        let map = |seed| Displacement::from_vec(&target, random::<f64>(80, seed)).unwrap();
        let (f, df, bar) = (field(&source, 1), field(&source, 2), field(&target, 3));
        let (u, du) = (map(4), map(5));
        let (u_bar, f_bar) = warp_vjp(&f, &u, &bar).unwrap();
        let along = warp(&df, &u).unwrap();
        let (left, right) = (dot(along.data(), bar.data()), dot(df.data(), f_bar.data()));
        // Sums of some hundred products of numbers of order one.
        assert!((left - right).abs() < 1e-12, "{boundary:?} {left} {right}");
        let at = |e: f64| {
            let mut moved = u.clone();
            crate::field::axpy(moved.data_mut(), e, du.data());
            dot(warp(&f, &moved).unwrap().data(), bar.data())
        };
        // Central differences are good to about 1e-9.
        let (numeric, exact) = ((at(1e-5) - at(-1e-5)) / 2e-5, dot(du.data(), u_bar.data()));
        assert!((numeric - exact).abs() < 1e-7 * exact.abs().max(1.0), "{boundary:?}");
        assert!(exact.abs() > 1e-3 && right.abs() > 1e-3, "the check sees something");
        let other = field(&source, 6);
        let refused = warp_vjp(&f, &u, &other);
        assert!(matches!(refused, Err(Error::GridMismatch { .. })));
    }
}

#[test]
fn warps_of_fields_and_their_transposes_match() {
    check_fields::<crate::field::kind::Scalar>(1);
    check_fields::<crate::field::kind::Mixture>(3);
    check_fields::<crate::field::kind::Vector>(2);
}
