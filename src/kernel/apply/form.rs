//! What a product makes of the values of a lane before it, or after it: sums and differences in which its matrix
//! falls apart into blocks.
//!
//! A lane of n = 4q values on a reflecting axis, with α_j = π(2j + 1) / 2n and c_k(j) = cos kα_j:
//!
//! | step | values | meet |
//! | --- | --- | --- |
//! | fold at n/2 | e_j = x_j + x_{n−1−j}, o_j = x_j − x_{n−1−j} | even k, odd k |
//! | fold e at n/4 | e_j + e_{n/2−1−j}, e_j − e_{n/2−1−j} | k = 4p, k = 4p + 2 |
//! | turn o_j and o′ = o_{n/2−1−j} by α_j | a_j = cos α_j o_j + sin α_j o′, b_j = cos α_j o′ − sin α_j o_j | C_p = Σ cos(4pα_j) a_j, S_p = Σ sin(4pα_j) b_j |
//! | pair | C_p + S_p, C_p − S_p | k = 4p + 1, k = 4p − 1 |
//!
//! Four blocks of n/4 columns take a quarter of the multiplications. The first step alone, which any n and any
//! matrix that commutes with the reversal of the lane allow, takes half of them.
//!
//! # References
//! The turn is that of the DCT-IV into two transforms of half its length: Britanak, Yip, Rao, *Discrete cosine
//! and sine transforms* (2007), ISBN 978-0-12-373624-6.

use crate::scalar::Real;

/// Values of a lane of the contiguous axis up to which its even and odd part halve nothing: to form them takes
/// as long as the multiplications that they save.
pub(super) const PLAIN: usize = 48;

/// The form of a lane beside a matrix.
#[derive(Clone, Debug)]
pub(super) enum Form<T> {
    /// The values themselves.
    Plain,
    /// The values, with so many repeated periodically at either end.
    Repeated(usize),
    /// Even and odd part: sums x_j + x_{n−1−j}, the middle value of an odd n, differences x_j − x_{n−1−j}.
    Folded,
    /// The four quarters of a folded and turned lane: sums and differences of the even part, a, b.
    Quartered(Turns<T>),
    /// Coefficients, of which the last are pairs.
    Paired(Pairs<T>),
}

/// cos α_j and sin α_j for j < n/4.
#[derive(Clone, Debug)]
pub(super) struct Turns<T> {
    cos: Vec<T>,
    sin: Vec<T>,
}

/// Pairs u_p = C_p, w_p = S_p that become y_p = u_p − w_p and z_p = ρ_p (u_p + w_p).
#[derive(Clone, Debug)]
pub(super) struct Pairs<T> {
    /// Where the u_p begin; the w_p follow them.
    pub(super) at: usize,
    /// ρ: the gain at 4p + 1 over that at 4p − 1, which the matrix holds.
    pub(super) ratios: Vec<T>,
}

impl<T: Real> Turns<T> {
    /// Those of a lane of `n` values, a multiple of four.
    pub(super) fn new(n: usize) -> Self {
        let angle = |j: usize| std::f64::consts::PI * (2 * j + 1) as f64 / (2 * n) as f64;
        let of = |f: fn(f64) -> f64| (0..n / 4).map(|j| T::of(f(angle(j)))).collect();
        Self { cos: of(f64::cos), sin: of(f64::sin) }
    }

    fn each(&self) -> impl Iterator<Item = (usize, [T; 2])> {
        self.cos.iter().zip(&self.sin).map(|(&cos, &sin)| [cos, sin]).enumerate()
    }
}

/// Values of a contiguous lane that are worked on together.
const BLOCK: usize = 8;

/// `B` values from `at` on.
#[inline(always)]
fn get<T: Real, const B: usize>(values: &[T], at: usize) -> [T; B] {
    let mut block = [T::zero(); B];
    block.copy_from_slice(&values[at..][..B]);
    block
}

