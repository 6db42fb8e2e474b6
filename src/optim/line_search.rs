//! A line search for the strong Wolfe conditions.

use crate::error::{Error, Result};
use crate::optim::{count, fraction};

/// Settings of a line search for the strong Wolfe conditions along φ(α) = f(x + α d):
///
/// - φ(α) ≤ φ(0) + c₁ α φ′(0), sufficient decrease;
/// - |φ′(α)| ≤ c₂ |φ′(0)|, curvature.
///
/// Steps grow until an interval holds such an α, by cubic extrapolation between 2 and 10 times the
/// last; the interval then shrinks around the minimiser of the cubic through its ends, kept off the
/// ends, with a bisection where two trials did not shrink it by a third. Three cases go beyond the
/// reference:
///
/// - An infinitely high trial becomes the far end of the interval. The next trial is at 1/2, 1/4,
///   1/8, … of what remains while trials stay infinite, so that a step too long by 10⁶ costs six
///   evaluations. A point of sufficient decrease within a tenth of such a wall is taken.
/// - Where values agree to rounding, sufficient decrease is lost in the noise. A point that does not
///   increase the value and meets the curvature condition is taken then (the approximate Wolfe
///   conditions of Hager and Zhang, without their allowance for an increase). One that increases it
///   within rounding and meets the curvature condition ends the search.
/// - Where the evaluations are used up, the lowest point is taken if its decrease is sufficient.
///
/// # Requirements
/// φ′(0) < 0; φ is differentiable where it is finite, and bounded below.
///
/// # Cost
/// Usually one evaluation where the first trial is well scaled; at most `max_evaluations`.
///
/// # References
/// - J. Nocedal and S. J. Wright, Numerical Optimization, 2nd edition, Springer 2006, algorithms
///   3.5 and 3.6. <https://doi.org/10.1007/978-0-387-40065-5>
/// - J. J. Moré and D. J. Thuente, Line search algorithms with guaranteed sufficient decrease, ACM
///   Trans. Math. Softw. 20 (1994) 286–307. <https://doi.org/10.1145/192115.192132>
/// - W. W. Hager and H. Zhang, A new conjugate gradient method with guaranteed descent and an
///   efficient line search, SIAM J. Optim. 16 (2005) 170–192. <https://doi.org/10.1137/030601880>
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct LineSearch {
    /// c₁ of sufficient decrease, between 0 and c₂.
    pub c1: f64,
    /// c₂ of the curvature condition, between c₁ and 1.
    pub c2: f64,
    /// Most evaluations of one search.
    pub max_evaluations: usize,
}

impl Default for LineSearch {
    /// c₁ = 10⁻⁴ and c₂ = 0.9, usual for quasi-Newton directions, and 20 evaluations.
    fn default() -> Self {
        Self { c1: 1e-4, c2: 0.9, max_evaluations: 20 }
    }
}

with!(LineSearch {
    with_c1: c1: f64,
    with_c2: c2: f64,
    with_max_evaluations: max_evaluations: usize,
});

/// What a line search found.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Step {
    /// The last trial, at this α, meets the Wolfe conditions (the approximate ones where values
    /// agree to rounding).
    Wolfe(f64),
    /// The lowest trial, at this α, decreases the value sufficiently; the curvature condition may
    /// fail.
    Decrease(f64),
    /// No trial decreases the value sufficiently.
    None,
}

/// A trial: α, φ(α) and φ′(α).
#[derive(Clone, Copy, Debug)]
struct Trial {
    step: f64,
    value: f64,
    slope: f64,
}

/// The far end of the interval.
#[derive(Clone, Copy, Debug)]
enum Far {
    /// None yet: steps grow.
    Open,
    /// A finite trial.
    At(Trial),
    /// φ is infinite at this α.
    Wall(f64),
}

/// Steps grow at least and at most by these factors.
const GROWTH: (f64, f64) = (2.0, 10.0);
/// Trials keep this share of the interval away from its ends.
const MARGIN: f64 = 0.1;
/// Two trials must shrink the interval to this share.
const SHRINK: f64 = 2.0 / 3.0;

