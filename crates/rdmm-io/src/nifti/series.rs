//! The axis of time of a series of volumes.

/// The bits of `xyzt_units` that hold the unit of time.
const TIME: u8 = 0b11_1000;

/// The axis of time of a `NIfTI` series, as its header has it: a result that is made of every volume of a series is one of
/// the same times.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    step: f64,
    units: u8,
}

impl Series {
    /// From the fourth spacing and `xyzt_units`.
    pub(super) fn new(step: f64, units: u8) -> Self {
        Self { step, units: units & TIME }
    }

    /// The fourth spacing, and the bits of `xyzt_units` for its unit.
    pub(super) fn entries(&self) -> (f64, u8) {
        (self.step, self.units)
    }
}
