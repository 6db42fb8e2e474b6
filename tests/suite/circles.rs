//! No file imports one that imports it, straight or by way of others.
//!
//! An import is a path in code that leads to another file of the same crate, written out or in a `use`, through
//! modules that hand names on. `mod` lines and names that are handed on (`pub use`) import nothing, and unit tests
//! may look wherever they like.
#![expect(clippy::unwrap_used, reason = "a missing file stops the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A path in code, such as `["crate", "grid", "Grid"]`.
type Names = Vec<String>;

/// A source file, by what its code says.
struct File {
    path: String,
    /// Module path from the root of the crate, which is empty.
    module: Names,
    /// What is written out or used.
    imports: BTreeSet<Names>,
    /// Names that are handed on, and from where.
    doors: Vec<(String, Names)>,
    /// Whether an item of this name is defined here.
    defines: BTreeSet<String>,
}

/// The code without unit tests, comments and the content of strings.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    let mut code = String::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap();
        let quoted = line.split('"').step_by(2);
        code.extend(quoted.chain(["\n"]));
    }
    code
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

/// The paths of a `use` tree: `a::{b, c::d as e}` gives a::b and a::c::d, with the names that they get.
fn leaves(tree: &str, before: &Names, found: &mut Vec<(String, Names)>) {
    let tree = tree.trim();
    if let Some((head, rest)) = tree.split_once('{') {
        let mut start = before.clone();
        start.extend(words(head).map(str::to_owned));
        let inside = rest.trim_end().strip_suffix('}').unwrap_or(rest);
        let (mut depth, mut part) = (0, String::new());
        for c in inside.chars().chain([',']) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if c == ',' && depth == 0 {
                leaves(&std::mem::take(&mut part), &start, found);
            } else {
                part.push(c);
            }
        }
        return;
    }
    let (path, alias) = tree.split_once(" as ").map_or((tree, None), |(p, a)| (p, Some(a.trim())));
    let mut names = before.clone();
    names.extend(words(path).filter(|word| *word != "self").map(str::to_owned));
    if path.ends_with('*') {
        found.push(("*".to_owned(), names));
    } else if let Some(last) = names.last().cloned() {
        found.push((alias.map_or(last, str::to_owned), names));
    }
}

/// The paths of the code that begin with one of `starts`.
fn written_out(code: &str, starts: &BTreeSet<&str>) -> BTreeSet<Names> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("::") {
        let before = &code[..at];
        let start = before.rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |i| i + 1);
        let is_first = !before[..start].ends_with("::");
        if is_first && starts.contains(&before[start..]) {
            let whole = &code[start..];
            let end = whole.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
            found.insert(words(&whole[..end.unwrap_or(whole.len())]).map(str::to_owned).collect());
        }
    }
    found
}

impl File {
    fn of(path: &Path, source: &Path) -> Self {
        let inside = path.strip_prefix(source).unwrap().with_extension("");
        let mut module: Names =
            inside.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
        module.retain(|name| !["lib", "main", "mod"].contains(&name.as_str()));
        let text = fs::read_to_string(path).unwrap();
        let code = code(&text);
        let (mut used, mut doors, mut rest) = (Vec::new(), Vec::new(), String::new());
        let mut children = BTreeSet::from(["crate", "super", "self"]);
        let mut left = code.as_str();
        // A `use` begins a line, and its tree may go over several.
        while let Some((line, after)) = left.split_once('\n') {
            let plain = line.trim_start();
            let (public, item) = match plain.strip_prefix("pub") {
                Some(item) => (true, item.trim_start_matches(|c| c != ' ').trim_start()),
                None => (false, plain),
            };
            if let Some(name) = item.strip_prefix("mod ").and_then(|name| name.strip_suffix(';')) {
                children.insert(name);
            }
            if item.starts_with("use ") {
                let from = left.find("use ").unwrap() + 4;
                let length = left[from..].find(';').unwrap();
                let into = if public { &mut doors } else { &mut used };
                leaves(&left[from..from + length], &Vec::new(), into);
                left = &left[from + length + 1..];
            } else {
                rest.push_str(line);
                rest.push('\n');
                left = after;
            }
        }
        let mut imports = written_out(&rest, &children);
        imports.extend(used.into_iter().map(|(_, names)| names));
        let kinds = ["struct", "enum", "trait", "fn", "const", "type", "static", "union"];
        let pairs = words(&rest).zip(words(&rest).skip(1));
        let defines = pairs.filter(|(kind, _)| kinds.contains(kind));
        let defines = defines.map(|(_, name)| name.to_owned()).collect();
        let path = path.to_str().unwrap().to_owned();
        Self { path, module, imports, doors, defines }
    }
}

