//! Butcher tableaux, checked when they are compiled.

/// An explicit Runge–Kutta method: stages Y_i = y + τ Σ_{j<i} a_ij f(Y_j), result y + τ Σ b_i f(Y_i).
///
/// [`Tableau::new`] verifies the order conditions up to order four, so a typing error in a `const` does
/// not compile. To add a method, add a `const`.
///
/// # References
/// Hairer, Nørsett, Wanner, *Solving Ordinary Differential Equations I*, 1993,
/// doi:10.1007/978-3-540-78862-1, II.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tableau {
    name: &'static str,
    order: u32,
    a: &'static [&'static [f64]],
    b: &'static [f64],
    /// b − b̂ of an embedded method.
    error: Option<&'static [f64]>,
}

/// Why a tableau is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableauError {
    /// Row i of A must hold i entries, b and the error weights one entry a stage.
    #[error("row i of A must hold i entries, b and the error weights one entry a stage")]
    Shape,
    /// The coefficients violate a condition of the stated order.
    #[error("the coefficients violate a condition of the stated order")]
    Order,
    /// Orders other than 1 to 5 are not known.
    #[error("the stated order must lie between 1 and 5")]
    Unknown,
}

/// Tolerance of the order conditions: rounding of sums of a few fractions.
const ROUNDING: f64 = 1e-14;

const fn near(x: f64, y: f64) -> bool {
    (x - y).abs() < ROUNDING
}

impl Tableau {
    /// A method from the lower triangle of A by rows, b, and for an embedded method b − b̂.
    ///
    /// # Errors
    /// [`TableauError`] where shapes or order conditions do not hold. Conditions are checked up to order
    /// four, and the quadrature condition of order five.
    pub const fn new(
        name: &'static str,
        order: u32,
        a: &'static [&'static [f64]],
        b: &'static [f64],
        error: Option<&'static [f64]>,
    ) -> Result<Self, TableauError> {
        if order == 0 || order > 5 {
            return Err(TableauError::Unknown);
        }
        let stages = b.len();
        if a.len() != stages || stages == 0 {
            return Err(TableauError::Shape);
        }
        // Sums of b_i φ_i(c, A) over the rooted trees up to order four.
        let (mut b1, mut bc, mut bc2, mut bac) = (0.0, 0.0, 0.0, 0.0);
        let (mut bc3, mut bcac, mut bac2, mut baac, mut bc4) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let mut i = 0;
        while i < stages {
            if a[i].len() != i {
                return Err(TableauError::Shape);
            }
            let (c, mut ac, mut ac2, mut aac) = (row_sum(a[i]), 0.0, 0.0, 0.0);
            let mut j = 0;
            while j < i {
                let cj = row_sum(a[j]);
                ac += a[i][j] * cj;
                ac2 += a[i][j] * cj * cj;
                let mut k = 0;
                while k < j {
                    aac += a[i][j] * a[j][k] * row_sum(a[k]);
                    k += 1;
                }
                j += 1;
            }
            b1 += b[i];
            bc += b[i] * c;
            bc2 += b[i] * c * c;
            bac += b[i] * ac;
            bc3 += b[i] * c * c * c;
            bcac += b[i] * c * ac;
            bac2 += b[i] * ac2;
            baac += b[i] * aac;
            bc4 += b[i] * c * c * c * c;
            i += 1;
        }
        let first = near(b1, 1.0);
        let second = near(bc, 1.0 / 2.0);
        let third = near(bc2, 1.0 / 3.0) && near(bac, 1.0 / 6.0);
        let fourth = near(bc3, 1.0 / 4.0)
            && near(bcac, 1.0 / 8.0)
            && near(bac2, 1.0 / 12.0)
            && near(baac, 1.0 / 24.0);
        let holds = first
            && (order < 2 || second)
            && (order < 3 || third)
            && (order < 4 || fourth)
            && (order < 5 || near(bc4, 1.0 / 5.0));
        if !holds {
            return Err(TableauError::Order);
        }
        if let Some(error) = error {
            // b and b̂ both sum to one.
            if error.len() != stages {
                return Err(TableauError::Shape);
            }
            if !near(row_sum(error), 0.0) {
                return Err(TableauError::Order);
            }
        }
        Ok(Self { name, order, a, b, error })
    }

    /// The method's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Order of accuracy.
    #[must_use]
    pub fn order(&self) -> u32 {
        self.order
    }

    /// Number of stages.
    #[must_use]
    pub fn stages(&self) -> usize {
        self.b.len()
    }

    /// Rows of A below the diagonal.
    #[must_use]
    pub fn a(&self) -> &'static [&'static [f64]] {
        self.a
    }

    /// Weights b.
    #[must_use]
    pub fn b(&self) -> &'static [f64] {
        self.b
    }

    /// b − b̂ of the embedded method, whose order is one less; `None` where there is none.
    #[must_use]
    pub fn error(&self) -> Option<&'static [f64]> {
        self.error
    }
}