#[inline(always)]
fn put<T: Real, const B: usize>(values: &mut [T], at: usize, block: [T; B]) {
    values[at..][..B].copy_from_slice(&block);
}

#[inline(always)]
fn reversed<T: Real, const B: usize>(block: [T; B]) -> [T; B] {
    let mut out = [T::zero(); B];
    for w in 0..B {
        out[w] = block[B - 1 - w];
    }
    out
}

/// Where blocks of `B` values begin that cover `len`, none or at least `B`: the last one earlier, so that it is whole.
#[inline(always)]
fn block_starts<const B: usize>(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by(B).map(
        #[inline(always)]
        move |i| i.min(len - B),
    )
}

impl<T: Real> Turns<T> {
    /// The quarters of contiguous rows of `n` values, `B` values of each at once.
    #[inline(always)]
    fn enter<const B: usize>(&self, n: usize, rows: &[T], lanes: &mut [T]) {
        let q = n / 4;
        for (row, lane) in rows.chunks_exact(n).zip(lanes.chunks_exact_mut(n)) {
            for i in block_starts::<B>(q) {
                let (x, x_far) = (get::<T, B>(row, i), get::<T, B>(row, 4 * q - B - i));
                let (y, y_far) = (get::<T, B>(row, 2 * q - B - i), get::<T, B>(row, 2 * q + i));
                let (x_far, y) = (reversed(x_far), reversed(y));
                let (cos, sin) = (get::<T, B>(&self.cos, i), get::<T, B>(&self.sin, i));
                let mut out = [[T::zero(); B]; 4];
                for w in 0..B {
                    [out[0][w], out[1][w], out[2][w], out[3][w]] =
                        quarters([x[w], y[w], y_far[w], x_far[w]], [cos[w], sin[w]]);
                }
                for (quarter, out) in out.into_iter().enumerate() {
                    put(lane, quarter * q + i, out);
                }
            }
        }
    }

    /// The transpose, of lanes at a distance of `len`.
    #[inline(always)]
    fn leave<const B: usize>(&self, lanes: &[T], len: usize, n: usize, rows: &mut [T]) {
        let q = n / 4;
        for (lane, row) in lanes.chunks_exact(len).zip(rows.chunks_exact_mut(n)) {
            for i in block_starts::<B>(q) {
                let (sum, difference) = (get::<T, B>(lane, i), get::<T, B>(lane, q + i));
                let (a, b) = (get::<T, B>(lane, 2 * q + i), get::<T, B>(lane, 3 * q + i));
                let (cos, sin) = (get::<T, B>(&self.cos, i), get::<T, B>(&self.sin, i));
                let mut out = [[T::zero(); B]; 4];
                for w in 0..B {
                    [out[0][w], out[1][w], out[2][w], out[3][w]] =
                        whole([sum[w], difference[w], a[w], b[w]], [cos[w], sin[w]]);
                }
                put(row, i, out[0]);
                put(row, 2 * q - B - i, reversed(out[1]));
                put(row, 2 * q + i, out[2]);
                put(row, 4 * q - B - i, reversed(out[3]));
            }
        }
    }
}

impl<T: Real> Pairs<T> {
    /// Takes contiguous coefficients from rows to rows of these lengths: those without a partner as they are, pairs by
    /// `f`, `B` at once.
    #[inline(always)]
    fn rows_of_blocks<const B: usize>(
        &self,
        (from, from_len): (&[T], usize),
        (to, to_len): (&mut [T], usize),
        f: impl Fn(T, T, T) -> [T; 2],
    ) {
        let (at, count) = (self.at, self.ratios.len());
        for (from, to) in from.chunks_exact(from_len).zip(to.chunks_exact_mut(to_len)) {
            if at < BLOCK {
                to[..at].copy_from_slice(&from[..at]);
            } else {
                for i in block_starts::<BLOCK>(at) {
                    put(to, i, get::<T, BLOCK>(from, i));
                }
            }
            for p in block_starts::<B>(count) {
                let [x, y] = [get::<T, B>(from, at + p), get::<T, B>(from, at + count + p)];
                let ratios = get::<T, B>(&self.ratios, p);
                let mut out = [[T::zero(); B]; 2];
                for w in 0..B {
                    [out[0][w], out[1][w]] = f(x[w], y[w], ratios[w]);
                }
                put(to, at + p, out[0]);
                put(to, at + count + p, out[1]);
            }
        }
    }

