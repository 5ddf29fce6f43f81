//! Mistakes: in the Genfile, in templates, prompts and data; each with its code, its place and what to do.

use expect_test::expect;

use crate::project::Project;
use crate::server::Server;
use crate::shop::{shop, spec};

fn genfile(rules: &str) -> Project {
    Project::new().file("Genfile", &format!("version: 1\nrules:\n{rules}"))
}

/// Nothing is made, whatever was asked for.
#[track_caller]
fn makes_nothing(p: &Project) {
    let tree = p.tree();
    for args in [&["-s"][..], &["check"], &["plan"], &["--frozen"], &["-k", "--force"]] {
        p.run(args.iter().copied()).exits(2);
    }
    assert_eq!(p.tree(), tree);
}

#[test]
fn all_mistakes_are_shown_at_once_each_with_its_place() {
    let p = Project::new().file(
        "Genfile",
        r#"version: 1
provider: nobody
providers:
  p: {api: opnai, timeout: soon}
rules:
  index:
    tempalte: index.hbs
    output: ../index.md
  pages:
    foreach: spec.yaml#/entities/*
    prompt: page.prompt
    output: "docs/{{itm.key}}.md"
    check: jsn
  pages:
    template: x.hbs
    output: x.md
"#,
    );
    p.run([])
        .stdout(expect![[""]])
        .stderr(expect![[r#"
            genmake::unknown_provider

              x no provider `nobody`
               ,-[Genfile:2:11]
             1 | version: 1
             2 | provider: nobody
               :           ^^^^^^
             3 | providers:
               `----
              help: providers are declared under `providers:`
            genmake::bad_value

              x `api` is one of `openai`, `anthropic`, `openai-responses`, `gemini`, `command`, `replay`, not `opnai`
               ,-[Genfile:4:12]
             3 | providers:
             4 |   p: {api: opnai, timeout: soon}
               :            ^^^^^
             5 | rules:
               `----
              help: did you mean `openai`?
            genmake::bad_value

              x `timeout` is a duration, and `soon` is not: expected number at 0
               ,-[Genfile:4:28]
             3 | providers:
             4 |   p: {api: opnai, timeout: soon}
               :                            ^^^^
             5 | rules:
               `----
              help: write it as `[TIME]`, `2m` or `1h 30m`
            genmake::missing_key

              x rule `index` has no recipe
               ,-[Genfile:6:3]
             5 | rules:
             6 |   index:
               :   ^^^^^
             7 |     tempalte: index.hbs
               `----
              help: a rule has one of `template`, `prompt`, `run` and `embed`
            genmake::unknown_key

              x unknown key `tempalte` in rule `index`
               ,-[Genfile:7:5]
             6 |   index:
             7 |     tempalte: index.hbs
               :     ^^^^^^^^
             8 |     output: ../index.md
               `----
              help: did you mean `template`?
            genmake::bad_path

              x rule `index`: output `../index.md` leads outside the root
               ,-[Genfile:8:13]
             7 |     tempalte: index.hbs
             8 |     output: ../index.md
               :             ^^^^^^^^^^^
             9 |   pages:
               `----
            genmake::missing_input

              x rule `pages`: it runs over `spec.yaml`, which is not there and which no rule makes
                ,-[Genfile:10:14]
              9 |   pages:
             10 |     foreach: spec.yaml#/entities/*
                :              ^^^^^^^^^^^^^^^^^^^^^
             11 |     prompt: page.prompt
                `----
              help: paths are relative to the Genfile's folder
            genmake::bad_value

              x `check` is one of `json`, `yaml`, `toml`, `syntax`, not `jsn`
                ,-[Genfile:13:12]
             12 |     output: "docs/{{itm.key}}.md"
             13 |     check: jsn
                :            ^^^
             14 |   pages:
                `----
              help: did you mean `json`?
            genmake::duplicate_key

              x `pages` stands twice in one map
                ,-[Genfile:14:3]
             13 |     check: jsn
             14 |   pages:
                :   ^^^^^
             15 |     template: x.hbs
                `----
              help: rename one of them or take it out
            9 mistakes
        "#]])
        .exits(2);
    makes_nothing(&p);
}

#[test]
fn what_is_no_yaml_is_shown_where_it_stops() {
    let p = genfile("  a: {template: a.hbs, output: {{x}}.md}\n  b: [\n");
    p.run([])
        .stderr(expect![[r#"
        genmake::yaml

          x `Genfile` is not YAML: while parsing a flow mapping, did not find expected ',' or '}'
           ,-[Genfile:3:37]
         2 | rules:
         3 |   a: {template: a.hbs, output: {{x}}.md}
           :                                     ^
         4 |   b: [
           `----
          help: in YAML a string that starts with `{{` or `*`, or that holds `: `, stands in quotes
    "#]])
        .exits(2);
    makes_nothing(&p);
}

#[test]
fn an_empty_genfile_says_what_is_missing() {
    let p = Project::new().file("Genfile", "");
    p.run([])
        .stderr(expect![[r#"
            genmake::wrong_type

              x the Genfile takes a map, and this is nothing
               ,-[Genfile:1:1]
               `----
              help: a Genfile starts with `version: 1` and `rules:`; `genmake init` writes one
        "#]])
        .exits(2);
}

#[test]
fn a_genfile_that_is_no_text() {
    let p = Project::new().file("Genfile", "");
    std::fs::File::create(p.path("Genfile"))
        .and_then(|mut file| std::io::Write::write_all(&mut file, b"version: 1\n\xff\xfe"))
        .expect("a file can be written");
    p.run([]).stderr_has("is not UTF-8").exits(2);
}

#[test]
fn a_genfile_that_makes_nothing_is_fine() {
    let p = Project::new().file("Genfile", "version: 1\nrules: {}\n");
    p.run([])
        .stderr(expect![[r#"
        nothing to do: the Genfile makes nothing
    "#]])
        .exits(0);
    p.run(["check"]).exits(0);
    assert!(!p.exists("Genfile.lock"));
}

#[test]
fn a_cycle_is_shown_as_a_path() {
    let p = genfile(
        "  a: {template: t.hbs, output: a.txt, inputs: [c.txt]}\n  b: {template: t.hbs, output: b.txt, inputs: [\"rule:a\"]}\n  \
         c: {template: t.hbs, output: c.txt, inputs: [\"b*.txt\"]}\n  alone: {template: t.hbs, output: d.txt}\n",
    )
    .file("t.hbs", "t\n");
    p.run([])
        .stderr(expect![[r#"
        genmake::cycle

          x tasks wait for each other: `a.txt` → `b.txt` → `c.txt` → `a.txt`
           ,-[Genfile:3:3]
         2 | rules:
         3 |   a: {template: t.hbs, output: a.txt, inputs: [c.txt]}
           :   ^
         4 |   b: {template: t.hbs, output: b.txt, inputs: ["rule:a"]}
           `----
          help: each is made from the one before it; take one of these inputs out
    "#]])
        .exits(2);
    makes_nothing(&p);
}

#[test]
fn one_output_has_one_rule() {
    let p = genfile("  a: {template: t.hbs, output: x/a.txt}\n  b: {template: t.hbs, output: ./x//a.txt}\n")
        .file("t.hbs", "t\n");
    p.run([])
        .stderr(expect![[r#"
        genmake::duplicate_output

          x `x/a.txt` is made by rule `a` and by rule `b`
           ,-[Genfile:4:32]
         3 |   a: {template: t.hbs, output: x/a.txt}
         4 |   b: {template: t.hbs, output: ./x//a.txt}
           :                                ^^^^^^^^^^
           `----
          help: each output has one rule; give one of them another path
    "#]])
        .exits(2);
    makes_nothing(&p);
}

#[test]
fn outputs_stay_inside_the_root() {
    let outputs =
        ["/tmp/x", "../x", "a/../../x", ".git/hooks/post-commit", ".genmake/state", "Genfile", "Genfile.lock", "dir/"];
    for output in outputs {
        let p = genfile(&format!("  a: {{template: t.hbs, output: \"{output}\"}}\n")).file("t.hbs", "t\n");
        p.run([]).stderr_has("genmake::bad_path").stderr_has("Genfile:3:32").exits(2);
    }
}

#[cfg(unix)]
#[test]
fn outputs_do_not_leave_the_root_through_a_link() {
    let outside = Project::new();
    let p = genfile("  a: {template: t.hbs, output: out/x.txt}\n").file("t.hbs", "t\n");
    std::os::unix::fs::symlink(outside.path(""), p.path("out")).expect("a link can be made");
    p.run([]).stderr_has("genmake::bad_path").stderr_has("leads outside the root through a symlink").exits(2);
    assert_eq!(outside.everything().len(), 0);
}

// ---- too much ----

/// Nine levels of nine: four hundred million words of a text of a few hundred bytes.
fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("a{level}: &a{level} [{below}]\n");
    }
    text
}

#[test]
fn a_yaml_bomb_for_a_genfile_is_refused() {
    let p =
        Project::new().file("Genfile", &format!("version: 1\nrules: {{}}\nvars:\n  {}", bomb().replace('\n', "\n  ")));
    p.run([])
        .stderr(expect![[r#"
            genmake::yaml

              x `Genfile` is not YAML: aliases stand for more than 50000 values
               ,-[Genfile:8:32]
             7 |   a3: &a3 [*a2, *a2, *a2, *a2, *a2, *a2, *a2, *a2, *a2]
             8 |   a4: &a4 [*a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3, *a3]
               :                                ^^^
             9 |   a5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]
               `----
              help: move data into files of its own and run over them with `foreach: FILE#/pointer/*`
        "#]])
        .exits(2);
}

#[test]
fn a_yaml_bomb_for_data_is_refused() {
    let rules = [
        "  a: {template: t.hbs, output: a.txt, inputs: [\"bomb.yaml#/a8\"]}\n",
        "  a: {foreach: \"bomb.yaml#/a8/*\", template: t.hbs, output: \"{{item.key}}.txt\"}\n",
    ];
    for rule in rules {
        let p = genfile(rule).file("t.hbs", "t\n").file("bomb.yaml", &bomb());
        p.run([])
            .stderr_has("genmake::unreadable")
            .stderr_has("`bomb.yaml` is not YAML: ")
            .stderr_has("[bomb.yaml:")
            .exits(2);
    }
}

#[test]
fn nesting_without_end_is_refused() {
    for deep in ["[".repeat(100_000), "{a: ".repeat(50_000), "- ".repeat(50_000)] {
        let p = Project::new().file("Genfile", &format!("version: 1\nrules: {{}}\nvars:\n  x: {deep}\n"));
        p.run([]).stderr_has("genmake::yaml").stderr_has("Genfile:4:").exits(2);
    }
}

#[test]
fn a_genfile_of_nine_megabytes_is_refused_by_its_size() {
    let p = Project::new().file("Genfile", &format!("version: 1\nrules: {{}}\n#{}\n", "x".repeat(9 << 20)));
    p.run([])
        .stderr(expect![[r#"
            genmake::yaml

              x `Genfile` is 10 MB large; a Genfile has at most 8 MB
              help: move data into files of its own and run over them with `foreach: FILE#/pointer/*`
        "#]])
        .exits(2);
}

// ---- templates and prompts ----

#[test]
fn a_mistake_in_a_template_is_shown_in_the_template() {
    let p = genfile("  ok: {template: ok.hbs, output: ok.txt}\n  bad: {template: t/bad.hbs, output: bad.txt}\n")
        .file("ok.hbs", "fine\n")
        .file("t/bad.hbs", "first\nsecond {{#if rule}}\n  third {{vars.nope}}\n{{/if}}\n");
    p.run([])
        .stderr(expect![[r#"
             fail  bad.txt
        genmake::undefined

          x rule `bad`: unknown variable `vars.nope`
           ,-[t/bad.hbs:3:9]
         2 | second {{#if rule}}
         3 |   third {{vars.nope}}
           :         ^^^^^^^^^^^^^
         4 | {{/if}}
           `----
          help: `vars` has no names here
           render  ok.txt
        failed: 1 rendered, 1 failed in [TIME]
    "#]])
        .exits(2);
    assert!(p.exists("ok.txt") && !p.exists("bad.txt"), "other templates are rendered");
}

#[test]
fn a_template_that_does_not_parse_is_shown_where_it_stops() {
    let p = genfile("  bad: {template: bad.hbs, output: bad.txt}\n").file("bad.hbs", "a\n{{#if rule}}\nb\n");
    p.run([])
        .stderr(expect![[r#"
                 fail  bad.txt
            genmake::bad_expression

              x rule `bad`: not a Handlebars expression: the text ends inside of a tag, or of a block that is not closed
               ,-[bad.hbs:4:1]
             3 | b
             4 | 
               : ^
               `----
              help: an expression is `{{NAME}}` or `{{HELPER NAME}}`; a literal `{{` is written `\{{`
            failed: 1 failed in [TIME]
        "#]])
        .exits(2);
}

#[test]
fn an_undefined_variable_in_if_is_a_mistake_too() {
    let p = genfile("  bad: {template: bad.hbs, output: bad.txt}\n").file("bad.hbs", "a\n{{#if vars.x}}b{{/if}}\n");
    p.run([])
        .stderr(expect![[r#"
             fail  bad.txt
        genmake::undefined

          x rule `bad`: unknown variable `vars.x`
           ,-[bad.hbs:2:1]
         1 | a
         2 | {{#if vars.x}}b{{/if}}
           : ^^^^^^^^^^^^^^
           `----
          help: `vars` has no names here
        failed: 1 failed in [TIME]
    "#]])
        .exits(2);
    assert!(!p.exists("bad.txt"));
}

#[test]
fn unknown_helpers_and_partials_are_mistakes() {
    let p = genfile("  a: {template: a.hbs, output: a.txt}\n  b: {template: b.hbs, output: b.txt}\n")
        .file("a.hbs", "{{snake_cas rule}}\n")
        .file("b.hbs", "{{> hedder}}\n");
    p.run(["-j1"])
        .stderr(expect![[r#"
                 fail  a.txt
            genmake::undefined

              x rule `a`: unknown helper `snake_cas`
               ,-[a.hbs:1:1]
             1 | {{snake_cas rule}}
               : ^^^^^^^^^^^^^^^^^^
               `----
              help: did you mean `snake_case`?
                 fail  b.txt
            genmake::undefined

              x rule `b`: unknown partial `hedder`
               ,-[b.hbs:1:1]
             1 | {{> hedder}}
               : ^^^^^^^^^^^^
               `----
              help: a partial is a file `hedder.hbs` beside this one, or `_hedder.prompt`
            failed: 2 failed in [TIME]
        "#]])
        .exits(2);
}

#[test]
fn a_mistake_in_a_partial_is_shown_in_the_partial() {
    let p = genfile("  a: {template: t/a.hbs, output: a.txt}\n")
        .file("t/a.hbs", "{{> part}}\n")
        .file("t/part.hbs", "x\n {{vars.nope}}\n");
    p.run([])
        .stderr(expect![[r#"
             fail  a.txt
        genmake::undefined

          x rule `a`: in partial `part`: unknown variable `vars.nope`
           ,-[t/part.hbs:2:2]
         1 | x
         2 |  {{vars.nope}}
           :  ^^^^^^^^^^^^^
           `----
          help: `vars` has no names here
        failed: 1 failed in [TIME]
    "#]])
        .exits(2);
}

#[test]
fn a_mistake_in_a_prompt_is_shown_in_the_prompt_and_sends_nothing() {
    let server = Server::start();
    let p = shop(&server, 3);
    p.edit("prompts/page.prompt", "---\nconfig: {temperature: 0}\n---\n{{role \"user\"}}\nWrite {{item.value.txt}}\n");
    p.run([])
        .stderr_has("[prompts/page.prompt:5:7]")
        .stderr_has("rule `pages`: unknown variable `item.value.txt`")
        .exits(2);
    p.edit("prompts/page.prompt", "---\nconfig: {temprature: 0}\n---\nWrite {{item.key}}\n");
    p.run([])
        .stderr_has("[prompts/page.prompt:2:10]")
        .stderr_has("unknown parameter `temprature`")
        .stderr_has("did you mean `temperature`?")
        .exits(2);
    p.edit("prompts/page.prompt", "---\ntools: [x]\n---\nWrite {{item.key}}\n");
    p.run([]).stderr_has("[prompts/page.prompt:2:1]").stderr_has("`tools` in front matter is not supported").exits(2);
    p.edit("prompts/page.prompt", "\n");
    p.run([]).stderr_has("the prompt `prompts/page.prompt` is empty").exits(2);
    assert_eq!(server.count(), 0);
    assert!(p.exists("docs/index.md"));
}

#[test]
fn a_rule_without_a_provider_or_a_model_is_a_mistake() {
    let server = Server::start();
    let p = shop(&server, 1);
    let whole = p.read("Genfile");
    p.edit("Genfile", &whole.replace("provider: p\n", ""));
    p.run([]).stderr_has("Genfile:").stderr_has("provider").exits(2);
    p.edit("Genfile", &whole.replace("model: m, ", ""));
    p.run([]).stderr_has("rule `pages` has no model").exits(2);
    assert_eq!(server.count(), 0);
}

// ---- inputs ----

#[test]
fn missing_inputs_are_said_before_anything_runs() {
    let p = genfile(
        "  ok: {template: t.hbs, output: ok.txt}\n  a: {template: t.hbs, output: a.txt, inputs: [none.txt, \"spec.yaml#/nothing\", \"rule:okay\"]}\n",
    )
    .file("t.hbs", "t\n")
    .file("spec.yaml", &spec(1, &[]));
    p.run([])
        .stderr(expect![[r#"
            genmake::missing_input

              x rule `a`: its input is `none.txt`, which is not there and which no rule makes
               ,-[Genfile:4:48]
             3 |   ok: {template: t.hbs, output: ok.txt}
             4 |   a: {template: t.hbs, output: a.txt, inputs: [none.txt, "spec.yaml#/nothing", "rule:okay"]}
               :                                                ^^^^^^^^
               `----
              help: paths are relative to the Genfile's folder
                    an input that may be missing is written `{path: PATH, optional: true}`
            genmake::bad_selector

              x rule `a`: `spec.yaml#/nothing` finds nothing: `/` has no `nothing`; it has `entities`
               ,-[Genfile:4:58]
             3 |   ok: {template: t.hbs, output: ok.txt}
             4 |   a: {template: t.hbs, output: a.txt, inputs: [none.txt, "spec.yaml#/nothing", "rule:okay"]}
               :                                                          ^^^^^^^^^^^^^^^^^^^^
               `----
            genmake::unknown_rule

              x rule `a`: no rule `okay`
               ,-[Genfile:4:80]
             3 |   ok: {template: t.hbs, output: ok.txt}
             4 |   a: {template: t.hbs, output: a.txt, inputs: [none.txt, "spec.yaml#/nothing", "rule:okay"]}
               :                                                                                ^^^^^^^^^^^
               `----
            3 mistakes
        "#]])
        .exits(2);
    makes_nothing(&p);
    assert!(!p.exists("ok.txt"));
}

#[test]
fn an_optional_input_may_be_missing_and_come_later() {
    let p = genfile("  a: {template: t.hbs, output: a.txt, inputs: {x: {path: x.txt, optional: true}}}\n")
        .file("t.hbs", "{{#if inputs.x}}{{inputs.x.text}}{{else}}none{{/if}}\n");
    p.run([]).exits(0);
    assert_eq!(p.read("a.txt"), "none\n");
    p.edit("x.txt", "some").run([]).exits(0);
    assert_eq!(p.read("a.txt"), "some\n");
    p.remove("x.txt").run([]).exits(0);
    assert_eq!(p.read("a.txt"), "none\n");
}

#[test]
fn broken_data_is_shown_in_the_data() {
    let server = Server::start();
    let p = shop(&server, 1);
    p.edit("spec.yaml", "entities:\n  e1: {text: \"no end}\n");
    p.run([])
        .stderr(expect![[r#"
        genmake::unreadable

          x rule `pages`: `spec.yaml` is not YAML: unclosed quote
           ,-[spec.yaml:2:14]
         1 | entities:
         2 |   e1: {text: "no end}
           :              ^
           `----
    "#]])
        .exits(2);
    assert_eq!(server.count(), 0);
}

#[test]
fn a_foreach_over_generated_content_is_refused() {
    let p = genfile(
        "  data: {template: t.hbs, output: data.yaml}\n  each: {foreach: \"data.yaml#/*\", template: t.hbs, output: \"{{item.key}}.txt\"}\n",
    )
    .file("t.hbs", "a: 1\n");
    p.run([])
        .stderr(expect![[r#"
        genmake::dynamic_foreach

          x rule `each`: it runs over the content of `data.yaml`, which rule `data` makes
           ,-[Genfile:4:19]
         3 |   data: {template: t.hbs, output: data.yaml}
         4 |   each: {foreach: "data.yaml#/*", template: t.hbs, output: "{{item.key}}.txt"}
           :                   ^^^^^^^^^^^^^^
           `----
          help: what a foreach runs over must exist before the run: commit it, or run over its source
    "#]])
        .exits(2);
    makes_nothing(&p);
}

/// What comes from outside cannot drive a terminal.
#[cfg(unix)]
#[test]
fn many_folders_need_few_descriptors() {
    let p = genfile("  all: {foreach: in/**, template: t.hbs, output: 'out/{{item.stem}}/all.txt'}\n")
        .file("t.hbs", "{{item.text}}");
    (0..300).for_each(|n| _ = p.edit(&format!("in/{n}.txt"), &n.to_string()));
    p.shell("ulimit -n 64; genmake -s -j 8");
    assert_eq!(p.read("out/299/all.txt"), "299");
    assert_eq!(p.tree().keys().filter(|path| path.starts_with("out/")).count(), 300);
}

#[test]
fn control_characters_are_not_printed() {
    let p = Project::new()
        .file("Genfile", "version: 1\nrules:\n  a: {template: \"a\\e[31m.hbs\", output: a.txt, \"x\\u009b\": 1}\n");
    let run = p.run([]);
    assert!(!run.stderr.contains('\u{1b}') && !run.stderr.contains('\u{9b}'), "{:?}", run.stderr);
    run.stderr_has("`a\u{fffd}[31m.hbs` holds a control character").stderr_has("unknown key `x\u{fffd}`").exits(2);

    let server = Server::start();
    server.always(crate::server::Act::error(401, "x", "x", "bad\u{1b}[31m key\u{7}\r\nline"));
    let p = shop(&server, 1);
    let run = p.run([]);
    assert!(
        !run.stderr.contains('\u{1b}') && !run.stderr.contains('\u{7}') && !run.stderr.contains('\r'),
        "{:?}",
        run.stderr
    );
    run.stderr_has("bad\u{fffd}[31m key").exits(2);
}
