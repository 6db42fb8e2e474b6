//! The bytes that an operation has to move: the passes over memory that are left when everything is fused that
//! can be.
//!
//! A pass reads and writes whole fields. Two passes are fused into one unless the second needs values from
//! all over what the first writes. A separable filter in space needs two: one with the filters within the planes
//! of all axes but the first, one with those across the planes, along lines in groups; what comes before or
//! after in the same planes or lines goes along. (In 2-D a plane is a row.) Caches hold some planes or lines, and no
//! whole field. Bytes are counted as in STREAM: each read and each write once.
//!
//! Stages and cotangents of a Runge–Kutta step are formed where they are read. Each stage of RK4 needs
//! the start of the step and the rate of the stage before, each cotangent of a stage that of the stage after. The
//! backward sweep starts from stored states, repeats the stages and keeps of them what their transpose reads.
//! Storing a state costs nothing: it is the place that the step writes to.

use std::fmt;
use std::ops::{Add, Mul};

use super::workload::{Dynamics, Operation, Workload};

/// Stages of RK4.
const STAGES: usize = 4;

/// A number of scalar fields over the grid: so many, and so many times D, N and N·D, for D axes and N
/// Gaussians.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    scalars: usize,
    vectors: usize,
    weights: usize,
    vectors_by_scale: usize,
}

const NOTHING: Fields = Fields { scalars: 0, vectors: 0, weights: 0, vectors_by_scale: 0 };
/// One scalar field.
const ONE: Fields = Fields { scalars: 1, ..NOTHING };
/// One vector field.
const D: Fields = Fields { vectors: 1, ..NOTHING };
/// One field a Gaussian: weights.
const N: Fields = Fields { weights: 1, ..NOTHING };
/// One vector field a Gaussian.
const ND: Fields = Fields { vectors_by_scale: 1, ..NOTHING };

impl Fields {
    /// The number of scalar fields.
    fn count(self, axes: usize, gaussians: usize) -> usize {
        self.scalars
            + axes * self.vectors
            + gaussians * self.weights
            + gaussians * axes * self.vectors_by_scale
    }
}

impl Add for Fields {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            scalars: self.scalars + other.scalars,
            vectors: self.vectors + other.vectors,
            weights: self.weights + other.weights,
            vectors_by_scale: self.vectors_by_scale + other.vectors_by_scale,
        }
    }
}

impl Mul<Fields> for usize {
    type Output = Fields;

    fn mul(self, fields: Fields) -> Fields {
        Fields {
            scalars: self * fields.scalars,
            vectors: self * fields.vectors,
            weights: self * fields.weights,
            vectors_by_scale: self * fields.vectors_by_scale,
        }
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms = [
            (self.scalars, ""),
            (self.vectors, "D"),
            (self.weights, "N"),
            (self.vectors_by_scale, "ND"),
        ];
        let term = |(count, of): (usize, &str)| match (count, of) {
            (1, of) if !of.is_empty() => of.to_owned(),
            (count, of) => format!("{count}{of}"),
        };
        let terms: Vec<_> = terms.into_iter().filter(|(count, _)| *count > 0).map(term).collect();
        f.write_str(if terms.is_empty() { "0".to_owned() } else { terms.join(" + ") }.as_str())
    }
}

/// One line of the model.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    pub what: &'static str,
    /// How often: in a step, or in all for a kernel.
    pub times: usize,
    pub reads: Fields,
    pub writes: Fields,
}

const fn pass(what: &'static str, times: usize, reads: Fields, writes: Fields) -> Pass {
    Pass { what, times, reads, writes }
}

/// The bytes of a workload.
pub fn bytes(workload: &Workload) -> f64 {
    let (axes, operation) = (workload.shape.len(), workload.operation);
    let gaussians = operation.gaussians().unwrap_or(0);
    let fields = |pass: Pass| pass.times * (pass.reads + pass.writes).count(axes, gaussians);
    let once: usize = passes(operation).into_iter().map(fields).sum();
    let steps = operation.flow().map_or(1, |flow| flow.steps);
    (steps * once * workload.voxels() * workload.float.bytes()) as f64
}

/// The passes of an operation, of one step of a flow.
pub fn passes(operation: Operation) -> Vec<Pass> {
    match operation {
        Operation::Shoot(flow) => forward(flow.dynamics),
        Operation::Gradient(flow) | Operation::LeanGradient(flow) => {
            [forward(flow.dynamics), backward(flow.dynamics)].concat()
        }
        Operation::Gaussian(_) => {
            vec![pass("filter in planes", 1, ONE, ONE), pass("filter across planes", 1, ONE, ONE)]
        }
        Operation::SumOfGaussians => vec![
            pass("transform in planes", 1, ONE, ONE),
            pass("transform across planes, multiply, and back", 1, ONE, ONE),
            pass("transform in planes back", 1, ONE, ONE),
        ],
        Operation::WarpImage => vec![pass("coefficients at id + u", 1, ONE + D, ONE)],
        Operation::WarpVector => vec![pass("coefficients at id + u", 1, 2 * D, D)],
        Operation::ScatterVector => {
            vec![pass("cotangent and u, added to coefficients", 1, 3 * D, D)]
        }
        Operation::Lncc => vec![
            pass("moments of J", 1, ONE, NOTHING),
            pass("J, J², I J filtered in planes", 1, 2 * ONE, 3 * ONE),
            pass("across planes; slopes, filtered across planes", 1, 5 * ONE, 3 * ONE),
            pass("slopes filtered in planes; gradient", 1, 5 * ONE, ONE),
        ],
    }
}

