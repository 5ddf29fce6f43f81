//! The rule packs that ship with genmake, as files of a tree of their own: `builtin:NAME/…`. Their rules are in `rules/NAME.yaml`
//! of the repository, their templates in `templates/NAME/`.
//!
//! Knows nothing of what is in them.

use crate::path::{RelPath, SHIPPED};

/// What the name of a pack starts with.
pub const PREFIX: &str = SHIPPED;

/// The file in which a pack declares its variables and rules.
const RULES: &str = "rules.yaml";

/// Pack, file, text.
const FILES: &[(&str, &str, &str)] = &[
    ("go", RULES, include_str!("../rules/go.yaml")),
    ("go", "Dockerfile.hbs", include_str!("../templates/go/Dockerfile.hbs")),
    ("go", "Makefile.hbs", include_str!("../templates/go/Makefile.hbs")),
    ("go", "README.md.hbs", include_str!("../templates/go/README.md.hbs")),
    ("go", "ci.yml.hbs", include_str!("../templates/go/ci.yml.hbs")),
    ("go", "gitignore.hbs", include_str!("../templates/go/gitignore.hbs")),
    ("go", "go.mod.hbs", include_str!("../templates/go/go.mod.hbs")),
    ("node", RULES, include_str!("../rules/node.yaml")),
    ("node", "Dockerfile.hbs", include_str!("../templates/node/Dockerfile.hbs")),
    ("node", "Makefile.hbs", include_str!("../templates/node/Makefile.hbs")),
    ("node", "README.md.hbs", include_str!("../templates/node/README.md.hbs")),
    ("node", "ci.yml.hbs", include_str!("../templates/node/ci.yml.hbs")),
    ("node", "gitignore.hbs", include_str!("../templates/node/gitignore.hbs")),
    ("node", "package.json.hbs", include_str!("../templates/node/package.json.hbs")),
    ("project", RULES, include_str!("../rules/project.yaml")),
    ("project", "LICENSE.hbs", include_str!("../templates/project/LICENSE.hbs")),
    ("project", "bsd-3-clause.hbs", include_str!("../templates/project/bsd-3-clause.hbs")),
    ("project", "editorconfig.hbs", include_str!("../templates/project/editorconfig.hbs")),
    ("project", "gitattributes.hbs", include_str!("../templates/project/gitattributes.hbs")),
    ("project", "mit.hbs", include_str!("../templates/project/mit.hbs")),
    ("project", "apache-2.hbs", include_str!("../LICENSE-APACHE")),
    ("python", RULES, include_str!("../rules/python.yaml")),
    ("python", "Dockerfile.hbs", include_str!("../templates/python/Dockerfile.hbs")),
    ("python", "Makefile.hbs", include_str!("../templates/python/Makefile.hbs")),
    ("python", "README.md.hbs", include_str!("../templates/python/README.md.hbs")),
    ("python", "ci.yml.hbs", include_str!("../templates/python/ci.yml.hbs")),
    ("python", "gitignore.hbs", include_str!("../templates/python/gitignore.hbs")),
    ("python", "pyproject.toml.hbs", include_str!("../templates/python/pyproject.toml.hbs")),
    ("rust", RULES, include_str!("../rules/rust.yaml")),
    ("rust", "Cargo.toml.hbs", include_str!("../templates/rust/Cargo.toml.hbs")),
    ("rust", "Dockerfile.hbs", include_str!("../templates/rust/Dockerfile.hbs")),
    ("rust", "Makefile.hbs", include_str!("../templates/rust/Makefile.hbs")),
    ("rust", "README.md.hbs", include_str!("../templates/rust/README.md.hbs")),
    ("rust", "ci.yml.hbs", include_str!("../templates/rust/ci.yml.hbs")),
    ("rust", "gitignore.hbs", include_str!("../templates/rust/gitignore.hbs")),
];

