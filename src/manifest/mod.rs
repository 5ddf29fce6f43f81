//! The Genfile's language: text into a checked model, with all mistakes found in one pass.
//!
//! Reads no file but the Genfile and what it includes. Paths, globs and selectors are looked at when rules become tasks, in `graph`.

mod api;
mod check;
mod collection;
mod include;
mod language;
mod model;
mod read;
mod rule;
#[cfg(feature = "run")]
mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Map;

use crate::error::{Code, Error, Place, Source};
use crate::files::Files;
use crate::path::RelPath;
use crate::yaml::{self, Node};

pub use api::{Api, Command, Stdin};
pub use collection::{Carry, Collection, Embed, Fixed, Results};
pub use model::{
    Batching, Budget, Check, Context, Expr, Foreach, Input, KeepPrefix, Limits, Manifest, OnEdit, OnError, Over,
    Prefer, Prices, Provider, Recipe, Rule, Weights, known_names,
};
#[cfg(feature = "run")]
pub use schema::schema;

/// Reads a Genfile and what it includes. What could be understood is returned beside what is wrong, so that later stages can
/// add their own findings; nothing may be built from it unless nothing is wrong.
///
/// # Errors
/// The text is no YAML, or too large, so that there is nothing to go on with.
pub fn load(name: &str, text: &str, files: &dyn Files) -> Result<(Manifest, Vec<Error>), Error> {
    let (_, node, mut found) = parse(name, text)?;
    let source = Source::new(name, check::without_secrets(text, &node));
    found.iter_mut().flat_map(|error| &mut error.place).for_each(|place| place.source = Arc::clone(&source));
    let mut reader = read::Reader { source: Arc::clone(&source), found };
    let mut included = Vec::new();
    let mut above = RelPath::new(name).into_iter().collect();
    include::include(&mut reader, &node, files, &mut above, &mut included);
    let mut manifest = Manifest {
        source,
        vars: Map::new(),
        provider: None,
        instead: None,
        providers: BTreeMap::new(),
        budget: Budget::default(),
        rules: Vec::new(),
        included: included.iter().map(|file| file.path.clone()).collect(),
        names: BTreeSet::new(),
    };
    check::check(&mut reader, &node, &included, &mut manifest);
    Ok((manifest, reader.found))
}

/// Refuses a Genfile, or an included file, by its size alone.
pub(crate) fn small_enough(name: &str, bytes: u64) -> Result<(), Error> {
    if bytes <= yaml::MAX_GENFILE as u64 {
        return Ok(());
    }
    let (size, most) = (bytes.div_ceil(1 << 20), yaml::MAX_GENFILE >> 20);
    Err(Error::new(Code::Yaml, format!("`{name}` is {size} MB large; a Genfile has at most {most} MB"))
        .hint("move data into files of its own and run over them with `foreach: FILE#/pointer/*`"))
}

