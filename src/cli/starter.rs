//! What `init --pack` writes: a Genfile that includes the packs, and sources to start from.
//!
//! Pure: which files are there is asked through a function. The sources are the person's from the first day; what the packs'
//! rules make, a build makes.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use heck::ToKebabCase;
use serde_json::json;

use crate::error::{Code, Error, Errors, did_you_mean};
use crate::expr::Template;
use crate::manifest::{self, Manifest};
use crate::packs;
use crate::path::RelPath;

/// The Genfile of a project made of packs.
const GENFILE: &str = include_str!("../../templates/starter/packs.hbs");

/// What a project starts with.
#[derive(Debug)]
pub(super) struct Start {
    /// What is written, the Genfile first.
    pub files: Vec<(RelPath, String)>,
    /// What a person should know of it.
    pub notes: Vec<String>,
}

/// A pack, and the rules that are taken of it; none are named where all are.
struct Taken {
    pack: &'static str,
    only: Vec<String>,
}

/// Decides what a project of these packs starts with. `name` is the project's, `exists` tells what is there already.
///
/// A file that two packs make is the first one's; of the second the other rules are taken. What is there already stays the
/// person's: it goes into `by_hand`, and a pack whose module file is there gets no sources.
///
/// # Errors
/// [`Code::Usage`] for each name that is no pack's.
pub(super) fn start(names: &[String], name: &str, exists: &dyn Fn(&str) -> bool) -> Result<Start, Errors> {
    let mut maker: BTreeMap<String, (&'static str, String)> = BTreeMap::new();
    let mut taken: Vec<Taken> = Vec::new();
    let mut notes = Vec::new();
    for pack in known(names)? {
        let (mut only, mut left_out) = (Vec::new(), Vec::new());
        for (rule, output) in outputs(pack)? {
            match maker.entry(output) {
                Entry::Occupied(other) => left_out.push(other.key().clone()),
                Entry::Vacant(free) => {
                    free.insert((pack, rule.clone()));
                    only.push(rule);
                }
            }
        }
        if left_out.is_empty() {
            only.clear();
        } else {
            let (rules, files) = (only.join("`, `"), left_out.join("`, `"));
            notes.push(format!("of `{pack}` only `{rules}` is taken: a pack before it makes `{files}`"));
        }
        taken.push(Taken { pack, only });
    }
    let by_hand: Vec<&str> = maker.keys().map(String::as_str).filter(|file| exists(file)).collect();
    if !by_hand.is_empty() {
        notes.push(format!("left as they are, and named in `by_hand`: `{}`", by_hand.join("`, `")));
    }
    let genfile = genfile(&taken, name, &by_hand)?;
    let scope = json!({ "vars": load(&genfile)?.vars });
    let mut files = vec![(path("Genfile")?, genfile)];
    let is_of_project =
        |pack: &str| maker.iter().any(|(file, (by, rule))| *by == pack && is_module(pack, rule) && exists(file));
    for pack in taken.iter().map(|taken| taken.pack).filter(|pack| !is_of_project(pack)) {
        for (file, text) in packs::sources(pack) {
            files.push((path(&rendered(file, &scope)?)?, rendered(text, &scope)?));
        }
    }
    Ok(Start { files, notes })
}

/// The name of a project in a folder of that name: what every language takes for a name.
pub(super) fn project_name(folder: &str) -> String {
    let name: String = folder.to_kebab_case().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
    let name = name.trim_start_matches(|c: char| !c.is_ascii_alphabetic()).trim_end_matches('-');
    if name.is_empty() { "app".to_owned() } else { name.to_owned() }
}

/// The packs of these names, each once.
fn known(names: &[String]) -> Result<Vec<&'static str>, Errors> {
    let mut known = Vec::new();
    let mut found = Vec::new();
    for name in names {
        match packs::names().find(|pack| pack == name) {
            Some(pack) if !known.contains(&pack) => known.push(pack),
            Some(_) => {}
            None => found.push(
                Error::new(Code::Usage, format!("genmake ships no pack `{name}`"))
                    .hint_if(did_you_mean(name, packs::names()))
                    .hint(format!("there is `{}`", packs::names().collect::<Vec<_>>().join("`, `"))),
            ),
        }
    }
    Errors::unless_empty(found)?;
    Ok(known)
}