/// Sources that a new project starts with: pack, path as an expression over the variables, template.
const SOURCES: &[(&str, &str, &str)] = &[
    ("go", "cmd/{{vars.name}}/main.go", include_str!("../templates/go/start/main.go.hbs")),
    ("go", "internal/greeting/greeting.go", include_str!("../templates/go/start/greeting.go.hbs")),
    ("go", "internal/greeting/greeting_test.go", include_str!("../templates/go/start/greeting_test.go.hbs")),
    ("node", "src/main.js", include_str!("../templates/node/start/main.js.hbs")),
    ("node", "src/greeting.js", include_str!("../templates/node/start/greeting.js.hbs")),
    ("node", "test/greeting.test.js", include_str!("../templates/node/start/greeting.test.js.hbs")),
    ("python", "{{snake_case vars.name}}/__init__.py", include_str!("../templates/python/start/init.py.hbs")),
    ("python", "{{snake_case vars.name}}/__main__.py", include_str!("../templates/python/start/main.py.hbs")),
    ("python", "tests/__init__.py", include_str!("../templates/python/start/tests_init.py.hbs")),
    ("python", "tests/test_greeting.py", include_str!("../templates/python/start/test_greeting.py.hbs")),
    ("rust", "src/main.rs", include_str!("../templates/rust/start/main.rs.hbs")),
    ("rust", "src/lib.rs", include_str!("../templates/rust/start/lib.rs.hbs")),
];

/// Pack, and the variables that a new Genfile shows, with comments.
const VARS: &[(&str, &str)] = &[
    ("go", include_str!("../templates/go/start/vars.yaml")),
    ("node", include_str!("../templates/node/start/vars.yaml")),
    ("project", include_str!("../templates/project/start/vars.yaml")),
    ("python", include_str!("../templates/python/start/vars.yaml")),
    ("rust", include_str!("../templates/rust/start/vars.yaml")),
];

/// The names of all packs.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().filter(|(_, file, _)| *file == RULES).map(|(pack, ..)| *pack)
}

/// Where a pack's rules are; `None` if there is no such pack.
pub fn rules_of(pack: &str) -> Option<RelPath> {
    names().find(|name| *name == pack).and_then(|name| RelPath::new(&format!("{PREFIX}{name}/{RULES}")).ok())
}

/// Whether a path lies among the packs, and so on no disk.
pub fn is_shipped(path: &str) -> bool {
    path.starts_with(PREFIX)
}

/// The text of a pack's file; `None` if there is none of that name.
pub fn text(path: &RelPath) -> Option<&'static str> {
    let (pack, file) = path.as_str().strip_prefix(PREFIX)?.split_once('/')?;
    FILES.iter().find(|(name, other, _)| *name == pack && *other == file).map(|(.., text)| *text)
}

/// The files of all packs, in byte order.
pub fn paths() -> Vec<RelPath> {
    let path = |(pack, file, _): &(&str, &str, &str)| RelPath::new(&format!("{PREFIX}{pack}/{file}")).ok();
    let mut paths: Vec<RelPath> = FILES.iter().filter_map(path).collect();
    paths.sort();
    paths
}

/// The sources that a new project starts with: path and text, both templates over the pack's variables.
pub fn sources(pack: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    SOURCES.iter().filter(move |(name, ..)| *name == pack).map(|(_, path, text)| (*path, *text))
}

/// The variables that a new Genfile shows, as lines of its `vars`.
pub fn vars(pack: &str) -> &'static str {
    VARS.iter().find(|(name, _)| *name == pack).map_or("", |(_, text)| *text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn texts(folder: &Path, into: &mut Vec<(String, String)>) {
        for entry in fs_err::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => texts(&path, into),
                false => into.push((path.display().to_string(), fs_err::read_to_string(&path).unwrap())),
            }
        }
    }

    #[test]
    fn every_file_of_a_pack_is_shipped() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut rules = Vec::new();
        texts(&root.join("rules"), &mut rules);
        rules.retain(|(path, _)| !path.ends_with("starter.yaml"));
        assert_eq!(rules.len(), names().count(), "a pack is a file in rules/");
        for pack in names() {
            let mut found = Vec::new();
            texts(&root.join("templates").join(pack), &mut found);
            let file = format!("{pack}.yaml");
            found.extend(rules.iter().filter(|(path, _)| path.ends_with(&file)).cloned());
            let mut shipped: Vec<&str> =
                FILES.iter().filter(|(name, ..)| *name == pack).map(|(.., text)| *text).collect();
            shipped.extend(sources(pack).map(|(_, text)| text));
            shipped.push(vars(pack));
            for (path, text) in found {
                assert!(shipped.contains(&text.as_str()), "{path} is not in the tables");
            }
        }
        let of_no_pack = |folder: &str| !names().chain(["partials", "starter"]).any(|name| name == folder);
        for entry in fs_err::read_dir(root.join("templates")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!of_no_pack(&name), "templates/{name} belongs to no pack");
        }
    }
}