    /// The same with blocks as long as there are pairs for.
    #[inline(always)]
    fn rows(&self, from: (&[T], usize), to: (&mut [T], usize), f: impl Fn(T, T, T) -> [T; 2]) {
        if self.ratios.len() < BLOCK {
            self.rows_of_blocks::<1>(from, to, f);
        } else {
            self.rows_of_blocks::<BLOCK>(from, to, f);
        }
    }
}

/// Sum and difference of the even part, a and b, of x_j, x_{n/2−1−j}, x_{n/2+j} and x_{n−1−j}.
#[inline(always)]
fn quarters<T: Real>([x, y, y_far, x_far]: [T; 4], [cos, sin]: [T; 2]) -> [T; 4] {
    let (even, even_y) = (x + x_far, y + y_far);
    let (odd, odd_y) = (x - x_far, y - y_far);
    [even + even_y, even - even_y, cos * odd + sin * odd_y, cos * odd_y - sin * odd]
}

/// The transpose of [`quarters`].
#[inline(always)]
fn whole<T: Real>([sum, difference, a, b]: [T; 4], [cos, sin]: [T; 2]) -> [T; 4] {
    let (even, even_y) = (sum + difference, sum - difference);
    let (odd, odd_y) = (cos * a - sin * b, sin * a + cos * b);
    [even + odd, even_y + odd_y, even_y - odd_y, even - odd]
}

/// y and z from u and w.
#[inline(always)]
fn pair<T: Real>(u: T, w: T, ratio: T) -> [T; 2] {
    [u - w, ratio * (u + w)]
}

/// The transpose of [`pair`].
#[inline(always)]
fn unpair<T: Real>(y: T, z: T, ratio: T) -> [T; 2] {
    [ratio * z + y, ratio * z - y]
}

/// `f` of every lane of two and four rows.
#[inline(always)]
fn two<T: Real, const W: usize>([x, y]: [&[T; W]; 2], f: impl Fn(T, T) -> [T; 2]) -> [[T; W]; 2] {
    let mut out = [[T::zero(); W]; 2];
    for w in 0..W {
        [out[0][w], out[1][w]] = f(x[w], y[w]);
    }
    out
}

#[inline(always)]
fn four<T: Real, const W: usize>(rows: [&[T; W]; 4], f: impl Fn([T; 4]) -> [T; 4]) -> [[T; W]; 4] {
    let mut out = [[T::zero(); W]; 4];
    for w in 0..W {
        [out[0][w], out[1][w], out[2][w], out[3][w]] =
            f([rows[0][w], rows[1][w], rows[2][w], rows[3][w]]);
    }
    out
}

impl<T: Real> Form<T> {
    /// Number of values that `n` become.
    pub(super) fn len(&self, n: usize) -> usize {
        match self {
            Self::Repeated(r) => n + 2 * r,
            Self::Plain | Self::Folded | Self::Quartered(_) | Self::Paired(_) => n,
        }
    }

    /// Additions and moves of a contiguous lane of `n` values, in multiplications that take as long. Measured.
    pub(super) fn cost(&self, n: usize) -> usize {
        match self {
            Self::Plain | Self::Repeated(_) => 0,
            Self::Folded | Self::Paired(_) => 4 * n,
            Self::Quartered(_) => 12 * n,
        }
    }