impl LineSearch {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Setting`] unless 0 < c₁ < c₂ < 1 and there is at least one evaluation.
    pub fn validate(&self) -> Result<()> {
        fraction("line search c1", self.c1)?;
        fraction("line search c2", self.c2)?;
        if self.c1 >= self.c2 {
            return Err(Error::setting("line search c1", "a number less than c2", self.c1));
        }
        count("line search max_evaluations", self.max_evaluations)
    }

    /// Searches from φ(0) = `value`, φ′(0) = `slope` < 0 with the first trial at α = `first` > 0.
    /// `phi(α)` gives φ(α) and φ′(α), or `None` where φ is infinite. `rounding` is the relative
    /// accuracy of φ, a small multiple of the machine's.
    ///
    /// # Errors
    /// What `phi` returns.
    ///
    /// ```
    /// use rdmm_core::optim::{LineSearch, Step};
    /// let phi = |a: f64| Ok(Some(((a - 3.0).powi(2), 2.0 * (a - 3.0))));
    /// let step = LineSearch::default().search(9.0, -6.0, 0.1, 1e-14, phi)?;
    /// assert!(matches!(step, Step::Wolfe(a) if a > 0.1 && a < 6.0));
    /// # Ok::<(), rdmm_core::Error>(())
    /// ```
    pub fn search(
        &self,
        value: f64,
        slope: f64,
        first: f64,
        rounding: f64,
        mut phi: impl FnMut(f64) -> Result<Option<(f64, f64)>>,
    ) -> Result<Step> {
        let noise = rounding * value.abs();
        let ceiling = |step: f64| value + self.c1 * step * slope;
        let start = Trial { step: 0.0, value, slope };
        let (mut near, mut far) = (start, Far::Open);
        let mut lowest = start;
        // Consecutive infinite trials; widths of the interval after the last two trials.
        let mut walls = 0;
        let mut widths = [f64::INFINITY; 2];
        let mut step = first;
        for _ in 0..self.max_evaluations {
            if !(step.is_finite() && step > 0.0) {
                break;
            }
            let before = near;
            if let Some((value_here, slope_here)) = phi(step)? {
                let trial = Trial { step, value: value_here, slope: slope_here };
                walls = 0;
                if trial.value < lowest.value {
                    lowest = trial;
                }
                let level = (trial.value - value).abs() <= noise;
                if trial.slope.abs() <= self.c2 * slope.abs() {
                    if trial.value <= ceiling(step) || (level && trial.value <= value) {
                        return Ok(Step::Wolfe(step));
                    }
                    if level {
                        break;
                    }
                }
                // The interval keeps φ′(near) (far − near) < 0 and near the lowest sufficient
                // decrease.
                let high = trial.value > ceiling(step) + noise || trial.value > near.value + noise;
                if high {
                    far = Far::At(trial);
                } else {
                    let ahead = match far {
                        Far::Open => 1.0,
                        Far::At(Trial { step, .. }) | Far::Wall(step) => step - near.step,
                    };
                    if trial.slope * ahead >= 0.0 {
                        far = Far::At(near);
                    }
                    near = trial;
                }
            } else {
                walls += 1;
                far = Far::Wall(step);
            }
            step = match far {
                Far::Open => extrapolate(before, near),
                Far::Wall(wall) => {
                    let width = wall - near.step;
                    let decreased = near.step > 0.0 && near.value <= ceiling(near.step);
                    if decreased && width.abs() <= MARGIN * wall {
                        break;
                    }
                    near.step + width * 0.5_f64.powi(walls.max(1))
                }
                Far::At(end) => {
                    let width = (end.step - near.step).abs();
                    if width <= 4.0 * f64::EPSILON * near.step.max(end.step) {
                        break;
                    }
                    let slow = width > SHRINK * widths[0];
                    widths = [widths[1], width];
                    if slow {
                        // The next two trials are measured from here.
                        widths = [f64::INFINITY, width];
                        f64::midpoint(near.step, end.step)
                    } else {
                        interpolate(near, end)
                    }
                }
            };
        }
        if lowest.step > 0.0 && lowest.value <= ceiling(lowest.step) {
            Ok(Step::Decrease(lowest.step))
        } else {
            Ok(Step::None)
        }
    }
}

