//! Buffers that begin at a cache line.
//!
//! An allocation begins at a multiple of 16 bytes. Half of its vectors of 32 bytes then lie across two cache lines, and all
//! of its vectors of 64 bytes: each of these takes two accesses.

use std::fmt;
use std::ops::{Deref, DerefMut};

use crate::error::{Error, Result};
use crate::scalar::Real;

/// Bytes of a cache line, and of the widest vectors.
const LINE: usize = 64;

/// Values from the beginning of a cache line on, also in a clone. What was a vector of the caller's stays where it is.
pub(crate) struct Aligned<T> {
    values: Vec<T>,
    start: usize,
}

/// Values that are allocated in addition, so that a line begins among them.
const fn room<T>() -> usize {
    LINE / size_of::<T>()
}

/// Where the first line begins in this memory.
fn first_line<T>(values: &[T]) -> usize {
    // Where it cannot be known, values in the wrong place are slower and no less right.
    Some(values.as_ptr().align_offset(LINE)).filter(|&start| start < room::<T>()).unwrap_or(0)
}

impl<T: Real> Aligned<T> {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        // Memory that the system gives is zero already, and is not touched here.
        let mut values = vec![T::zero(); len + room::<T>()];
        let start = first_line(&values);
        values.truncate(start + len);
        Self { values, start }
    }

    /// `len` zeros; [`Error::OutOfMemory`] where there is no memory for them.
    pub(crate) fn try_zeros(len: usize) -> Result<Self> {
        let mut values = reserved(len.saturating_add(room::<T>()))?;
        let start = first_line(&values);
        values.resize(start + len, T::zero());
        Ok(Self { values, start })
    }

    /// The first `len` values of a buffer that grows where it is shorter, and is then all zero.
    pub(crate) fn grown(&mut self, len: usize) -> &mut [T] {
        if self.len() < len {
            *self = Self::zeros(len);
        }
        &mut self[..len]
    }
}

impl<T> Aligned<T> {
    /// The values as a vector, moved to its beginning.
    pub(crate) fn into_vec(mut self) -> Vec<T> {
        self.values.drain(..self.start);
        self.values
    }
}

impl<T> From<Vec<T>> for Aligned<T> {
    fn from(values: Vec<T>) -> Self {
        Self { values, start: 0 }
    }
}

impl<T> Deref for Aligned<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        &self.values[self.start..]
    }
}

impl<T> DerefMut for Aligned<T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values[self.start..]
    }
}

impl<T: Clone> Clone for Aligned<T> {
    fn clone(&self) -> Self {
        let mut values = Vec::with_capacity(self.len() + room::<T>());
        let start = first_line(values.spare_capacity_mut());
        // What is before the line is not read.
        values.extend(self.iter().cycle().take(start).cloned());
        values.extend_from_slice(self);
        Self { start: values.len() - self.len(), values }
    }

    fn clone_from(&mut self, other: &Self) {
        if self.len() == other.len() {
            self.clone_from_slice(other);
        } else {
            *self = other.clone();
        }
    }
}

impl<T> Default for Aligned<T> {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl<T: PartialEq> PartialEq for Aligned<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: fmt::Debug> fmt::Debug for Aligned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// An empty vector with room for `len` values.
pub(crate) fn reserved<T>(len: usize) -> Result<Vec<T>> {
    let mut data = Vec::new();
    let bytes = len.saturating_mul(size_of::<T>());
    data.try_reserve_exact(len).map_err(|_| Error::OutOfMemory { bytes })?;
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts_a_line<T>(values: &[T]) -> bool {
        values.as_ptr().addr().is_multiple_of(LINE)
    }

    fn check<T: Real>() {
        for len in (0..40).chain([4096, 100_000]) {
            let mut zeros = Aligned::<T>::zeros(len);
            assert!(starts_a_line(&zeros) && zeros.len() == len && zeros.iter().all(T::is_zero));
            let other = Aligned::<T>::try_zeros(len).unwrap();
            assert!(starts_a_line(&other) && other == zeros);
            for (k, x) in zeros.iter_mut().enumerate() {
                *x = T::of(k as f64);
            }
            let copy = zeros.clone();
            assert!((len == 0 || starts_a_line(&copy)) && copy == zeros);
            let vector = zeros.into_vec();
            assert!(*copy == *vector);
            // A vector keeps its place, its clone begins at a line.
            let (place, kept) = (vector.as_ptr(), Aligned::from(vector));
            assert!(kept.as_ptr() == place && kept == copy);
            assert!(len == 0 || starts_a_line(&kept.clone()));
            let mut reused = Aligned::<T>::zeros(len);
            let place = reused.as_ptr();
            reused.clone_from(&copy);
            assert!(reused.as_ptr() == place && reused == copy);
            assert_eq!(reused.grown(len).as_ptr(), place);
            assert!(starts_a_line(reused.grown(len + 1)) && reused.len() == len + 1);
            reused.clone_from(&copy);
            assert!(reused == copy);
        }
    }

    #[test]
    fn buffers_and_their_clones_begin_at_a_line() {
        check::<f32>();
        check::<f64>();
    }

    #[test]
    fn what_cannot_be_allocated_is_an_error() {
        for len in [usize::MAX, usize::MAX / size_of::<f64>(), isize::MAX as usize / 8] {
            let error = Aligned::<f64>::try_zeros(len).unwrap_err();
            assert!(matches!(error, Error::OutOfMemory { bytes } if bytes >= len), "{error}");
        }
    }
}
