use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::labels::Labels;

/// Dice overlap 2|A ∩ B| / (|A| + |B|) of each label that occurs in `a` or `b`, the background left
/// out: 1 where they agree, 0 where a label occurs in one map only. One pass.
///
/// # Errors
/// [`Error::GridMismatch`] unless both are over the same lattice.
///
/// # References
/// Dice, *Measures of the amount of ecologic association between species*, Ecology 26 (1945),
/// doi:10.2307/1932409.
///
/// ```
/// use rdmm_core::{evaluate::dice, grid::Grid, labels::Labels};
/// let grid = Grid::new([4, 4], [1.0, 1.0])?;
/// let a = Labels::from_vec(&grid, [[7; 4], [7; 4], [0; 4], [0; 4]].concat())?;
/// let b = Labels::from_vec(&grid, [[7; 4], [0; 4], [0; 4], [0; 4]].concat())?;
/// assert_eq!(dice(&a, &b)?[&7], 2.0 * 4.0 / (8.0 + 4.0));
/// # Ok::<(), rdmm_core::Error>(())
/// ```
pub fn dice<const D: usize>(a: &Labels<D>, b: &Labels<D>) -> Result<BTreeMap<u32, f64>> {
    a.grid().expect_same(b.grid(), "labels")?;
    let mut counts = BTreeMap::<u32, Overlap>::new();
    for (&a, &b) in a.data().iter().zip(b.data()) {
        if a != 0 {
            let count = counts.entry(a).or_default();
            count.sizes += 1;
            count.both += usize::from(a == b);
        }
        if b != 0 {
            counts.entry(b).or_default().sizes += 1;
        }
    }
    Ok(counts.into_iter().map(|(label, count)| (label, count.dice())).collect())
}

/// Dice overlap of the foregrounds: all labels but the background taken as one.
///
/// # Errors
/// [`Error::GridMismatch`] unless both are over the same lattice; [`Error::NoContrast`] where both
/// hold background only.
pub fn dice_whole<const D: usize>(a: &Labels<D>, b: &Labels<D>) -> Result<f64> {
    a.grid().expect_same(b.grid(), "labels")?;
    let mut count = Overlap::default();
    for (&a, &b) in a.data().iter().zip(b.data()) {
        count.sizes += usize::from(a != 0) + usize::from(b != 0);
        count.both += usize::from(a != 0 && b != 0);
    }
    if count.sizes == 0 {
        return Err(Error::NoContrast { what: "labels" });
    }
    Ok(count.dice())
}

/// |A| + |B| and |A ∩ B|.
#[derive(Default)]
struct Overlap {
    sizes: usize,
    both: usize,
}

impl Overlap {
    fn dice(&self) -> f64 {
        2.0 * self.both as f64 / self.sizes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grid::Grid;

    #[test]
    fn overlap_by_hand() {
        let grid = Grid::new([4, 4], [1.0, 3.0]).unwrap();
        let labels = |rows: [[u32; 4]; 4]| Labels::from_vec(&grid, rows.concat()).unwrap();
        let a = labels([[1, 1, 2, 0], [1, 0, 2, 0], [0; 4], [5, 0, 0, 0]]);
        let b = labels([[1, 1, 2, 2], [0, 0, 2, 2], [0; 4], [9, 0, 0, 0]]);
        let found = dice(&a, &b).unwrap();
        let expected = BTreeMap::from([(1, 4.0 / 5.0), (2, 4.0 / 6.0), (5, 0.0), (9, 0.0)]);
        // The same divisions of small whole numbers.
        assert_eq!(found, expected);
        // Foregrounds of 6 and 7 voxels share 5.
        let whole = dice_whole(&a, &b).unwrap();
        assert!((whole - 10.0 / 13.0).abs() < 1e-15);

        let empty = labels([[0; 4]; 4]);
        assert!(dice(&empty, &empty).unwrap().is_empty());
        assert!(matches!(dice_whole(&empty, &empty), Err(Error::NoContrast { .. })));
        let other = Labels::from_vec(&Grid::new([4, 4], [1.0; 2]).unwrap(), vec![0; 16]).unwrap();
        assert!(matches!(dice(&a, &other), Err(Error::GridMismatch { .. })));
        assert!(matches!(dice_whole(&a, &other), Err(Error::GridMismatch { .. })));
    }
}
