//! The book under `docs/`: every page is in its table of contents and among the documentation tests,
//! and links, included formulas and code blocks are what they should be.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a missing page stops the test")]

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The pages as paths relative to `docs/src`, with their text.
fn pages() -> Vec<(String, String)> {
    let source = root().join("docs/src");
    let (mut folders, mut pages) = (vec![source.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                let name = path.strip_prefix(&source).unwrap();
                pages.push((name.to_str().unwrap().replace('\\', "/"), read(&path)));
            }
        }
    }
    pages.retain(|(name, _)| name != "SUMMARY.md");
    assert!(!pages.is_empty());
    pages
}

#[test]
fn every_page_is_listed_and_its_code_is_tested() {
    let summary = read(&root().join("docs/src/SUMMARY.md"));
    let library = read(&root().join("src/lib.rs"));
    for (name, _) in pages() {
        assert!(summary.contains(&format!("({name})")), "{name} is not in SUMMARY.md");
        let include = format!("include_str!(\"../docs/src/{name}\")");
        assert!(library.contains(&include), "{name} is not in the module `book` of src/lib.rs");
    }
}

#[test]
fn relative_links_and_included_files_exist() {
    let source = root().join("docs/src");
    let summary = ("SUMMARY.md".to_owned(), read(&source.join("SUMMARY.md")));
    for (name, text) in pages().into_iter().chain([summary]) {
        let page = source.join(&name);
        let folder = page.parent().unwrap();
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://"));
        for link in links {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { folder.join(file) };
            assert!(target.is_file(), "{name}: {link} does not exist");
            if !anchor.is_empty() {
                let found = read(&target).lines().any(|line| heading(line) == Some(anchor.into()));
                assert!(found, "{name}: {link} names no heading");
            }
        }
        let includes = text.split("{{#include ").skip(1).filter_map(|rest| rest.split('}').next());
        for include in includes {
            assert!(folder.join(include).is_file(), "{name}: {include} does not exist");
        }
    }
}

/// The anchor that mdBook gives a heading.
fn heading(line: &str) -> Option<String> {
    let title = line.starts_with('#').then(|| line.trim_start_matches('#').trim())?;
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect())
}

#[test]
fn code_blocks_say_what_they_are() {
    for (name, text) in pages() {
        let fences = text.lines().filter(|line| line.starts_with("```"));
        for (at, fence) in fences.enumerate() {
            // A block of no stated language is Rust for rustdoc and nothing for mdBook.
            let language = fence.trim_start_matches('`').split(',').next().unwrap_or("");
            let known = ["rust", "text", "sh", "toml"].contains(&language);
            assert!(if at % 2 == 0 { known } else { language.is_empty() }, "{name}: {fence}");
        }
    }
}

#[test]
fn every_formula_is_rendered_on_one_line() {
    let folder = root().join("docs/math");
    let formulas = read(&folder.join("formulas.txt"));
    let lines = formulas.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
    for line in lines {
        let (name, _) = line.split_once(" = ").unwrap();
        let html = read(&folder.join(format!("{name}.html")));
        let one = html.starts_with("<math display=\"block\">") && html.ends_with("</math>");
        assert!(one && !html.contains('\n'), "{name}: run docs/math/render.py");
    }
}

/// The part of a file between its anchors.
fn anchored(path: &Path, name: &str) -> String {
    let text = read(path);
    let (begin, end) = (format!("// ANCHOR: {name}\n"), format!("// ANCHOR_END: {name}\n"));
    let inside = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    let missing = || panic!("{}: expected {} and its end", path.display(), begin.trim_end());
    inside.unwrap_or_else(missing).0.to_owned()
}

#[test]
fn quoted_code_is_that_of_its_file() {
    if !root().join("tests/downstream").is_dir() {
        // The package of the core holds no other crate.
        return;
    }
    let mut quotes = 0;
    for (name, text) in pages() {
        let mark = "<!-- tests/";
        for (at, _) in text.match_indices(mark) {
            let (what, rest) = text[at + mark.len()..].split_once(" -->").unwrap();
            let (file, anchor) = what.split_once(' ').unwrap();
            let block = rest.split("```").nth(1).unwrap();
            let code = anchored(&root().join("tests").join(file), anchor);
            assert!(block.contains(&code), "{name}: the block is not that of tests/{what}");
            quotes += 1;
        }
    }
    assert!(quotes >= 5, "{quotes} quotes");
}
