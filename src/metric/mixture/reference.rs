//! The velocity of a mixture as it is defined: what [`Mixture`](super::Mixture) computes slab by slab, field by field.
//!
//! One equation a line, a new field for each result. Use it to read what is meant, and to test what is fast against.

use crate::error::Result;
use crate::field::kind::Kind;
use crate::field::{Field, Momentum, Velocity, Weights};
use crate::grid::Grid;
use crate::kernel::{Kernel, Workspace};
use crate::scalar::Real;
use crate::space::StateSpace;

/// What comes of a momentum and pre-weights.
#[derive(Clone, Debug)]
pub struct Velocities<T, const D: usize> {
    /// w = G ⋆ h.
    pub weights: Weights<T, D>,
    /// ν_i = K_i ⋆ (w_i m).
    pub nu: Vec<Velocity<T, D>>,
    /// v = Σ_i w_i ν_i.
    pub velocity: Velocity<T, D>,
    /// q_i = G ⋆ (m·ν_i).
    pub force: Weights<T, D>,
}

/// The velocity of momentum m and pre-weights h, with what it is made of.
///
/// # Errors
/// [`Error::GridMismatch`](crate::Error::GridMismatch) for a kernel that was made for a grid of another shape;
/// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
///
/// ```
/// use rdmm_core::field::{Momentum, Weights};
/// use rdmm_core::grid::Grid;
/// use rdmm_core::kernel::{Gaussian, Identity, Kernel};
/// use rdmm_core::metric::mixture::reference;
/// let grid = Grid::new([16, 12], [1.0, 1.0])?;
/// let m = Momentum::<f64, 2>::from_fn(&grid, |x| x.map(|x| (0.3 * x).sin()))?;
/// let h = Weights::<f64, 2>::from_fn(&grid, 1, |_, _| 1.0)?;
/// let kernel = Gaussian::new(&grid, 2.0)?;
/// // One weight that is one everywhere: v = K m.
/// let v = reference::velocity(&[&kernel], &Identity, &m, &h)?.velocity;
/// assert_eq!(v.data(), kernel.smooth(&m)?.data());
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn velocity<T: Real, const D: usize>(
    kernels: &[&dyn Kernel<T>],
    smoothing: &impl Kernel<T>,
    momentum: &Momentum<T, D>,
    pre_weights: &Weights<T, D>,
) -> Result<Velocities<T, D>> {
    let m = momentum;
    let weights = smoothing.smooth(pre_weights)?;
    let mut velocity = Velocity::zeros(m.grid())?;
    let mut densities = pre_weights.zeros_like();
    let mut nu = Vec::new();
    for (i, kernel) in kernels.iter().enumerate() {
        let p_i: Momentum<T, D> = product(weights.component(i), m)?;
        let nu_i = smooth(*kernel, &p_i)?;
        velocity.axpy(T::one(), &product(weights.component(i), &nu_i)?);
        densities.component_mut(i).copy_from_slice(&inner(m, &nu_i));
        nu.push(nu_i);
    }
    let force = smoothing.smooth(&densities)?;
    Ok(Velocities { weights, nu, velocity, force })
}

/// The transpose: the cotangents of momentum and pre-weights from those of velocity and force.
///
/// # Errors
/// Those of [`velocity`].
pub fn velocity_vjp<T: Real, const D: usize>(
    kernels: &[&dyn Kernel<T>],
    smoothing: &impl Kernel<T>,
    (momentum, pre_weights): (&Momentum<T, D>, &Weights<T, D>),
    (velocity_bar, force_bar): (&Velocity<T, D>, &Weights<T, D>),
) -> Result<(Momentum<T, D>, Weights<T, D>)> {
    let (m, v_bar) = (momentum, velocity_bar);
    let Velocities { weights: w, nu, .. } = velocity(kernels, smoothing, m, pre_weights)?;
    let mut m_bar = m.zeros_like();
    let mut w_bar = w.zeros_like();
    // q_i = G ⋆ s_i
    let s_bar = smoothing.smooth(force_bar)?;
    for (i, kernel) in kernels.iter().enumerate() {
        let (w_i, s_bar_i) = (w.component(i), s_bar.component(i));
        // v = Σ_i w_i ν_i and s_i = m·ν_i, in ν_i …
        let mut nu_bar: Velocity<T, D> = product(w_i, v_bar)?;
        nu_bar.axpy(T::one(), &product(s_bar_i, m)?);
        // … which is K_i p_i with p_i = w_i m …
        let p_bar: Velocity<T, D> = smooth(*kernel, &nu_bar)?;
        // … and all three in m and w_i.
        m_bar.axpy(T::one(), &product(s_bar_i, &nu[i])?);
        m_bar.axpy(T::one(), &product(w_i, &p_bar)?);
        let in_weight = inner(v_bar, &nu[i]).into_iter().zip(inner(m, &p_bar));
        let in_weight: Vec<T> = in_weight.map(|(a, b)| a + b).collect();
        w_bar.component_mut(i).copy_from_slice(&in_weight);
    }
    // w = G ⋆ h
    Ok((m_bar, smoothing.smooth(&w_bar)?))
}

/// K x.
fn smooth<T: Real, const D: usize, A: Kind, B: Kind>(
    kernel: &dyn Kernel<T>,
    x: &Field<T, D, A>,
) -> Result<Field<T, D, B>> {
    let mut out = vec![T::zero(); x.data().len()];
    kernel.apply(x.data(), &mut out, &mut Workspace::new());
    vector(x.grid(), out)
}

/// The vector field w x.
fn product<T: Real, const D: usize, A: Kind, B: Kind>(
    w: &[T],
    x: &Field<T, D, A>,
) -> Result<Field<T, D, B>> {
    let products = w.iter().cycle().zip(x.data()).map(|(&w, &x)| w * x);
    vector(x.grid(), products.collect())
}

/// x·y in every voxel.
fn inner<T: Real, const D: usize, A: Kind, B: Kind>(
    x: &Field<T, D, A>,
    y: &Field<T, D, B>,
) -> Vec<T> {
    let at = |j: usize| (0..D).map(|a| x.component(a)[j] * y.component(a)[j]).sum();
    (0..x.grid().len()).map(at).collect()
}

fn vector<T: Real, const D: usize, B: Kind>(
    grid: &Grid<D>,
    data: Vec<T>,
) -> Result<Field<T, D, B>> {
    Field::from_vec(grid, data)
}
