//! Tableaux to and from files, by name.
//!
//! The coefficients of a [`Tableau`] are checked by the compiler and live as long as the program, so that files hold the
//! name of a method of this crate. A method of somebody else's is refused when it is written, not when it is read.

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::tableau::{DOPRI5, EULER, HEUN, MIDPOINT, RK4, Tableau};

/// Methods are stored by their names: those of this crate, as one of one's own is a `const`.
const KNOWN: [Tableau; 5] = [EULER, MIDPOINT, HEUN, RK4, DOPRI5];

impl Serialize for Tableau {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if KNOWN.contains(self) {
            return serializer.serialize_str(self.name());
        }
        let name = self.name();
        Err(S::Error::custom(format!(
            "tableau: expected a method of this crate, found {name:?}: store which of yours it is"
        )))
    }
}

impl<'de> Deserialize<'de> for Tableau {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        KNOWN.into_iter().find(|tableau| tableau.name() == name).ok_or_else(|| {
            let names = KNOWN.map(|tableau| tableau.name()).join(", ");
            D::Error::custom(format!("tableau: expected one of {names}, found {name:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tableaux_are_stored_by_name() {
        for tableau in KNOWN {
            let text = serde_json::to_string(&tableau).unwrap();
            assert_eq!(serde_json::from_str::<Tableau>(&text).unwrap(), tableau);
        }
        let error = serde_json::from_str::<Tableau>("\"RK5\"").unwrap_err().to_string();
        assert!(error.contains("dopri5") && error.contains("\"RK5\""), "{error}");
        // Also one that has a name of this crate.
        let own = Tableau::new("RK4", 1, &[&[]], &[1.0], None).unwrap();
        assert!(serde_json::to_string(&own).is_err());
    }
}
