//! Modules import only what stands above them in the table of layers of `docs/src/design.md`.
#![expect(clippy::unwrap_used, reason = "a missing file stops the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules in the order of the table, the lowest first.
fn layers(root: &Path) -> Vec<String> {
    let design = fs::read_to_string(root.join("docs/src/design.md")).unwrap();
    let table = design.split("## Layers").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let first_cells = rows.map(|row| row.split(" |").next().unwrap());
    let names = first_cells.flat_map(|cell| cell.split(", "));
    names.map(|name| name.trim_matches(['`', ' ']).replace("` (private)", "")).collect()
}

/// Every source file with the module that it belongs to.
fn files(source: &Path) -> Vec<(String, PathBuf)> {
    let (mut folders, mut files) = (vec![source.to_path_buf()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(source).unwrap();
                let module = inside.iter().next().unwrap().to_str().unwrap();
                files.push((module.trim_end_matches(".rs").to_owned(), path));
            }
        }
    }
    // Unit tests may look wherever they like.
    files.retain(|(module, path)| module != "lib" && !path.ends_with("tests.rs"));
    files
}

/// The modules that code imports, those of comments and unit tests left out.
fn imports(code: &str) -> BTreeSet<&str> {
    let code = code.split("#[cfg(test)]\nmod tests").next().unwrap();
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let after = lines.flat_map(|line| line.split("crate::").skip(1));
    after
        .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
        .collect()
}

#[test]
fn imports_point_up_the_table() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let layers = layers(&root);
    let level = |module: &str| layers.iter().position(|layer| layer == module);
    let mut upside_down = Vec::new();
    let mut seen = 0;
    for (module, path) in files(&root.join("src")) {
        let here = level(&module).unwrap_or_else(|| panic!("{module} is not in the table"));
        let code = fs::read_to_string(&path).unwrap();
        for import in imports(&code) {
            // Items that the root exports again have no level.
            let Some(there) = level(import) else { continue };
            seen += 1;
            if there > here {
                upside_down.push(format!("{} imports {import}", path.display()));
            }
        }
    }
    assert!(seen > 100, "{seen} imports: the parsing is broken");
    assert!(upside_down.is_empty(), "{upside_down:#?}");
}

#[test]
fn every_module_of_the_library_is_in_the_table() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let library = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let declared = library.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';')
    });
    let declared: BTreeSet<String> = declared.map(str::to_owned).collect();
    assert_eq!(declared, layers(&root).into_iter().collect());
}
