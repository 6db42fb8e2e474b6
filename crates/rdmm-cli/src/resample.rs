//! Volumes of any number of components and voxels on another lattice.

use rayon::prelude::*;
use rdmm_io::{Chain, Geometry, Lattice, Meaning, Problem, Sample, Volume};

use crate::maps::inside;

/// How a volume is read between its voxels.
pub(crate) type Reading<const D: usize> = fn(&Component<'_, D>, [f64; D]) -> f64;

/// Values of one component, and where they are.
pub(crate) struct Component<'a, const D: usize> {
    shape: [usize; D],
    values: &'a [f64],
}

impl<const D: usize> Component<'_, D> {
    /// The value of the nearest voxel: the first axis is the fastest.
    fn at(&self, index: [f64; D]) -> f64 {
        let along = |flat: usize, a: usize| flat * self.shape[a] + voxel(index[a], self.shape[a]);
        self.values[(0..D).rev().fold(0, along)]
    }
}

/// All components of `moving` on the lattice of `onto`, `fill` beyond it.
pub(crate) fn sampled<const D: usize>(
    moving: &Volume,
    onto: &Geometry,
    chain: &Chain<D>,
    value: Reading<D>,
    fill: f64,
) -> Result<Volume, Problem> {
    let (from, lattice) = (moving.geometry.lattice::<D>()?, onto.lattice::<D>()?);
    let places = places(&from, &lattice, chain)?;
    let mut values = Vec::new();
    for component in moving.values.chunks_exact(from.len()) {
        let component = Component { shape: from.shape(), values: component };
        let read = |place: &Option<[f64; D]>| place.map_or(fill, |index| value(&component, index));
        values.par_extend(places.par_iter().map(read));
    }
    Ok(Volume::new(onto.clone(), moving.components, moving.meaning, moving.sample, values))
}

/// Fractional voxels of `from` that the voxels of `onto` are read at; `None` more than half a voxel outside.
pub(crate) fn places<const D: usize>(
    from: &Lattice<D>,
    onto: &Lattice<D>,
    chain: &Chain<D>,
) -> rdmm_core::Result<Vec<Option<[f64; D]>>> {
    let place = |flat: usize| {
        let x = onto.to_world(onto.unravel(flat).map(|i| i as f64));
        let index = from.to_index(chain.apply(x)?);
        Ok(inside(from.shape(), index).then_some(index))
    };
    (0..onto.len()).into_par_iter().map(place).collect()
}

/// One component as a volume of its own.
pub(crate) fn component(volume: &Volume, at: usize) -> Volume {
    let voxels = volume.values.len() / volume.components.max(1);
    let values = volume.values[voxels * at..voxels * (at + 1)].to_vec();
    Volume::new(volume.geometry.clone(), 1, Meaning::Values, volume.sample, values)
}

/// The nearest whole voxel along an axis of `n`.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the axis")]
fn voxel(index: f64, n: usize) -> usize {
    index.round().clamp(0.0, n as f64 - 1.0) as usize
}

/// The value of the nearest voxel.
pub(crate) fn nearest<const D: usize>(component: &Component<'_, D>, index: [f64; D]) -> f64 {
    component.at(index)
}

/// Linear between the voxels, in single precision.
pub(crate) fn linear<const D: usize>(component: &Component<'_, D>, index: [f64; D]) -> f64 {
    let corner = |bits: usize| {
        let (mut weight, mut at) = (1.0, index);
        for a in 0..D {
            let low = index[a].floor();
            let upper = bits >> a & 1 == 1;
            let share = index[a] - low;
            weight *= if upper { share } else { 1.0 - share };
            at[a] = low + f64::from(u8::from(upper));
        }
        weight * component.at(at)
    };
    #[expect(clippy::cast_possible_truncation, reason = "images are kept in single precision")]
    let value = (0..1 << D).map(corner).sum::<f64>() as f32;
    f64::from(value)
}

/// Whether numbers of this type can hold `value`.
pub(crate) fn holds(sample: Sample, value: f64) -> bool {
    let whole = |low: f64, high: f64| (low..=high).contains(&value) && value.fract() == 0.0;
    match sample {
        Sample::U8 => whole(0.0, f64::from(u8::MAX)),
        Sample::I8 => whole(f64::from(i8::MIN), f64::from(i8::MAX)),
        Sample::U16 => whole(0.0, f64::from(u16::MAX)),
        Sample::I16 => whole(f64::from(i16::MIN), f64::from(i16::MAX)),
        Sample::U32 => whole(0.0, f64::from(u32::MAX)),
        Sample::I32 => whole(f64::from(i32::MIN), f64::from(i32::MAX)),
        Sample::U64 => whole(0.0, 2.0_f64.powi(53)),
        Sample::I64 => whole(-(2.0_f64.powi(53)), 2.0_f64.powi(53)),
        _ => value.is_nan() || value.abs() <= f64::from(f32::MAX),
    }
}
