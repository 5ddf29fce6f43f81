//! Incremental equals clean: random edits, and after each the tree and the lock are those of a fresh checkout built by the same
//! provider, and the provider was asked for nothing that it had answered before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use genmake::{Options, Project};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::server::{Recorded, Server};

/// Something that a person does between two runs.
#[derive(Debug, Clone)]
enum Edit {
    /// Sets an entity's text, to one of few so that it also comes back to what it was.
    Entity(usize, usize),
    /// Takes an entity out.
    Remove(usize),
    Variable(usize),
    Template(usize),
    Prompt(usize),
    Model(usize),
    /// Sets a section of a Markdown file, or takes it out.
    Section(usize, Option<usize>),
    /// Adds or takes away a file that a glob matches.
    Note(usize, bool),
    /// Writes a file anew with the bytes it has.
    Touch,
    /// Deletes an output.
    Lose(usize),
    LoseState,
    LoseStore,
    LoseFolder,
    /// Changes nothing.
    Nothing,
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        6 => (0usize..5, 0usize..3).prop_map(|(at, text)| Edit::Entity(at, text)),
        2 => (0usize..5).prop_map(Edit::Remove),
        1 => (0usize..2).prop_map(Edit::Variable),
        1 => (0usize..2).prop_map(Edit::Template),
        1 => (0usize..2).prop_map(Edit::Prompt),
        1 => (0usize..2).prop_map(Edit::Model),
        2 => (0usize..3, any::<bool>()).prop_map(|(at, there)| Edit::Note(at, there)),
        2 => (0usize..3, proptest::option::of(0usize..2)).prop_map(|(at, text)| Edit::Section(at, text)),
        1 => Just(Edit::Touch),
        2 => (0usize..8).prop_map(Edit::Lose),
        1 => Just(Edit::LoseState),
        1 => Just(Edit::LoseStore),
        1 => Just(Edit::LoseFolder),
        1 => Just(Edit::Nothing),
    ]
}

/// What a person wrote; everything else is made from it.
#[derive(Clone)]
struct Sources {
    entities: BTreeMap<usize, usize>,
    variable: usize,
    template: usize,
    prompt: usize,
    model: usize,
    notes: BTreeSet<usize>,
    sections: BTreeMap<usize, usize>,
}

impl Sources {
    fn files(&self, base_url: &str) -> BTreeMap<String, String> {
        let Sources { variable, template, prompt, model, .. } = self;
        let entities: String = self
            .entities
            .iter()
            .map(|(at, text)| format!("  e{at}: {{text: t{text}, next: e{}}}\n", (at + text) % 5))
            .collect();
        let entities = if entities.is_empty() { "entities: {}\n".to_owned() } else { format!("entities:\n{entities}") };
        let genfile = format!(
            r#"
version: 1
vars: {{v: "{variable}"}}
provider: p
providers: {{p: {{api: openai, model: m{model}, base_url: "{base_url}"}}}}
batching: {{max_batch_size: 3}}
rules:
  pages: {{foreach: "spec.yaml#/entities/*", prompt: page.prompt, output: "pages/{{{{item.key}}}}.md"}}
  near: {{foreach: "spec.yaml#/entities/*", prompt: near.prompt, output: "near/{{{{item.key}}}}.md",
    context: {{select: "spec.yaml#/entities", related_to: "{{{{item.key}}}}"}}}}
  index: {{template: index.hbs, output: index.md, inputs: {{pages: "rule:pages", notes: "notes/*.txt"}}}}
  digest: {{prompt: sum.md, output: digest.md, inputs: {{index: index.md}}}}
  copies: {{foreach: "pages/*.md", template: copy.hbs, output: "copies/{{{{item.stem}}}}.txt"}}
  parts: {{foreach: "book.md#sections", template: part.hbs, output: "parts/{{{{item.key}}}}.txt", filter: "tr a-z A-Z"}}
  heads: {{foreach: {{page: "pages/*.md", n: [1, 2]}}, output: "heads/{{{{item.n}}}}/{{{{item.page.name}}}}",
    run: "head -c {{{{item.n}}}}2 {{{{item.page.path}}}} > {{{{output}}}}"}}
  all: {{output: all.txt, inputs: ["rule:heads", "rule:parts", "book.md#sections/s1"], run: "cat heads/*/* parts/* 2> /dev/null > all.txt; :"}}
"#
        );
        let mut files = BTreeMap::from([
            ("Genfile".to_owned(), genfile),
            ("spec.yaml".to_owned(), entities),
            (
                "page.prompt".to_owned(),
                format!(
                    "{{{{role \"system\"}}}}\ns{prompt}\n{{{{role \"user\"}}}}\n{{{{output}}}} says {{{{item.value.text}}}}\n"
                ),
            ),
            (
                "index.hbs".to_owned(),
                format!(
                    "{template} {{{{vars.v}}}}\n{{{{#each inputs.pages}}}}{{{{path}}}} {{{{text}}}}{{{{/each}}}}\
                     {{{{#each inputs.notes}}}}{{{{name}}}}\n{{{{/each}}}}"
                ),
            ),
            (
                "near.prompt".to_owned(),
                "{{output}} knows {{#each context}}{{@key}} says {{text}}, {{/each}}\n".to_owned(),
            ),
            // The first line alone reaches the prompt: much of what changes the index does not.
            ("sum.md".to_owned(), "Sum up: {{len inputs.index.path}} {{inputs.index.text}}\n".to_owned()),
            ("copy.hbs".to_owned(), "{{item.text}}".to_owned()),
            ("part.hbs".to_owned(), "{{item.name}}: {{item.text}}".to_owned()),
            (
                "book.md".to_owned(),
                self.sections.iter().map(|(at, text)| format!("# s{at}\n\ntext {text}\n\n")).collect(),
            ),
        ]);
        files.extend(self.notes.iter().map(|at| (format!("notes/n{at}.txt"), String::new())));
        files
    }
}