/// Minimiser of the cubic with the values and slopes of `a` and `b`; NaN where it has none.
/// Nocedal and Wright, eq. 3.59.
fn cubic(a: Trial, b: Trial) -> f64 {
    let d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.step - b.step);
    let d2 = (b.step - a.step).signum() * (d1 * d1 - a.slope * b.slope).sqrt();
    b.step - (b.step - a.step) * (b.slope + d2 - d1) / (b.slope - a.slope + 2.0 * d2)
}

/// A longer step than that of `b`, which follows `a`.
fn extrapolate(a: Trial, b: Trial) -> f64 {
    let (least, most) = (GROWTH.0 * b.step, GROWTH.1 * b.step);
    let step = cubic(a, b);
    // A minimiser that is not ahead says that the cubic still falls at b.
    if step > b.step { step.clamp(least, most) } else { most }
}

/// A step between `near` and `end`, off both.
fn interpolate(near: Trial, end: Trial) -> f64 {
    let width = end.step - near.step;
    let share = (cubic(near, end) - near.step) / width;
    let share = if share.is_nan() { 0.5 } else { share };
    near.step + width * share.clamp(MARGIN, 1.0 - MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Phi = (&'static str, fn(f64) -> (f64, f64));

    /// The first three functions of Moré and Thuente, and some with other traits.
    const FUNCTIONS: [Phi; 7] = [
        ("rational", |a| {
            let d = a * a + 2.0;
            (-a / d, (a * a - 2.0) / (d * d))
        }),
        ("quintic", |a| {
            let b = a + 0.004;
            (b.powi(5) - 2.0 * b.powi(4), 5.0 * b.powi(4) - 8.0 * b.powi(3))
        }),
        ("oscillating", |a| {
            // φ₀ is 1 − a, then a parabola of half width β around 1, then a − 1.
            let (beta, l) = (0.01, 39.0);
            let (v, s) = if a <= 1.0 - beta {
                (1.0 - a, -1.0)
            } else if a >= 1.0 + beta {
                (a - 1.0, 1.0)
            } else {
                ((a - 1.0).powi(2) / (2.0 * beta) + beta / 2.0, (a - 1.0) / beta)
            };
            let w = l * std::f64::consts::FRAC_PI_2;
            let share = 2.0 * (1.0 - beta) / (l * std::f64::consts::PI);
            (v + share * (w * a).sin(), s + share * w * (w * a).cos())
        }),
        ("parabola", |a| ((a - 3.0).powi(2), 2.0 * (a - 3.0))),
        ("quartic", |a| ((a - 1.0).powi(4) - a, 4.0 * (a - 1.0).powi(3) - 1.0)),
        ("flat tail", |a| (1.0 / (1.0 + a) + 1e-3 * a, 1e-3 - (1.0 + a).powi(-2))),
        ("steep", |a| ((20.0 * (a - 0.5)).cosh().ln(), 20.0 * (20.0 * (a - 0.5)).tanh())),
    ];

    #[test]
    fn the_strong_wolfe_conditions_hold() {
        for (name, phi) in FUNCTIONS {
            for c2 in [0.1, 0.5, 0.9] {
                for first in [1e-3, 1e-1, 1.0, 10.0, 1e3] {
                    let settings = LineSearch { c2, ..LineSearch::default() };
                    let (value, slope) = phi(0.0);
                    let mut evaluations = 0;
                    let step = settings
                        .search(value, slope, first, 1e-14, |a| {
                            evaluations += 1;
                            let (v, s) = phi(a);
                            // cosh overflows for long steps: such a trial is infinite.
                            Ok((v.is_finite() && s.is_finite()).then_some((v, s)))
                        })
                        .unwrap();
                    let Step::Wolfe(a) = step else {
                        panic!("{name} from {first}, c2 = {c2}: {step:?}");
                    };
                    let (v, s) = phi(a);
                    assert!(v <= value + 1e-4 * a * slope, "{name}: decrease at {a}");
                    assert!(s.abs() <= c2 * slope.abs(), "{name}: curvature at {a}");
                    assert!(evaluations <= 15, "{name} from {first}: {evaluations}");
                }
            }
        }
    }

    #[test]
    fn a_parabola_is_met_at_once() {
        // The cubic through a parabola is that parabola, so the second trial is its minimiser.
        let settings = LineSearch { c2: 1e-9, ..LineSearch::default() };
        let mut trials = Vec::new();
        let phi = |a: f64| {
            trials.push(a);
            Ok(Some(((a - 3.0).powi(2), 2.0 * (a - 3.0))))
        };
        let step = settings.search(9.0, -6.0, 1.0, 1e-14, phi).unwrap();
        assert!(matches!(step, Step::Wolfe(_)));
        assert_eq!(trials.len(), 2);
    }

    #[test]
    fn infinite_trials_are_left_behind_fast() {
        let mut evaluations = 0;
        let phi = |a: f64| {
            evaluations += 1;
            Ok((a < 1.0)
                .then_some((-a.ln_1p() - (1.0 - a).ln() * 0.9, 0.9 / (1.0 - a) - 1.0 / (1.0 + a))))
        };
        let step = LineSearch::default().search(0.0, -0.1, 1e6, 1e-14, phi).unwrap();
        assert!(matches!(step, Step::Wolfe(a) if a < 1.0), "{step:?}");
        // 2⁻²¹ = ∏ 2⁻ᵏ, k = 1 … 6, takes 10⁶ below 1: seven trials, and a few to finish.
        assert!(evaluations <= 10, "{evaluations}");
    }

    #[test]
    fn a_point_close_to_a_wall_is_taken() {
        let phi = |a: f64| Ok((a < 1.0).then_some((-a, -1.0)));
        let step = LineSearch::default().search(0.0, -1.0, 0.1, 1e-14, phi).unwrap();
        // Within the tenth that the search promises.
        assert!(matches!(step, Step::Decrease(a) if (0.9..1.0).contains(&a)), "{step:?}");
    }

    #[test]
    fn a_search_without_decrease_reports_it() {
        // The slope belongs to another function.
        let mut evaluations = 0;
        let phi = |a: f64| {
            evaluations += 1;
            Ok(Some((a, 1.0)))
        };
        let step = LineSearch::default().search(0.0, -1.0, 1.0, 1e-14, phi).unwrap();
        assert_eq!(step, Step::None);
        assert!(evaluations <= 20);
        let step = LineSearch::default().search(0.0, -1.0, 1.0, 1e-14, |_| Ok(None)).unwrap();
        assert_eq!(step, Step::None);
    }

    #[test]
    fn level_values_are_judged_by_the_slope() {
        // ½ (a − 1)² is lost against 10¹⁶, where the spacing of numbers is 2.
        let phi = |a: f64| Ok(Some((1e16, a - 1.0)));
        let step = LineSearch::default().search(1e16, -1.0, 0.5, 1e-14, phi).unwrap();
        assert!(matches!(step, Step::Wolfe(_)), "{step:?}");
    }

    #[test]
    fn errors_pass_through_and_settings_are_checked() {
        let error = crate::optim::problems::fatal();
        let step = LineSearch::default().search(0.0, -1.0, 1.0, 0.0, |_| Err(error.clone()));
        assert_eq!(step, Err(error));
        for (c1, c2, max_evaluations) in
            [(0.5, 0.4, 9), (0.0, 0.9, 9), (0.1, 1.0, 9), (0.1, 0.9, 0)]
        {
            let settings = LineSearch { c1, c2, max_evaluations };
            assert!(matches!(settings.validate(), Err(Error::Setting { .. })));
        }
    }
}