/// All files of a crate but those of unit tests.
fn files(source: &Path) -> Vec<File> {
    let (mut folders, mut found) = (vec![source.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.file_stem().is_some_and(|name| name == "tests") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push(File::of(&path, source));
            }
        }
    }
    found
}

/// The files of a crate by their modules.
struct House {
    files: Vec<File>,
    modules: BTreeMap<Names, usize>,
}

impl House {
    fn of(source: &Path) -> Self {
        let files = files(source);
        let modules = files.iter().enumerate().map(|(i, file)| (file.module.clone(), i)).collect();
        Self { files, modules }
    }

    /// The file that defines what a path in the code of a file names; `None` for other crates.
    fn target(&self, from: usize, path: &[String]) -> Option<usize> {
        let file = &self.files[from];
        let mut whole = file.module.clone();
        let mut rest = path;
        let is_child = |name: &String| {
            let mut child = file.module.clone();
            child.push(name.clone());
            self.modules.contains_key(&child)
        };
        match path.first()?.as_str() {
            "crate" => whole.clear(),
            "self" => {}
            "super" => whole.truncate(whole.len().saturating_sub(1)),
            _ if is_child(&path[0]) => whole.push(path[0].clone()),
            _ => return None,
        }
        rest = &rest[1..];
        while rest.first().is_some_and(|name| name == "super") {
            whole.pop();
            rest = &rest[1..];
        }
        while let Some(name) = rest.first() {
            whole.push(name.clone());
            if !self.modules.contains_key(&whole) {
                whole.pop();
                break;
            }
            rest = &rest[1..];
        }
        let at = *self.modules.get(&whole)?;
        let Some(name) = rest.first() else { return Some(at) };
        self.behind_door(at, name).or(Some(at))
    }

    /// Where a module has a name from that it hands on.
    fn behind_door(&self, at: usize, name: &str) -> Option<usize> {
        let doors = &self.files[at].doors;
        let exact = doors.iter().find(|(handed, _)| handed == name);
        if let Some((_, path)) = exact {
            return self.target(at, path);
        }
        let whole = doors.iter().filter(|(handed, _)| handed == "*");
        whole
            .filter_map(|(_, path)| self.target(at, path))
            .find(|&there| self.files[there].defines.contains(name))
    }

    /// What each file imports, with a path that says so.
    fn arrows(&self) -> Vec<BTreeMap<usize, String>> {
        let of = |from: usize| {
            let paths = self.files[from].imports.iter();
            let there = paths.filter_map(|path| Some((self.target(from, path)?, path.join("::"))));
            there.filter(|(to, _)| *to != from).collect()
        };
        (0..self.files.len()).map(of).collect()
    }
}

/// The files that can be reached from a file by one arrow or more.
fn reached(arrows: &[BTreeMap<usize, String>], from: usize) -> BTreeSet<usize> {
    let (mut open, mut seen) = (vec![from], BTreeSet::new());
    while let Some(at) = open.pop() {
        open.extend(arrows[at].keys().filter(|&&to| seen.insert(to)));
    }
    seen
}

#[test]
fn no_two_files_import_each_other() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let crates = ["src", "crates/rdmm-io/src", "crates/rdmm-cli/src", "crates/rdmm-validation/src"];
    let mut circles = Vec::new();
    for source in crates.map(|source| root.join(source)) {
        if !source.is_dir() {
            // The package of the core holds no other crate.
            continue;
        }
        let house = House::of(&source);
        let arrows = house.arrows();
        let count: usize = arrows.iter().map(BTreeMap::len).sum();
        assert!(
            count > house.files.len() / 2,
            "{source:?}, {count} imports: the parsing is broken"
        );
        let reached: Vec<_> = (0..arrows.len()).map(|from| reached(&arrows, from)).collect();
        for (from, to) in arrows.iter().enumerate() {
            for (&to, path) in to.iter().filter(|(to, _)| reached[**to].contains(&from)) {
                let [from, to] = [from, to].map(|file| &house.files[file].path);
                circles.push(format!("{from} -> {to}: {path}"));
            }
        }
    }
    assert!(circles.is_empty(), "circles: {circles:#?}");
}