/// One task's own words in a request.
fn section(request: &Recorded, slot: Option<&str>) -> String {
    let text = request.user_text();
    let Some(slot) = slot else { return text.trim().to_owned() };
    let body = text.split_once(&format!("\n{slot}:\n")).map_or("", |(_, body)| body);
    let next = slot.strip_prefix('f').and_then(|n| n.parse::<usize>().ok()).map_or(0, |n| n + 1);
    body.split(&format!("\n\nf{next}:\n")).next().unwrap_or_default().trim().to_owned()
}

/// What the provider answers: a function of what it is asked, whoever travels along. Some answers are the same for different
/// questions, so that a rebuild comes out as it was.
fn answer(request: &Recorded, slot: Option<&str>) -> String {
    let words = section(request, slot);
    let model = request.body["model"].as_str().unwrap_or_default();
    format!("{model} {}\n", words.replace("t2", "t1"))
}

/// Everything that was asked, as (model, system, words).
fn asked(server: &Server) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    for request in server.requests() {
        let model = request.body["model"].as_str().unwrap_or_default().to_owned();
        let slots = request.slots();
        let system = request.system_text();
        match slots.is_empty() {
            true => all.push((model, system, section(&request, None))),
            false => {
                all.extend(slots.iter().map(|slot| (model.clone(), system.clone(), section(&request, Some(slot)))))
            }
        }
    }
    all
}

fn build(root: &Path) {
    let options = Options { yes: true, ..Options::default() };
    let project = Project::open(root).unwrap_or_else(|e| panic!("{e}"));
    let planned = project.plan(&[]).unwrap_or_else(|e| panic!("{e}"));
    let summary = planned.run(&options, &mut |_| {}).unwrap_or_else(|e| panic!("{e}"));
    let errors: Vec<_> = summary.tasks.iter().filter_map(|end| end.error.as_ref()).collect();
    assert!(summary.is_success(), "{errors:?}");
}

fn is_fresh(root: &Path) -> bool {
    let planned = Project::open(root).and_then(|project| project.plan(&[])).unwrap_or_else(|e| panic!("{e}"));
    let fresh = |judged: &genmake::plan::Judged| judged.verdict == genmake::plan::Verdict::Fresh;
    planned.plan.orphans.is_empty()
        && planned.plan.tasks.iter().flatten().all(|judged| judged.as_ref().is_ok_and(fresh))
}

fn write(root: &Path, files: &BTreeMap<String, String>) {
    for (name, text) in files {
        let path = root.join(name);
        fs_err::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        if fs_err::read_to_string(&path).ok().as_ref() != Some(text) {
            fs_err::write(path, text).expect("a file");
        }
    }
}