    /// Brings the rows of lanes side by side into this form.
    #[inline(always)]
    pub(super) fn load<const W: usize>(
        &self,
        n: usize,
        row: impl Fn(usize) -> [T; W],
        lanes: &mut [[T; W]],
    ) {
        match self {
            Self::Plain => {
                for (i, lanes) in lanes[..n].iter_mut().enumerate() {
                    *lanes = row(i);
                }
            }
            Self::Repeated(r) => {
                let repeated = (n - r..n).chain(0..n).chain(0..*r);
                for (i, lanes) in repeated.zip(lanes) {
                    *lanes = row(i);
                }
            }
            Self::Folded => {
                let (even, odd) = lanes[..n].split_at_mut(n.div_ceil(2));
                for (i, (even, odd)) in even.iter_mut().zip(odd).enumerate() {
                    let (x, y) = (row(i), row(n - 1 - i));
                    [*even, *odd] = two([&x, &y], |x, y| [x + y, x - y]);
                }
                if n % 2 == 1 {
                    even[n / 2] = row(n / 2);
                }
            }
            Self::Quartered(turns) => {
                let q = n / 4;
                let (even, odd) = lanes[..n].split_at_mut(2 * q);
                let (sums, differences) = even.split_at_mut(q);
                let (a, b) = odd.split_at_mut(q);
                let quarters_of = sums.iter_mut().zip(differences).zip(a.iter_mut().zip(b));
                for ((i, turn), ((sum, difference), (a, b))) in turns.each().zip(quarters_of) {
                    let [x, y] = [row(i), row(2 * q - 1 - i)];
                    let [y_far, x_far] = [row(2 * q + i), row(4 * q - 1 - i)];
                    [*sum, *difference, *a, *b] =
                        four([&x, &y, &y_far, &x_far], |x| quarters(x, turn));
                }
            }
            Self::Paired(pairs) => {
                for (i, lanes) in lanes[..pairs.at].iter_mut().enumerate() {
                    *lanes = row(i);
                }
                for (i, j, ratio) in pairs.each() {
                    let (y, z) = (row(i), row(j));
                    [lanes[i], lanes[j]] = two([&y, &z], |y, z| unpair(y, z, ratio));
                }
            }
        }
    }

    /// Calls `row` with the `m` rows of lanes side by side in this form.
    #[inline(always)]
    pub(super) fn store<const W: usize>(
        &self,
        m: usize,
        lanes: &[[T; W]],
        mut row: impl FnMut(usize, &[T; W]),
    ) {
        match self {
            Self::Plain | Self::Repeated(_) => {
                for (i, lanes) in lanes[..m].iter().enumerate() {
                    row(i, lanes);
                }
            }
            Self::Folded => {
                let (even, odd) = lanes[..m].split_at(m.div_ceil(2));
                for (i, (even, odd)) in even.iter().zip(odd).enumerate() {
                    let [x, y] = two([even, odd], |even, odd| [even + odd, even - odd]);
                    row(i, &x);
                    row(m - 1 - i, &y);
                }
                if m % 2 == 1 {
                    row(m / 2, &even[m / 2]);
                }
            }
            Self::Quartered(turns) => {
                let q = m / 4;
                let (even, odd) = lanes[..m].split_at(2 * q);
                let (sums, differences) = even.split_at(q);
                let (a, b) = odd.split_at(q);
                let quarters_of = sums.iter().zip(differences).zip(a.iter().zip(b));
                for ((i, turn), ((sum, difference), (a, b))) in turns.each().zip(quarters_of) {
                    let [x, y, y_far, x_far] = four([sum, difference, a, b], |x| whole(x, turn));
                    row(i, &x);
                    row(2 * q - 1 - i, &y);
                    row(2 * q + i, &y_far);
                    row(4 * q - 1 - i, &x_far);
                }
            }
            Self::Paired(pairs) => {
                for (i, lanes) in lanes[..pairs.at].iter().enumerate() {
                    row(i, lanes);
                }
                for (i, j, ratio) in pairs.each() {
                    let [y, z] = two([&lanes[i], &lanes[j]], |u, w| pair(u, w, ratio));
                    row(i, &y);
                    row(j, &z);
                }
            }
        }
    }