/// Spline coefficients of the map, and as many passes for their transpose.
const COEFFICIENTS: Pass = pass("spline coefficients of u: in planes, across planes", 2, D, D);

/// A step forwards.
fn forward(dynamics: Dynamics) -> Vec<Pass> {
    // The last rate goes into the new state at once: that reads the rates before it and the coefficients of u.
    let before = STAGES - 1;
    let end = |body: Fields| {
        pass("the last rate, into the new state", 1, before * (body + D) + D, body + D)
    };
    let own = match dynamics {
        Dynamics::Vsvf => vec![
            pass("rate of u", STAGES, D, NOTHING),
            pass("… with the rate before", before - 1, D, NOTHING),
            pass("… written", before, NOTHING, D),
            end(NOTHING),
        ],
        Dynamics::Lddmm => vec![
            pass("m, transformed in planes", STAGES, D, D),
            pass("… with the rate before", before, D, NOTHING),
            pass("K across planes", STAGES, D, D),
            pass("v from planes; rates of m, u", STAGES, 2 * D, NOTHING),
            pass("… with the rates before", before - 1, 2 * D, NOTHING),
            pass("… written", before, NOTHING, 2 * D),
            end(D),
        ],
        Dynamics::Rdmm => vec![
            pass("h, by G across planes", STAGES, N, N),
            pass("… with the rate before", before, N, NOTHING),
            pass("w = G⋆h; w m, by K in planes", STAGES, N + D, N + ND),
            pass("… with the rate before", before, D, NOTHING),
            pass("K across planes; v, m·ν by G", STAGES, N + D + ND, D + N),
            pass("… with the rate before", before, D, NOTHING),
            pass("q = G⋆(m·ν); rates of m, h, u", STAGES, 2 * D + 2 * N, NOTHING),
            pass("… with the rates before", before - 1, 2 * D + N, NOTHING),
            pass("… written", before, NOTHING, 2 * D + N),
            end(D + N),
        ],
    };
    [own, vec![COEFFICIENTS]].concat()
}

/// A step backwards: its stages once more, then their transposes.
fn backward(dynamics: Dynamics) -> Vec<Pass> {
    // Every stage but the first has a rate before it, every one but the last a cotangent after it.
    let (before, after) = (STAGES - 1, STAGES - 1);
    let own = match dynamics {
        Dynamics::Vsvf => vec![
            pass("again: rate of u", STAGES, D, NOTHING),
            pass("… with the rate before", before, D, NOTHING),
            pass("… written", before, NOTHING, D),
            pass("transpose of the rate: v, d̄, v̄", STAGES, 3 * D, D),
            pass("… with the rate before", before, D, NOTHING),
            pass("… with the cotangent after, and written", after, D, D),
        ],
        Dynamics::Lddmm => vec![
            pass("again: m, transformed in planes", STAGES, D, D),
            pass("… with the rate before", before, D, NOTHING),
            pass("again: K across planes", STAGES, D, D),
            pass("again: v from planes, kept; rates of m, u", STAGES, 2 * D, D),
            pass("… with the rates before", before, 2 * D, NOTHING),
            pass("… written", before, NOTHING, 2 * D),
            pass("v, m, m̄, d̄: part of m̄, v̄ in planes", STAGES, 4 * D, 2 * D),
            pass("… with the rates before", before, 2 * D, NOTHING),
            pass("… with the cotangents after, ū written", after, 2 * D, D),
            pass("K across planes", STAGES, D, D),
            pass("K from planes, added to the part of m̄", STAGES, 2 * D, D),
            pass("all stages, added to m̄", 1, STAGES * D, NOTHING),
        ],
        Dynamics::Rdmm => vec![
            pass("again: h, by G across planes", STAGES, N, N),
            pass("… with the rate before", before, N, NOTHING),
            pass("again: w = G⋆h, kept; w m, by K in planes", STAGES, N + D, N + ND),
            pass("… with the rate before", before, D, NOTHING),
            pass("again: K across planes; ν, v kept; m·ν by G", STAGES, N + D + ND, D + N + ND),
            pass("… with the rate before", before, D, NOTHING),
            pass("again: q, kept; rates of m, h, u", STAGES, 2 * D + 2 * N, N),
            pass("… with the rates before", before, 2 * D + N, NOTHING),
            pass("… written", before, NOTHING, 2 * D + N),
            pass(
                "v, m, h, q, m̄, h̄, d̄: parts of v̄, m̄, h̄; q̄ by G in planes",
                STAGES,
                4 * D + 3 * N,
                2 * D + 2 * N,
            ),
            pass("… with the rates before", before, 2 * D + N, NOTHING),
            pass("… with the cotangents after, ū written", after, 2 * D + N, D),
            pass("G across planes: s̄; w v̄ + s̄ m, by K", STAGES, 2 * D + 2 * N, N + ND),
            pass("… with the rate before", before, D, NOTHING),
            pass("K in planes: m̄; w̄ by G in planes", STAGES, 3 * D + 2 * N + 2 * ND, D + N),
            pass("… with the rate before", before, D, NOTHING),
            pass("G across planes: h̄", STAGES, 2 * N, N),
            pass("all stages, added to m̄, h̄", 1, STAGES * (D + N), NOTHING),
        ],
    };
    // d̄ = ū + D(u)ᵀ ū and ū = Sᵀ ū, fused with the last of the repeated rates.
    let earlier = STAGES - 2;
    let composition = vec![
        COEFFICIENTS,
        pass("transpose of the composition: rates before, c, ū", 1, earlier * D + 2 * D, D),
        pass("… scattered", 1, D, D),
        pass("transpose of the coefficients: in planes, across planes", 2, D, D),
    ];
    [own, composition].concat()
}
