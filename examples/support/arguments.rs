//! Options of the form `--name value`.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::str::FromStr;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// The options of this run.
#[derive(Debug, Default)]
pub(crate) struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// The options of the command line, which are among `known`: names, without dashes, and what they
    /// mean. `None` where the list of options was asked for, and is printed.
    pub(crate) fn parse(known: &[(&str, &str)]) -> Fallible<Option<Self>> {
        let mut given = BTreeMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                println!("{}", list(known));
                return Ok(None);
            }
            let name = word.strip_prefix("--").filter(|name| known.iter().any(|(k, _)| k == name));
            let Some(name) = name else {
                return Err(format!("unknown option {word}\n{}", list(known)).into());
            };
            let Some(value) = words.next() else {
                return Err(format!("--{name} needs a value\n{}", list(known)).into());
            };
            if given.insert(name.to_owned(), value).is_some() {
                return Err(format!("--{name} is given twice").into());
            }
        }
        Ok(Some(Self(given)))
    }

    /// The value of an option.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of an option that is `K` numbers with commas between them.
    pub(crate) fn numbers<const K: usize>(&self, name: &str) -> Fallible<Option<[f64; K]>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let numbers: Vec<f64> =
            text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
        let wrong = || format!("--{name}: expected {K} numbers with commas between, found {text}");
        Ok(Some(numbers.try_into().map_err(|_| wrong())?))
    }

    /// The value of an option that is a number.
    pub(crate) fn number<N: FromStr>(&self, name: &str) -> Fallible<Option<N>> {
        let read = |text: &str| {
            text.parse().map_err(|_| format!("--{name}: expected a number, found {text}").into())
        };
        self.text(name).map(read).transpose()
    }
}

fn list(known: &[(&str, &str)]) -> String {
    let mut text = String::from("options:");
    for (name, meaning) in known {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  --{name:<15} {meaning}");
    }
    text
}
