//! Time steps: explicit Runge–Kutta methods, the transport of maps, and the choice of step sizes.

pub mod control;
pub mod runge_kutta;
#[cfg(feature = "serde")]
mod stored;
pub mod tableau;

pub use control::Steps;
pub use runge_kutta::{MapTransport, Stepper};
pub use tableau::{DOPRI5, EULER, HEUN, MIDPOINT, RK4, Tableau};
