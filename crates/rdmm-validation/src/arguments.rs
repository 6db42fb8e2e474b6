//! Options of the form `--name value`, and flags of the form `--name`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt::Write;
use std::str::FromStr;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The flag that asks for the list of options.
const HELP: &str = "help";

/// The options of this run.
#[derive(Debug, Default)]
pub struct Arguments {
    values: BTreeMap<String, String>,
    flags: BTreeSet<String>,
}

impl Arguments {
    /// The options of the command line, which are among `known`: names, without dashes, and what they
    /// mean. `None` where the list of options was asked for, and is printed.
    pub fn parse(known: &[(&str, &str)]) -> Fallible<Option<Self>> {
        Self::parse_with_flags(known, &[])
    }

    /// The same with `flags`, which take no value.
    pub fn parse_with_flags(
        known: &[(&str, &str)],
        flags: &[(&str, &str)],
    ) -> Fallible<Option<Self>> {
        let mut given = Self::default();
        let list = || list(known.iter().chain(flags));
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let word = if word == "-h" { "--help".to_owned() } else { word };
            let name = word.strip_prefix("--").unwrap_or_default();
            let is_in = |names: &[(&str, &str)]| names.iter().any(|(k, _)| *k == name);
            let twice = || format!("--{name} is given twice");
            if is_in(flags) || name == HELP {
                if !given.flags.insert(name.to_owned()) {
                    return Err(twice().into());
                }
                if given.has(HELP) {
                    println!("{}", list());
                    return Ok(None);
                }
                continue;
            }
            if !is_in(known) {
                return Err(format!("unknown option {word}\n{}", list()).into());
            }
            let Some(value) = words.next() else {
                return Err(format!("--{name} needs a value\n{}", list()).into());
            };
            if given.values.insert(name.to_owned(), value).is_some() {
                return Err(twice().into());
            }
        }
        Ok(Some(given))
    }

    /// Whether a flag is given.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.contains(flag)
    }

    /// The value of an option.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of an option that is `K` numbers with commas between them.
    pub fn numbers<const K: usize>(&self, name: &str) -> Fallible<Option<[f64; K]>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let numbers: Result<Vec<f64>, _> =
            text.split(',').map(|number| number.trim().parse()).collect();
        let numbers = numbers.ok().and_then(|numbers| numbers.try_into().ok());
        let wrong = || format!("--{name}: expected {K} numbers with commas between, found {text}");
        Ok(Some(numbers.ok_or_else(wrong)?))
    }

    /// The value of an option that is a number.
    pub fn number<N: FromStr>(&self, name: &str) -> Fallible<Option<N>> {
        let read = |text: &str| {
            text.parse().map_err(|_| format!("--{name}: expected a number, found {text}").into())
        };
        self.text(name).map(read).transpose()
    }
}

fn list<'a>(known: impl Iterator<Item = &'a (&'a str, &'a str)>) -> String {
    let mut text = String::from("options:");
    for (name, meaning) in known {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  --{name:<15} {meaning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_all_read_or_refused() {
        let read = |text: &str| {
            let values = BTreeMap::from([("at".to_owned(), text.to_owned())]);
            let arguments = Arguments { values, flags: BTreeSet::new() };
            arguments.numbers::<2>("at").map_err(|error| error.to_string())
        };
        assert_eq!(read("1, -2.5"), Ok(Some([1.0, -2.5])));
        for text in ["1,oops,2", "1,2,", "1", "1,2,3", "1,", ""] {
            let said = read(text).unwrap_err();
            assert_eq!(said, format!("--at: expected 2 numbers with commas between, found {text}"));
        }
        assert!(Arguments::default().numbers::<2>("at").unwrap().is_none());
    }
}
