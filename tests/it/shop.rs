//! A small project that most tests build: a spec of entities `e1`, `e2`, …; a page for each, which a model writes; and an index
//! of the entities' names, which a template makes.

use std::fmt::Write;

use crate::project::Project;
use crate::server::{Recorded, Server};

/// The formats that providers speak.
pub const APIS: [&str; 4] = ["openai", "anthropic", "openai-responses", "gemini"];

/// The shop with `pages` pages. The server answers each with its [`page`].
pub fn shop(server: &Server, pages: usize) -> Project {
    shop_with(server, pages, "", "")
}

/// The same, with further keys of the provider and of the rule `pages`, as YAML: `in_flight: 1, timeout: 1s`.
pub fn shop_with(server: &Server, pages: usize, provider: &str, rule: &str) -> Project {
    shop_of("openai", server, pages, provider, rule)
}

/// The same with a provider that speaks this format.
pub fn shop_of(api: &str, server: &Server, pages: usize, provider: &str, rule: &str) -> Project {
    server.reply(answer);
    Project::new()
        .genfile_for(server, &genfile(provider, rule).replace("api: openai", &format!("api: {api}")))
        .file("spec.yaml", &spec(pages, &[]))
        .file("prompts/page.prompt", PROMPT)
        .file("templates/index.hbs", INDEX)
}

/// The same with a provider of these keys, which is no server.
pub fn shop_by(provider: &str, pages: usize, rule: &str) -> Project {
    let of_a_server = "api: openai, model: m, base_url: \"{base_url}\"";
    Project::new()
        .file("Genfile", &genfile("", rule).replace(of_a_server, provider))
        .file("spec.yaml", &spec(pages, &[]))
        .file("prompts/page.prompt", PROMPT)
        .file("templates/index.hbs", INDEX)
}

/// The Genfile, with `{base_url}` for the provider's address.
pub fn genfile(provider: &str, rule: &str) -> String {
    let (provider, rule) = (more(provider), more(rule));
    format!(
        r#"version: 1
provider: p
providers:
  p: {{api: openai, model: m, base_url: "{{base_url}}"{provider}}}
rules:
  index: {{inputs: {{spec: spec.yaml}}, template: templates/index.hbs, output: docs/index.md}}
  pages: {{foreach: "spec.yaml#/entities/*", prompt: prompts/page.prompt, output: "docs/{{{{item.key}}}}.md"{rule}}}
"#
    )
}

fn more(keys: &str) -> String {
    if keys.is_empty() { String::new() } else { format!(", {keys}") }
}

const PROMPT: &str = r#"{{role "system"}}
You write a handbook.
{{role "user"}}
Write about {{item.key}}: {{item.value.text}}
"#;

const INDEX: &str = "# Index\n{{#each inputs.spec.data.entities}}\n- {{@key}}\n{{/each}}\n";

/// A spec of `n` entities; `changes` gives some of them another text than `about KEY`.
pub fn spec(n: usize, changes: &[(&str, &str)]) -> String {
    if n == 0 {
        return "entities: {}\n".to_owned();
    }
    let mut text = "entities:\n".to_owned();
    for key in keys(n) {
        let about = changes.iter().find(|(changed, _)| *changed == key);
        let about = about.map_or_else(|| format!("about {key}"), |(_, text)| (*text).to_owned());
        let _ = writeln!(text, "  {key}: {{text: \"{about}\"}}"); // a string takes all
    }
    text
}

/// `e1` to `eN`.
pub fn keys(n: usize) -> Vec<String> {
    (1..=n).map(|i| format!("e{i}")).collect()
}

/// The page that the model writes of an entity's text.
pub fn page(key: &str, text: &str) -> String {
    format!("# {key}\n\n{text}\n")
}

/// The index of `n` entities.
pub fn index(n: usize) -> String {
    let lines: String = keys(n).iter().map(|key| format!("- {key}\n")).collect();
    format!("# Index\n{lines}")
}

/// What a good model answers: a slot's page, or that of a single request.
pub fn answer(request: &Recorded, slot: Option<&str>) -> String {
    match task(request, slot) {
        Some((key, text)) => page(&key, &text),
        None => "no page\n".to_owned(),
    }
}

/// The keys of the entities that a request asks for, in their order.
pub fn asked(request: &Recorded) -> Vec<String> {
    let slots = request.slots();
    let tasks = match slots.is_empty() {
        true => vec![task(request, None)],
        false => slots.iter().map(|slot| task(request, Some(slot))).collect(),
    };
    tasks.into_iter().flatten().map(|(key, _)| key).collect()
}

/// What each request after the first `n` asks for: its keys with spaces between.
pub fn asked_after(server: &Server, n: usize) -> Vec<String> {
    server.requests().iter().skip(n).map(|request| asked(request).join(" ")).collect()
}

/// Key and text of a task, from the words of the prompt.
fn task(request: &Recorded, slot: Option<&str>) -> Option<(String, String)> {
    let text = match slot {
        Some(slot) => request.slot_text(slot)?,
        None => request.user_text(),
    };
    let (key, text) = text.lines().next()?.strip_prefix("Write about ")?.split_once(": ")?;
    Some((key.to_owned(), text.to_owned()))
}

/// That the project holds the index and the pages of these entities, all as they should be, and no other file in `docs`.
#[track_caller]
pub fn is_built(project: &Project, pages: usize, changes: &[(&str, &str)]) {
    let mut expected: Vec<(String, String)> = keys(pages)
        .iter()
        .map(|key| {
            let changed = changes.iter().find(|(changed, _)| changed == key);
            let text = changed.map_or_else(|| format!("about {key}"), |(_, text)| (*text).to_owned());
            (format!("docs/{key}.md"), page(key, &text))
        })
        .collect();
    expected.push(("docs/index.md".to_owned(), index(pages)));
    expected.sort();
    let found: Vec<(String, String)> =
        project.tree().into_iter().filter(|(path, _)| path.starts_with("docs/")).collect();
    assert_eq!(found, expected);
}

/// The pages that are on disk, by key.
pub fn pages(project: &Project) -> Vec<String> {
    let tree = project.tree();
    let names = tree.keys().filter_map(|path| path.strip_prefix("docs/")?.strip_suffix(".md"));
    names.filter(|name| *name != "index").map(str::to_owned).collect()
}

/// That no run left a temporary file behind.
#[track_caller]
pub fn has_no_temporary_file(project: &Project) {
    let all = project.everything();
    let left: Vec<&String> = all.keys().filter(|path| path.ends_with(".tmp") || path.contains("/.genmake-")).collect();
    assert!(left.is_empty(), "temporary files were left: {left:?}");
}