const fn row_sum(row: &[f64]) -> f64 {
    let (mut sum, mut i) = (0.0, 0);
    while i < row.len() {
        sum += row[i];
        i += 1;
    }
    sum
}

/// The tableau of a constant: one that does not hold is a compile error, since it is only called there.
#[expect(clippy::panic, reason = "evaluated by the compiler, in constants only")]
const fn checked(tableau: Result<Tableau, TableauError>) -> Tableau {
    match tableau {
        Ok(tableau) => tableau,
        Err(_) => panic!("the tableau does not hold"),
    }
}

/// Euler's method, order 1.
pub const EULER: Tableau = checked(Tableau::new("Euler", 1, &[&[]], &[1.0], None));

/// The explicit midpoint rule, order 2.
pub const MIDPOINT: Tableau =
    checked(Tableau::new("midpoint", 2, &[&[], &[0.5]], &[0.0, 1.0], None));

/// Heun's method, order 2.
pub const HEUN: Tableau = checked(Tableau::new("Heun", 2, &[&[], &[1.0]], &[0.5, 0.5], None));

/// The classical method of order 4.
pub const RK4: Tableau = checked(Tableau::new(
    "RK4",
    4,
    &[&[], &[0.5], &[0.0, 0.5], &[0.0, 0.0, 1.0]],
    &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
    None,
));

/// Dormand and Prince's pair of orders 5 and 4, doi:10.1016/0771-050X(80)90013-3.
pub const DOPRI5: Tableau = checked(Tableau::new(
    "dopri5",
    5,
    &[
        &[],
        &[1.0 / 5.0],
        &[3.0 / 40.0, 9.0 / 40.0],
        &[44.0 / 45.0, -56.0 / 15.0, 32.0 / 9.0],
        &[19372.0 / 6561.0, -25360.0 / 2187.0, 64448.0 / 6561.0, -212.0 / 729.0],
        &[9017.0 / 3168.0, -355.0 / 33.0, 46732.0 / 5247.0, 49.0 / 176.0, -5103.0 / 18656.0],
        &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0],
    ],
    &[35.0 / 384.0, 0.0, 500.0 / 1113.0, 125.0 / 192.0, -2187.0 / 6784.0, 11.0 / 84.0, 0.0],
    Some(&[
        71.0 / 57600.0,
        0.0,
        -71.0 / 16695.0,
        71.0 / 1920.0,
        -17253.0 / 339_200.0,
        22.0 / 525.0,
        -1.0 / 40.0,
    ]),
));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_tableaux_are_refused() {
        assert_eq!(
            Tableau::new("typo", 2, &[&[], &[0.4]], &[0.0, 1.0], None),
            Err(TableauError::Order)
        );
        assert_eq!(
            Tableau::new("shape", 1, &[&[], &[]], &[0.5, 0.5], None),
            Err(TableauError::Shape)
        );
        assert_eq!(Tableau::new("six", 6, &[&[]], &[1.0], None), Err(TableauError::Unknown));
        let claims_more = Tableau::new("Heun as third", 3, HEUN.a(), HEUN.b(), None);
        assert_eq!(claims_more, Err(TableauError::Order));
    }

    /// Observed order on y' = −2ty² with t as a component of y.
    #[test]
    fn methods_reach_their_order() {
        for tableau in [EULER, MIDPOINT, HEUN, RK4, DOPRI5] {
            let f = |y: [f64; 2]| [-2.0 * y[1] * y[0] * y[0], 1.0];
            let error = |steps: usize| {
                let (mut y, tau) = ([1.0, 0.0], 1.0 / steps as f64);
                for _ in 0..steps {
                    let mut rates: Vec<[f64; 2]> = Vec::new();
                    for row in tableau.a() {
                        let mut at = y;
                        for (&a, k) in row.iter().zip(&rates) {
                            at = [at[0] + tau * a * k[0], at[1] + tau * a * k[1]];
                        }
                        rates.push(f(at));
                    }
                    for (&b, k) in tableau.b().iter().zip(&rates) {
                        y = [y[0] + tau * b * k[0], y[1] + tau * b * k[1]];
                    }
                }
                (y[0] - 0.5).abs()
            };
            let observed = (error(40) / error(80)).log2();
            let expected = f64::from(tableau.order());
            assert!((observed - expected).abs() < 0.2, "{}: {observed}", tableau.name());
        }
    }
}