/// All files but genmake's own folder.
fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs_err::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let name = path.strip_prefix(root).expect("below").to_string_lossy().into_owned();
            match path.is_dir() {
                true if name == ".genmake" => {}
                true => folders.push(path),
                false => drop(found.insert(name, fs_err::read_to_string(&path).expect("text"))),
            }
        }
    }
    found
}

fn case(edits: &[Edit]) {
    let server = Server::start();
    server.reply(answer);
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    let mut sources = Sources {
        entities: [(0, 0), (1, 1)].into(),
        variable: 0,
        template: 0,
        prompt: 0,
        model: 0,
        notes: BTreeSet::new(),
        sections: [(1, 0)].into(),
    };
    let mut known = BTreeSet::new();
    let mut seen = 0;
    // Whether the store holds everything that was ever answered.
    let mut held = true;
    for edit in std::iter::once(&Edit::Nothing).chain(edits) {
        let before = sources.files(&server.base_url());
        match edit {
            Edit::Entity(at, text) => drop(sources.entities.insert(*at, *text)),
            Edit::Remove(at) => drop(sources.entities.remove(at)),
            Edit::Variable(to) => sources.variable = *to,
            Edit::Template(to) => sources.template = *to,
            Edit::Prompt(to) => sources.prompt = *to,
            Edit::Model(to) => sources.model = *to,
            Edit::Section(at, Some(text)) => drop(sources.sections.insert(*at, *text)),
            // The one that an input names stays.
            Edit::Section(1, None) => {}
            Edit::Section(at, None) => drop(sources.sections.remove(at)),
            Edit::Note(at, true) => drop(sources.notes.insert(*at)),
            Edit::Note(at, false) => drop(sources.notes.remove(at)),
            Edit::Touch => fs_err::write(root.join("spec.yaml"), &before["spec.yaml"]).expect("a file"),
            Edit::Lose(at) => {
                let made: Vec<String> = tree(root)
                    .into_keys()
                    .filter(|name| !before.contains_key(name) && name != "Genfile.lock")
                    .collect();
                if let Some(name) = made.get(*at) {
                    fs_err::remove_file(root.join(name)).expect("a file");
                }
            }
            Edit::LoseState => drop(fs_err::remove_file(root.join(".genmake/state"))),
            Edit::LoseStore => {
                held = false;
                drop(fs_err::remove_dir_all(root.join(".genmake/store")));
            }
            Edit::LoseFolder => {
                held = false;
                drop(fs_err::remove_dir_all(root.join(".genmake")));
            }
            Edit::Nothing => {}
        }
        if matches!(edit, Edit::LoseStore | Edit::LoseFolder) {
            // What only the store held may be asked for again; what outputs hold is not, as is checked below.
            known.clear();
        }
        let files = sources.files(&server.base_url());
        for gone in before.keys().filter(|name| !files.contains_key(*name)) {
            fs_err::remove_file(root.join(gone)).expect("a file");
        }
        write(root, &files);
        build(root);

        let all = asked(&server);
        for question in &all[seen..] {
            assert!(known.insert(question.clone()), "asked twice: {question:?} after {edit:?}");
        }
        let changes_nothing = match edit {
            Edit::Nothing | Edit::Touch | Edit::LoseState | Edit::LoseStore | Edit::LoseFolder => true,
            Edit::Lose(_) => held,
            _ => false,
        };
        if changes_nothing && seen > 0 {
            assert_eq!(all.len(), seen, "asked for what outputs or store hold, after {edit:?}");
        }
        seen = all.len();
        assert!(is_fresh(root), "not up to date after a build, after {edit:?}");

        let clean = tempfile::tempdir().expect("a folder");
        let other = Server::start();
        other.reply(answer);
        write(clean.path(), &sources.files(&other.base_url()));
        build(clean.path());
        let mut want = tree(clean.path());
        want.insert("Genfile".to_owned(), files["Genfile"].clone());
        assert_eq!(tree(root), want, "after {edit:?}");
    }
}

#[test]
fn random_edits_then_a_build_equal_a_clean_build() {
    #[allow(clippy::disallowed_methods, reason = "how many cases is asked of who runs the test")]
    let cases = std::env::var("GENMAKE_RANDOM_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(25);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let result = runner.run(&proptest::collection::vec(edit(), 1..8), |edits| {
        case(&edits);
        Ok(())
    });
    if let Err(e) = result {
        panic!("{e}");
    }
}
