//! Which states a backward sweep keeps.

use crate::error::{Error, Result};

/// Which states are stored on the way forward; the others are computed again on the way back. The start counts as one
/// of them, though it is the caller who holds it.
///
/// All policies give the same gradient, bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum Checkpoints {
    /// Every state, and of the last steps also what their stages leave for their transposes, as many steps as fit into
    /// this many bytes: no stage of theirs is computed twice, which saves a quarter of a gradient and more. The
    /// others are as with [`Checkpoints::All`]. Where the system refuses memory, there are as many as it gave. The
    /// default is [`Checkpoints::STAGES`].
    Stages(usize),
    /// Every state: n states for n steps. The stages of each step but the last are computed twice.
    All,
    /// Every k-th state and the k states of the segment in hand: n/k + k states, each step at most twice.
    Every(usize),
    /// At most this many states at once, placed by the binomial schedule: the fewest repeated steps for
    /// that memory.
    ///
    /// # References
    /// Griewank, Walther, *Algorithm 799: revolve*, ACM TOMS 26 (2000), doi:10.1145/347837.347846.
    Binomial(usize),
    /// As many states at once as fit into this many bytes, placed as by [`Checkpoints::Binomial`]. What a sweep
    /// holds beside them does not count: see [`Sweep::bytes_held`](super::Sweep::bytes_held).
    Bytes(usize),
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self::STAGES
    }
}

impl Checkpoints {
    /// [`Checkpoints::Stages`] within 2 GiB: ten steps of RK4 for LDDMM on 128·128·80 voxels in `f32`, for RDMM
    /// with four Gaussians on 96·96·40.
    pub const STAGES: Self = Self::Stages(2 << 30);

    /// `Ok` if the policy stores something.
    ///
    /// # Errors
    /// [`Error::Setting`] for `Every(0)`, `Binomial(0)` and `Bytes(0)`. `Stages(0)` is [`Checkpoints::All`].
    pub fn validate(self) -> Result<Self> {
        match self {
            Self::Every(0) | Self::Binomial(0) | Self::Bytes(0) => {
                Err(Error::setting("checkpoints", "at least one state", 0))
            }
            _ => Ok(self),
        }
    }

    /// The schedule for states of `bytes` each.
    pub(crate) fn schedule(self, bytes: usize) -> Result<Schedule> {
        self.validate()?;
        match self {
            Self::All | Self::Stages(_) => Ok(Schedule::Every(1)),
            Self::Every(k) => Ok(Schedule::Every(k)),
            Self::Binomial(places) => Ok(Schedule::Binomial(places)),
            Self::Bytes(budget) if budget < bytes => {
                let expected =
                    "memory for at least one state: allow more bytes or take a coarser map grid";
                let found = format!("{budget} bytes, where a state has {bytes}");
                Err(Error::setting("checkpoints", expected, found))
            }
            Self::Bytes(budget) => Ok(Schedule::Binomial(budget / bytes.max(1))),
        }
    }
}

/// A policy for states of a known size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// Every k-th state, and all of the segment in hand.
    Every(usize),
    /// At most this many states.
    Binomial(usize),
}

impl Schedule {
    /// The next state to store after the one at step `from`, when steps `from..end` are still to be
    /// reversed and `free` places are left; `None` to store none.
    pub(crate) fn next(self, from: usize, end: usize, free: usize) -> Option<usize> {
        let left = end - from;
        let next = match self {
            Self::Every(k) if left > k => from + k,
            Self::Every(_) => from + 1,
            Self::Binomial(_) if free == 0 => return None,
            Self::Binomial(_) => from + binomial_split(left, free),
        };
        (next < end).then_some(next)
    }

    /// Most states held at once.
    pub(crate) fn places(self) -> usize {
        match self {
            Self::Every(_) => usize::MAX,
            Self::Binomial(places) => places,
        }
    }
}

/// Largest number of steps that `places` checkpoints reverse with at most `repeats` passes:
/// (places + repeats)! / (places! repeats!).
fn reach(places: usize, repeats: usize) -> usize {
    let (few, many) = (places.min(repeats), places.max(repeats));
    (1..=few).fold(1usize, |r, i| r.saturating_mul(many.saturating_add(i)) / i)
}

/// How far to advance before the next checkpoint: to leave behind at most what the same number of
/// passes can reverse with all places, and ahead at most what it can with one place fewer.
fn binomial_split(left: usize, free: usize) -> usize {
    let repeats = (1..=left).find(|&r| reach(free.saturating_add(1), r) >= left).unwrap_or(left);
    let ahead = reach(free, repeats);
    left.saturating_sub(ahead).clamp(1, left.saturating_sub(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the schedule and counts forward steps and stored states.
    fn cost(policy: Checkpoints, n: usize) -> (usize, usize) {
        let policy = policy.schedule(1).unwrap();
        let (mut stack, mut steps, mut most) = (vec![0], 0, 1);
        let mut end = n;
        while end > 0 {
            let mut at = stack.pop().unwrap();
            stack.push(at);
            while at < end - 1 {
                let free = policy.places().saturating_sub(stack.len());
                let next = policy.next(at, end, free).unwrap_or(end - 1);
                steps += next - at;
                at = next;
                if free > 0 {
                    stack.push(at);
                }
            }
            most = most.max(stack.len());
            if stack.last() == Some(&(end - 1)) && end > 1 {
                stack.pop();
            }
            end -= 1;
        }
        (steps, most)
    }

    #[test]
    fn bytes_are_a_number_of_states() {
        assert_eq!(Checkpoints::Bytes(1000).schedule(300).unwrap(), Schedule::Binomial(3));
        let error = Checkpoints::Bytes(299).schedule(300).unwrap_err().to_string();
        assert!(error.contains("299 bytes, where a state has 300"), "{error}");
        assert!(Checkpoints::Bytes(0).schedule(0).is_err());
    }

    #[test]
    fn policies_keep_to_their_memory_and_work() {
        assert_eq!(cost(Checkpoints::All, 10), (9, 10));
        let (steps, states) = cost(Checkpoints::Every(4), 16);
        assert!(steps <= 2 * 16 && states <= 16 / 4 + 4, "{steps} {states}");
        for (n, places) in [(10, 3), (30, 4), (100, 5), (7, 1)] {
            let (steps, states) = cost(Checkpoints::Binomial(places), n);
            assert!(states <= places, "{n} steps: {states} of {places}");
            // With s places and t passes binomial(s + t, s) steps are reversed, so n steps need at most
            // t·n forward steps for the smallest such t.
            let passes = (1..=n).find(|&t| reach(places, t) >= n).unwrap();
            assert!(steps <= passes * n, "{n} steps, {places} places: {steps}");
        }
    }
}