    /// Coefficients from what a product left in this form, in place.
    #[inline(always)]
    pub(super) fn pair<const W: usize>(&self, lanes: &mut [[T; W]]) {
        if let Self::Paired(pairs) = self {
            for (i, j, ratio) in pairs.each() {
                [lanes[i], lanes[j]] = two([&lanes[i], &lanes[j]], |u, w| pair(u, w, ratio));
            }
        }
    }

    /// The transpose of [`Form::pair`].
    #[inline(always)]
    pub(super) fn unpair<const W: usize>(&self, lanes: &mut [[T; W]]) {
        if let Self::Paired(pairs) = self {
            for (i, j, ratio) in pairs.each() {
                [lanes[i], lanes[j]] = two([&lanes[i], &lanes[j]], |y, z| unpair(y, z, ratio));
            }
        }
    }

    /// Brings contiguous rows of `n` values into this form.
    #[inline(always)]
    pub(super) fn enter(&self, n: usize, rows: &[T], lanes: &mut [T]) {
        match self {
            Self::Plain => lanes.copy_from_slice(rows),
            Self::Repeated(r) => {
                for (row, lane) in rows.chunks_exact(n).zip(lanes.chunks_exact_mut(n + 2 * r)) {
                    lane[..*r].copy_from_slice(&row[n - r..]);
                    lane[*r..n + r].copy_from_slice(row);
                    lane[n + r..].copy_from_slice(&row[..*r]);
                }
            }
            Self::Folded => {
                for (row, lane) in rows.chunks_exact(n).zip(lanes.chunks_exact_mut(n)) {
                    let (even, odd) = lane.split_at_mut(n.div_ceil(2));
                    let (front, back) = (&row[..n / 2], &row[n.div_ceil(2)..]);
                    let pairs = front.iter().zip(back.iter().rev());
                    for ((even, odd), (&x, &y)) in even.iter_mut().zip(odd).zip(pairs) {
                        *even = x + y;
                        *odd = x - y;
                    }
                    if n % 2 == 1 {
                        even[n / 2] = row[n / 2];
                    }
                }
            }
            Self::Quartered(turns) if n / 4 < BLOCK => turns.enter::<1>(n, rows, lanes),
            Self::Quartered(turns) => turns.enter::<BLOCK>(n, rows, lanes),
            Self::Paired(pairs) => pairs.rows((rows, n), (lanes, n), unpair),
        }
    }

    /// Writes contiguous rows of `m` values from lanes in this form, at a distance of `len`.
    #[inline(always)]
    pub(super) fn leave(&self, lanes: &[T], len: usize, m: usize, rows: &mut [T]) {
        match self {
            Self::Plain | Self::Repeated(_) => {
                for (lane, row) in lanes.chunks_exact(len).zip(rows.chunks_exact_mut(m)) {
                    row.copy_from_slice(&lane[..m]);
                }
            }
            Self::Folded => {
                for (lane, row) in lanes.chunks_exact(len).zip(rows.chunks_exact_mut(m)) {
                    let (even, odd) = lane[..m].split_at(m.div_ceil(2));
                    let (front, back) = row.split_at_mut(m.div_ceil(2));
                    for ((x, y), (&even, &odd)) in
                        front.iter_mut().zip(back.iter_mut().rev()).zip(even.iter().zip(odd))
                    {
                        *x = even + odd;
                        *y = even - odd;
                    }
                    if m % 2 == 1 {
                        front[m / 2] = even[m / 2];
                    }
                }
            }
            Self::Quartered(turns) if m / 4 < BLOCK => turns.leave::<1>(lanes, len, m, rows),
            Self::Quartered(turns) => turns.leave::<BLOCK>(lanes, len, m, rows),
            Self::Paired(pairs) => pairs.rows((lanes, len), (rows, m), pair),
        }
    }
}