/// A Genfile's text, or an included file's, as YAML, with what is wrong and can be gone on from.
fn parse(name: &str, text: &str) -> Result<(Arc<Source>, Node, Vec<Error>), Error> {
    small_enough(name, text.len() as u64)?;
    let source = Source::new(name, text);
    let place = |span| Place { source: Arc::clone(&source), span };
    let (node, duplicate) = yaml::genfile(text).map_err(|e| {
        let place = Place { source: Source::new(name, check::without_suspects(text)), span: e.span };
        Error::new(Code::Yaml, format!("`{name}` is not YAML: {}", e.message)).at(place).hint(match e.is_limit {
            true => "move data into files of its own and run over them with `foreach: FILE#/pointer/*`",
            false => "in YAML a string that starts with `{{` or `*`, or that holds `: `, stands in quotes",
        })
    })?;
    let duplicate = duplicate.map(|e| {
        let key = e.duplicate.unwrap_or_default();
        Error::new(Code::DuplicateKey, format!("`{key}` stands twice in one map"))
            .at(place(e.span))
            .hint("rename one of them or take it out")
    });
    Ok((source, node, duplicate.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use std::collections::HashMap;

    fn check(text: &str, expect: Expect) {
        let found = match load("Genfile", text, &HashMap::new()) {
            Ok((_, found)) => found,
            Err(e) => vec![e],
        };
        let Err(errors) = crate::error::Errors::unless_empty(found) else {
            expect.assert_eq("fine");
            return;
        };
        expect.assert_eq(&errors.lines());
    }

    #[test]
    fn an_address_that_is_left_out_is_that_of_the_formats_maker() {
        for (api, base_url) in [
            ("openai", "https://api.openai.com/v1"),
            ("openai-responses", "https://api.openai.com/v1"),
            ("anthropic", "https://api.anthropic.com/v1"),
            ("gemini", "https://generativelanguage.googleapis.com/v1beta"),
        ] {
            let text = format!("version: 1\nproviders: {{p: {{api: {api}}}}}\nrules: {{}}\n");
            let (manifest, found) = load("Genfile", &text, &HashMap::new()).unwrap();
            assert_eq!((manifest.providers["p"].base_url.as_str(), found.len()), (base_url, 0));
            assert!(base_url.starts_with(&format!("https://{}/v1", manifest.providers["p"].api.host())));
        }
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        check(
            r#"
versoin: 1
version: 2
vars: [a]
provider: nobody
providers:
  p: {api: opnai, key: sk-123, timeout: soon, in_flight: 0}
  q: {api: openai, base_url: "ftp://x"}
  r: {api: replay}
batching: {max_batch_size: many, similarity_threshold: 2}
cache: {}
rules:
  a: {tempalte: x.hbs, output: a}
  b: {template: x.hbs, prompt: y.prompt, output: b, outputs: {x: y}}
  c: {template: x.hbs}
  d: {template: "{{x", output: "{{y"}
  e: {template: x, output: e, inputs: [1, {path: x, optonal: true}], check: [jsn, syntax], params: {temprature: 1}}
  f: 3
  f: {template: x, output: f, provider: zz}
"#,
            expect![[r#"
                genmake::unknown_key: Genfile:2:1: unknown key `versoin` in the Genfile (did you mean `version`?)
                genmake::bad_value: Genfile:3:10: `version` is 1, not 2 (this genmake reads version 1 of the language)
                genmake::wrong_type: Genfile:4:7: `vars` takes a map, and this is a list
                genmake::unknown_provider: Genfile:5:11: no provider `nobody` (providers are declared under `providers:`)
                genmake::bad_value: Genfile:7:12: `api` is one of `openai`, `anthropic`, `openai-responses`, `gemini`, `command`, `replay`, not `opnai` (did you mean `openai`?)
                genmake::unknown_key: Genfile:7:19: `key` would put a secret into the Genfile (put it into the environment and name the variable: `key_env: OPENAI_API_KEY`)
                genmake::bad_value: Genfile:7:41: `timeout` is a duration, and `soon` is not: expected number at 0 (write it as `120s`, `2m` or `1h 30m`)
                genmake::bad_value: Genfile:7:58: `in_flight` is a whole number from 1 to 1000, not 0
                genmake::bad_value: Genfile:8:30: `base_url` is an address that starts with `http://` or `https://`
                genmake::missing_key: Genfile:9:12: provider `r` has no `dir` (`api: replay` needs it)
                genmake::bad_value: Genfile:10:28: `max_batch_size` is `auto`, not `many` (or it is a whole number from 1 to 1000)
                genmake::bad_value: Genfile:10:56: `similarity_threshold` is a number from 0 to 1, not 2
                genmake::unsupported: Genfile:11:1: `cache` of the Genfile is not supported by this version of genmake (leave it out, or use a newer genmake)
                genmake::missing_key: Genfile:13:3: rule `a` has no recipe (a rule has one of `template`, `prompt`, `run` and `embed`)
                genmake::unknown_key: Genfile:13:7: unknown key `tempalte` in rule `a` (did you mean `template`?)
                genmake::conflict: Genfile:14:24: rule `b` has two recipes, `template` and `prompt` (a rule has exactly one; make two rules of it)
                genmake::conflict: Genfile:14:53: rule `b` has both `output` and `outputs` (keep one of them)
                genmake::missing_key: Genfile:15:3: rule `c` has no output (say where its result goes: `output: PATH`)
                genmake::bad_expression: Genfile:16:17: not a Handlebars expression: the text ends inside of a tag, or of a block that is not closed (an expression is `{{NAME}}` or `{{HELPER NAME}}`; a literal `{{` is written `\{{`)
                genmake::bad_expression: Genfile:16:32: not a Handlebars expression: the text ends inside of a tag, or of a block that is not closed (an expression is `{{NAME}}` or `{{HELPER NAME}}`; a literal `{{` is written `\{{`)
                genmake::unknown_key: Genfile:17:53: unknown key `optonal` in an input (did you mean `optional`?)
                genmake::bad_value: Genfile:17:78: `check` is one of `json`, `yaml`, `toml`, `syntax`, not `jsn` (did you mean `json`?)
                genmake::unknown_key: Genfile:17:101: unknown parameter `temprature` (did you mean `temperature`?)
                genmake::wrong_type: Genfile:18:6: rule `f` takes a map, and this is a number
                genmake::duplicate_key: Genfile:19:3: `f` stands twice in one map (rename one of them or take it out)
            "#]],
        );
    }

    #[test]
    fn what_is_no_genfile_is_said() {
        check(
            "",
            expect![[r#"
                genmake::wrong_type: Genfile:1:1: the Genfile takes a map, and this is nothing (a Genfile starts with `version: 1` and `rules:`; `genmake init` writes one)
            "#]],
        );
        check(
            "rules: {}",
            expect![[r#"
            genmake::missing_key: Genfile:1:1: the Genfile has no `version` (write `version: 1` as its first line)
        "#]],
        );
        check(
            "version: 1\nrules: {}\nvars: {a: 1, b: \"{{vars.a}}x\", c: \"{{vars.d}}\"}",
            expect![[r#"
                genmake::undefined: Genfile:3:38: unknown variable `vars.d` (there is `vars.a`, `vars.b`)
            "#]],
        );
        check(
            "version: 1\nrules:\n  a: {prompt: p, output: o}\n",
            expect![[r#"
            genmake::missing_key: Genfile:3:3: rule `a` has a prompt and no provider (name one with `provider: NAME`, at the top of the Genfile or in the rule)
        "#]],
        );
        check("version: 1\nrules:\n  a: {template: t, output: o}\n", expect!["fine"]);
    }
}
