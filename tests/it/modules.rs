//! The walls between modules, as the table in `docs/ARCHITECTURE.md` has them: who may name whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Names = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The table between the two comments: a module, and those it may name.
fn allowed() -> Names {
    let text = fs_err::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("the map");
    let table = text.split("<!-- modules -->").nth(1).and_then(|rest| rest.split("<!-- /modules -->").next());
    let mut allowed = Names::new();
    for line in table.expect("a table between the comments").lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [module, may] = cells[..] else { panic!("two columns: {line}") };
        let module = module.trim_matches('`');
        if module == "module" || module.starts_with('-') {
            continue;
        }
        let names = may.split(',').map(|name| name.trim().trim_matches('`')).filter(|name| !name.is_empty());
        allowed.insert(module.to_owned(), names.filter(|name| *name != "nothing").map(str::to_owned).collect());
    }
    allowed
}

/// What each module names outside of its tests.
fn named() -> Names {
    let mut named = Names::new();
    let src = root().join("src");
    for file in files(&src) {
        let path = file.strip_prefix(&src).expect("below src");
        let first = path.iter().next().and_then(|part| part.to_str()).expect("a name");
        let module = first.trim_end_matches(".rs").to_owned();
        let text = fs_err::read_to_string(&file).expect("source");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        let code = code.split("#[cfg(all(test").next().unwrap_or_default();
        let code: String =
            code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
        assert!(!code.contains("crate::{"), "{}: one `use crate::…` a module", path.display());
        let names = named.entry(module.clone()).or_default();
        for rest in code.split("crate::").skip(1) {
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if !name.is_empty() && name != module {
                names.insert(name);
            }
        }
    }
    named
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs_err::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false if path.extension().is_some_and(|ext| ext == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

/// These stand above all walls.
const NAME_ALL: [&str; 2] = ["lib", "main"];

#[test]
fn nobody_names_what_stands_below() {
    let (allowed, named) = (allowed(), named());
    let mut wrong = Vec::new();
    for (module, names) in named.iter().filter(|(module, _)| !NAME_ALL.contains(&module.as_str())) {
        let Some(may) = allowed.get(module) else {
            wrong.push(format!("`{module}` is not in the table"));
            continue;
        };
        wrong.extend(names.difference(may).map(|name| format!("`{module}` names `{name}`")));
        wrong.extend(
            may.difference(names).map(|name| format!("`{module}` may name `{name}` and does not: take it out")),
        );
    }
    wrong.extend(allowed.keys().filter(|module| !named.contains_key(*module)).map(|m| format!("no module `{m}`")));
    assert!(wrong.is_empty(), "docs/ARCHITECTURE.md and src/ disagree:\n{}", wrong.join("\n"));
}

#[test]
fn the_table_has_no_cycle() {
    let allowed = allowed();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    while done.len() < allowed.len() {
        let next: Vec<&str> = allowed
            .iter()
            .filter(|(module, may)| {
                !done.contains(module.as_str()) && may.iter().all(|name| done.contains(name.as_str()))
            })
            .map(|(module, _)| module.as_str())
            .collect();
        let open: Vec<&String> = allowed.keys().filter(|module| !done.contains(module.as_str())).collect();
        assert!(!next.is_empty() || open.iter().all(|m| NAME_ALL.contains(&m.as_str())), "a cycle among {open:?}");
        if next.is_empty() {
            break;
        }
        done.extend(next);
    }
}

#[test]
fn no_file_collects() {
    let src = root().join("src");
    for file in files(&src) {
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(!["util", "utils", "common", "misc", "imp", "helper"].contains(&name), "{}", file.display());
        let text = fs_err::read_to_string(&file).expect("source");
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().lines().count();
        assert!(code <= 600, "{}: {code} lines before its tests; which second idea moved in?", file.display());
        assert!(text.starts_with("//!"), "{}: the first line says what it is", file.display());
    }
}

#[test]
fn every_test_file_is_in_the_binary() {
    let folder = root().join("tests/it");
    let main = fs_err::read_to_string(folder.join("main.rs")).expect("main.rs");
    for file in files(&folder) {
        if file.parent() != Some(folder.as_path()) {
            continue;
        }
        let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(
            name == "main" || main.contains(&format!("mod {name};")),
            "`mod {name};` is missing in tests/it/main.rs"
        );
    }
}
