//! Seconds of a piece of work.

use std::time::{Duration, Instant};

use cpu_time::ProcessTime;

/// What is read before and after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// The processor's time for this process: other work on the machine is not in it.
    Processor,
    /// The time of day.
    Wall,
}

/// The least and the most repeats, and how long they may go on between.
const REPEATS: std::ops::RangeInclusive<usize> = 3..=30;
const ENOUGH: Duration = Duration::from_millis(1500);

impl Clock {
    /// The processor's time for one thread; of several threads it would be the sum.
    pub fn of(threads: usize) -> Self {
        if threads == 1 { Self::Processor } else { Self::Wall }
    }

    /// Seconds of one run.
    pub fn seconds(self, mut work: impl FnMut()) -> f64 {
        match self {
            Self::Processor => {
                let start = ProcessTime::now();
                work();
                start.elapsed()
            }
            Self::Wall => {
                let start = Instant::now();
                work();
                start.elapsed()
            }
        }
        .as_secs_f64()
    }

    /// The least seconds of three runs or, where they are short, of up to thirty within 1.5 seconds.
    pub fn least<E>(self, mut work: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
        let (begin, mut least) = (Instant::now(), f64::INFINITY);
        for done in 0..*REPEATS.end() {
            if done >= *REPEATS.start() && begin.elapsed() > ENOUGH {
                break;
            }
            let mut result = Ok(());
            least = least.min(self.seconds(|| result = work()));
            result?;
        }
        Ok(least)
    }
}
