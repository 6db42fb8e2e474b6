//! Limits of wall time.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::Stop;

/// Ends a run once its time is up, through what its observers say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    begin: Instant,
    limit: Option<Duration>,
    /// Whether it stopped the run.
    stopped: bool,
}

impl Clock {
    /// From now on; `None` for no limit.
    pub(crate) fn new(limit: Option<Duration>) -> Self {
        Self { begin: Instant::now(), limit, stopped: false }
    }

    /// What an observer said, or a break where the time is up.
    pub(crate) fn also(&mut self, said: ControlFlow<()>) -> ControlFlow<()> {
        if said.is_continue() && self.limit.is_some_and(|limit| self.begin.elapsed() >= limit) {
            self.stopped = true;
            return ControlFlow::Break(());
        }
        said
    }

    /// Why a run ended whose observer said what [`Clock::also`] made of it.
    pub(crate) fn reason(&self, stop: Stop) -> Stop {
        if self.stopped && stop == Stop::Observer { Stop::TimeLimit } else { stop }
    }
}
