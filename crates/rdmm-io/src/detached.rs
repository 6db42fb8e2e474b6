//! Names of the files with the data of a header: one, a list of them, or a pattern of numbers.

use std::path::{Path, PathBuf};

use crate::error::Problem;

type Result<T> = std::result::Result<T, Problem>;

/// Files with the data, in their order, beside the header. `text` is `LIST` with one name a line in `after`, or a
/// pattern such as `slice%03d.raw 1 20 1` (first, last, step), or one name; a last number, of axes, is passed over:
/// the data follow one another in any case. At most `most` files can have a number each.
pub(crate) fn names(
    what: &'static str,
    text: &str,
    after: &[String],
    header: &Path,
    most: usize,
) -> Result<Vec<PathBuf>> {
    let names = if text.split_whitespace().next() == Some("LIST") {
        let names = after.iter().map(|name| name.trim().to_owned());
        names.filter(|name| !name.is_empty()).collect()
    } else if text.contains('%') {
        pattern(what, text, most)?
    } else {
        vec![text.to_owned()]
    };
    if names.is_empty() || names.len() > most || !most.is_multiple_of(names.len()) {
        let found = format!("{} files for {most} numbers", names.len());
        return Err(Problem::content(what, "files with as many numbers each", found));
    }
    let folder = header.parent().unwrap_or(Path::new(""));
    Ok(names.iter().map(|name| folder.join(name)).collect())
}

/// The names of a pattern.
fn pattern(what: &'static str, text: &str, most: usize) -> Result<Vec<String>> {
    let refused = || {
        let expected = "a pattern such as slice%03d.raw, then first number, last number and step";
        Problem::content(what, expected, text)
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let [pattern, numbers @ ..] = words.as_slice() else { return Err(refused()) };
    let numbers: Option<Vec<i64>> = numbers.iter().map(|word| word.parse().ok()).collect();
    let (first, last, step) = match numbers.as_deref() {
        Some(&[first, last, step] | &[first, last, step, _]) if step != 0 => (first, last, step),
        _ => return Err(refused()),
    };
    let (before, rest) = pattern.split_once('%').ok_or_else(refused)?;
    let (width, behind) = rest.split_once(['d', 'i']).ok_or_else(refused)?;
    if behind.contains('%') {
        return Err(refused());
    }
    let zeros = width.starts_with('0');
    let width: usize = if width.is_empty() { 0 } else { width.parse().map_err(|_| refused())? };
    // More characters than a name can have.
    if width > 255 {
        return Err(refused());
    }
    let mut names = Vec::new();
    let mut number = Some(first);
    while let Some(at) = number.filter(|&at| if step > 0 { at <= last } else { at >= last }) {
        if names.len() == most {
            let found = format!("{text}, of more than {most} files");
            return Err(Problem::content(what, "at most a file a number", found));
        }
        names.push(if zeros {
            format!("{before}{at:0width$}{behind}")
        } else {
            format!("{before}{at:width$}{behind}")
        });
        number = at.checked_add(step);
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, after: &[&str], most: usize) -> std::result::Result<Vec<String>, String> {
        let after: Vec<String> = after.iter().map(|&line| line.to_owned()).collect();
        let found = names("data file", text, &after, Path::new("a/b.nhdr"), most);
        let found = found.map_err(|problem| problem.to_string())?;
        Ok(found.iter().map(|path| path.to_string_lossy().replace('\\', "/")).collect())
    }

    #[test]
    fn names_lists_and_patterns() {
        assert_eq!(found("x y.raw", &[], 6).unwrap(), ["a/x y.raw"]);
        assert_eq!(
            found("LIST", &["p.raw", " q r.raw ", ""], 6).unwrap(),
            ["a/p.raw", "a/q r.raw"]
        );
        assert_eq!(found("LIST 2", &["p.raw"], 6).unwrap(), ["a/p.raw"]);
        assert_eq!(
            found("s%03d.raw 9 11 1", &[], 6).unwrap(),
            ["a/s009.raw", "a/s010.raw", "a/s011.raw"]
        );
        assert_eq!(found("s%d 5 1 -4 2", &[], 6).unwrap(), ["a/s5", "a/s1"]);
        assert_eq!(found("s%3d 5 5 1", &[], 6).unwrap(), ["a/s  5"]);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, after, part) in [
            ("LIST", &[][..], "0 files for 6 numbers"),
            ("LIST", &["a", "b", "c", "d"][..], "4 files for 6 numbers"),
            ("s%03d.raw", &[][..], "pattern"),
            ("s%03d.raw 1 2 0", &[][..], "pattern"),
            ("s%03x.raw 1 2 1", &[][..], "pattern"),
            ("s%d%d.raw 1 2 1", &[][..], "pattern"),
            ("s%999d.raw 1 2 1", &[][..], "pattern"),
            ("s%d.raw 1 9000000000 1", &[][..], "more than 6 files"),
        ] {
            let error = found(text, after, 6).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