impl<T: Real> Pairs<T> {
    /// Where the members of each pair are, and its ratio.
    fn each(&self) -> impl Iterator<Item = (usize, usize, T)> {
        let (at, count) = (self.at, self.ratios.len());
        self.ratios.iter().enumerate().map(move |(p, &ratio)| (at + p, at + count + p, ratio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;

    /// Every form with lengths that it takes.
    fn forms() -> Vec<(Form<f64>, usize)> {
        let pairs = |at: usize, count: usize| {
            let ratios = random::<f64>(count, 3);
            (Form::Paired(Pairs { at, ratios }), at + 2 * count)
        };
        let quartered = [4, 12, 32, 40, 68].map(|n| (Form::Quartered(Turns::new(n)), n));
        let folded = [4, 5, 31, 40].map(|n| (Form::Folded, n));
        let others =
            [(Form::Plain, 7), pairs(5, 9), pairs(3, 0), pairs(1, 8), pairs(26, 12), pairs(10, 4)];
        quartered.into_iter().chain(folded).chain(others).collect()
    }

    #[test]
    fn leaving_a_form_is_the_transpose_of_entering_it() {
        for (form, n) in forms() {
            // Two rows; lanes that leave are at a distance.
            let (x, y) = (random::<f64>(2 * n, 1), random::<f64>(2 * n, 2));
            let (mut lane, mut row) = (vec![f64::NAN; 2 * n], vec![f64::NAN; 2 * n]);
            form.enter(n, &x, &mut lane);
            let apart = [&y[..n], &[f64::NAN; 3], &y[n..], &[f64::NAN; 3]].concat();
            form.leave(&apart, n + 3, n, &mut row);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            // Sums of up to 136 products of numbers below four.
            let (left, right) = (dot(&lane, &y), dot(&x, &row));
            assert!((left - right).abs() < 1e-13, "{form:?} {n}: {left} {right}");
        }
    }

    #[test]
    fn lanes_side_by_side_have_the_form_of_contiguous_ones() {
        const W: usize = 3;
        for (form, n) in forms() {
            let x = random::<f64>(W * n, 1);
            let (mut lanes, mut back) = (vec![[f64::NAN; W]; n], vec![f64::NAN; W * n]);
            form.load(n, |i| std::array::from_fn(|w| x[W * i + w]), &mut lanes);
            form.store(n, &lanes, |i, values| back[W * i..][..W].copy_from_slice(values));
            for lane in 0..W {
                let column: Vec<f64> = (0..n).map(|i| x[W * i + lane]).collect();
                let (mut entered, mut left) = (vec![f64::NAN; n], vec![f64::NAN; n]);
                form.enter(n, &column, &mut entered);
                form.leave(&entered, n, n, &mut left);
                for i in 0..n {
                    let side = lanes[i][lane];
                    assert!((side - entered[i]).abs() < 1e-14, "{form:?} {n}, lane {lane}");
                    assert!((back[W * i + lane] - left[i]).abs() < 1e-14, "{form:?} {n}");
                }
            }
        }
    }

    #[test]
    fn pairs_in_place_are_those_on_the_way() {
        let pairs = Form::Paired(Pairs { at: 2, ratios: random::<f64>(4, 3) });
        let x: Vec<[f64; 2]> = (0..10).map(|i| [f64::from(i), f64::from(i * i)]).collect();
        let (mut there, mut back) = (x.clone(), x.clone());
        pairs.pair(&mut there);
        pairs.unpair(&mut back);
        for lane in 0..2 {
            let column: Vec<f64> = x.iter().map(|x| x[lane]).collect();
            let (mut left, mut entered) = (vec![0.0; 10], vec![0.0; 10]);
            pairs.leave(&column, 10, 10, &mut left);
            pairs.enter(10, &column, &mut entered);
            assert!(there.iter().map(|x| x[lane]).eq(left));
            assert!(back.iter().map(|x| x[lane]).eq(entered));
        }
    }
}