/// A pack's rules with what they make.
fn outputs(pack: &str) -> Result<Vec<(String, String)>, Errors> {
    let manifest = load(&format!("version: 1\ninclude: [\"{}{pack}\"]\nrules: {{}}\n", packs::PREFIX))?;
    let outputs = |rule: &manifest::Rule| {
        let paths = rule.outputs.iter().map(|(_, path)| (rule.name.clone(), path.text().to_owned()));
        paths.collect::<Vec<_>>()
    };
    Ok(manifest.rules.iter().flat_map(outputs).collect())
}

/// Whether a rule makes the file in which a pack's language describes a project.
fn is_module(pack: &str, rule: &str) -> bool {
    rule.strip_prefix(pack) == Some("-module")
}

fn genfile(taken: &[Taken], name: &str, by_hand: &[&str]) -> Result<String, Error> {
    let packs: Vec<_> = taken.iter().map(|taken| json!({ "name": taken.pack, "only": taken.only })).collect();
    let own_vars: String = taken.iter().map(|taken| packs::vars(taken.pack)).collect();
    let scope = json!({ "packs": packs, "name": name, "own_vars": own_vars.trim_end(), "by_hand": by_hand });
    rendered(GENFILE, &scope)
}

/// A Genfile's model, where nothing but packs can be included.
fn load(genfile: &str) -> Result<Manifest, Errors> {
    let text = |path: RelPath| packs::text(&path).map(|text| (path, Arc::from(text.as_bytes())));
    let files: HashMap<RelPath, Arc<[u8]>> = packs::paths().into_iter().filter_map(text).collect();
    let (manifest, found) = manifest::load("Genfile", genfile, &files)?;
    Errors::unless_empty(found)?;
    Ok(manifest)
}

fn rendered(text: &str, scope: &serde_json::Value) -> Result<String, Error> {
    let template = Template::new(text, &[]).and_then(|template| template.render(scope));
    template.map_err(|e| Error::new(Code::Bug, e.message()))
}

fn path(text: &str) -> Result<RelPath, Error> {
    RelPath::output(text).map_err(|why| Error::new(Code::Bug, format!("`{text}` {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str], there: &[&str]) -> (Vec<String>, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let start = start(&names, "shop", &|path| there.contains(&path)).unwrap();
        let paths = start.files.iter().map(|(path, _)| path.to_string()).collect();
        (paths, start.files[0].1.clone())
    }

    #[test]
    fn every_pack_shows_only_variables_that_it_has() {
        for pack in packs::names() {
            let shown = load(&format!("version: 1\nvars:\n  name: x\n{}rules: {{}}\n", packs::vars(pack))).unwrap();
            let has = load(&format!("version: 1\ninclude: [\"builtin:{pack}\"]\nrules: {{}}\n")).unwrap();
            assert!(shown.vars.keys().all(|name| has.vars.contains_key(name)), "{pack}");
            assert!(has.rules.iter().all(|rule| rule.name.starts_with(pack) && rule.groups == [pack]), "{pack}");
        }
    }

    #[test]
    fn every_pack_has_a_module_file_or_no_sources() {
        for pack in packs::names() {
            let has_module = outputs(pack).unwrap().iter().any(|(rule, _)| is_module(pack, rule));
            assert_eq!(has_module, packs::sources(pack).count() > 0, "{pack}");
        }
    }

    #[test]
    fn of_two_packs_the_first_makes_what_both_would() {
        let (paths, genfile) = files(&["go", "rust", "project", "go"], &[]);
        assert_eq!(paths[1..].iter().filter(|path| path.ends_with(".rs")).count(), 2);
        assert_eq!(genfile.matches("builtin:").count(), 3);
        assert!(genfile.contains("{ from: \"builtin:rust\", only: [rust-module] }"), "{genfile}");
        assert_eq!(load(&genfile).unwrap().rules.len(), 6 + 1 + 3);
    }

    #[test]
    fn what_is_there_stays_the_persons() {
        let (paths, genfile) = files(&["go"], &["README.md", "go.mod", "Cargo.toml"]);
        assert_eq!(paths, ["Genfile"], "a project with a module file has sources of its own");
        assert!(genfile.contains("by_hand: [README.md, go.mod]"), "{genfile}");
        assert_eq!(files(&["go"], &["README.md"]).0.len(), 4);
    }

    #[test]
    fn a_folder_gives_a_name_that_every_language_takes() {
        for (folder, name) in
            [("shop", "shop"), ("My Shop_2", "my-shop-2"), ("99 bottles", "bottles"), ("日本", "app"), ("-", "app")]
        {
            assert_eq!(project_name(folder), name, "{folder}");
        }
    }
}
