//! What the Genfile's language says of items, conditions, groups and included files.

use expect_test::expect;

use crate::project::Project;

fn project(rules: &str) -> Project {
    Project::new().file("Genfile", &format!("version: 1\nrules:\n{rules}")).file("t.hbs", "{{json item}}\n")
}

/// All outputs, and the files that were there before.
fn files(p: &Project) -> Vec<String> {
    p.tree().into_keys().filter(|path| !["Genfile", "Genfile.lock", "t.hbs"].contains(&path.as_str())).collect()
}

#[test]
fn axes_are_the_product_of_whatever_they_are() {
    let p = project(
        "  a: {foreach: {page: \"docs/*.md\", lang: [de, fr], e: \"s.yaml#/e/*\"}, output: \"out/{{item.lang}}/{{item.e.key}}/{{item.page.name}}\", template: t.hbs}\n",
    )
    .file("docs/a.md", "A\n")
    .file("docs/b.md", "B\n")
    .file("s.yaml", "e: {x: 1, y: 2}\n");
    p.run([]).exits(0);
    let made: Vec<String> = files(&p).into_iter().filter(|path| path.starts_with("out")).collect();
    assert_eq!(
        made,
        [
            "out/de/x/a.md",
            "out/de/x/b.md",
            "out/de/y/a.md",
            "out/de/y/b.md",
            "out/fr/x/a.md",
            "out/fr/x/b.md",
            "out/fr/y/a.md",
            "out/fr/y/b.md"
        ]
    );
    p.run(["explain", "out/de/x/a.md"]).stdout_has("page docs/a.md, lang de, e s.yaml#/e/x").exits(0);
    // Content of an axis reaches a template, and only its tasks.
    p.edit("t.hbs", "{{item.page.text}}{{item.lang}}\n").run([]).exits(0);
    assert_eq!(p.read("out/fr/y/b.md"), "B\nfr\n");
    p.edit("docs/a.md", "C\n").run([]).stderr_has("4 rendered").exits(0);
    assert_eq!(p.read("out/de/x/a.md"), "C\nde\n");
}

#[test]
fn several_globs_and_what_they_leave_out() {
    let p = project("  a: {foreach: {glob: [\"docs/**/*.md\", \"*.txt\", \"!**/draft-*\"]}, output: \"out/{{item.path}}\", template: t.hbs}\n  b: {foreach: {f: {glob: [\"docs/*.md\", \"!docs/a.md\"]}, n: [1, 2]}, output: \"b/{{item.n}}/{{item.f.name}}\", template: t.hbs}\n")
        .file("docs/a.md", "")
        .file("docs/draft-b.md", "")
        .file("docs/sub/c.md", "")
        .file("d.txt", "");
    p.run([]).exits(0);
    let made: Vec<String> =
        files(&p).into_iter().filter(|path| path.starts_with("out") || path.starts_with("b/")).collect();
    assert_eq!(made, ["b/1/draft-b.md", "b/2/draft-b.md", "out/d.txt", "out/docs/a.md", "out/docs/sub/c.md"]);
    project("  a: {foreach: {glob: [\"!*.md\"]}, output: \"{{item.stem}}\", template: t.hbs}\n")
        .run([])
        .stderr_has("every pattern takes out, and none puts in")
        .exits(2);
}

#[test]
fn paths_may_be_made_of_what_stands_in_a_file() {
    let p = project("  a: {foreach: \"posts/*.yaml\", when: \"{{item.data.public}}\", output: \"out/{{item.data.slug}}.html\", template: t.hbs}\n")
        .file("posts/a.yaml", "{slug: hello, public: true}\n")
        .file("posts/b.yaml", "{slug: later, public: false}\n")
        .file("t.hbs", "{{item.data.slug}}\n");
    p.run([]).exits(0);
    assert!(p.exists("out/hello.html") && !p.exists("out/later.html"));
    p.edit("posts/b.yaml", "{slug: now, public: true}\n").run([]).exits(0);
    assert_eq!(p.read("out/now.html"), "now\n");
    // What another rule makes is not known before the run.
    project("  a: {foreach: \"made/*.yaml\", output: \"out/{{item.data.slug}}\", template: t.hbs}\n  b: {output: made/x.yaml, template: t.hbs}\n")
        .run([])
        .stderr_has("genmake::dynamic_foreach")
        .exits(2);
}

#[test]
fn when_skips_a_task_and_makes_no_orphan() {
    let genfile = |draft: &str| {
        format!(
            "  a: {{foreach: \"s.yaml#/*\", when: \"{{{{ne item.value.state \\\"{draft}\\\"}}}}\", output: \"{{{{item.key}}}}.txt\", template: t.hbs}}\n"
        )
    };
    let p = project(&genfile("draft")).file("s.yaml", "a: {state: draft}\nb: {state: live}\n");
    p.run([]).exits(0);
    assert!(p.exists("b.txt") && !p.exists("a.txt"));
    // What is skipped now and was made before stays, and is nobody's orphan.
    p.edit("s.yaml", "a: {state: live}\nb: {state: draft}\n").run([]).exits(0);
    assert!(p.exists("b.txt") && p.exists("a.txt") && p.read("Genfile.lock").contains("b.txt"));
    p.run(["check"]).exits(0);
    p.run(["b.txt"]).exits(0);
    for (when, made) in [("false", false), ("true", true), ("\"\"", false), ("\"0\"", false), ("\"yes\"", true)] {
        let p = project(&format!("  a: {{when: {when}, output: x.txt, template: t.hbs, foreach: [1]}}\n"));
        if when == "\"\"" {
            p.run([]).stderr_has("`when` is empty").exits(2);
            continue;
        }
        p.run([]).exits(0);
        assert_eq!(p.exists("x.txt"), made, "{when}");
    }
}

#[test]
fn a_group_is_a_target_of_several_rules() {
    let p = project(
        "  a: {group: docs, output: a.txt, template: t.hbs, foreach: [1]}\n  b: {group: [docs, all], output: b.txt, template: t.hbs, foreach: [1]}\n  c: {output: c.txt, template: t.hbs, foreach: [1]}\n",
    );
    p.run(["docs"]).exits(0);
    assert!(p.exists("a.txt") && p.exists("b.txt") && !p.exists("c.txt"));
    p.run(["check", "docs", "all"]).exits(0);
    p.run(["dosc"]).stderr_has("did you mean `docs`?").exits(2);
}

#[test]
fn an_included_file_brings_variables_and_rules_with_paths_of_its_own() {
    let p = Project::new()
        .file("Genfile", "version: 1\ninclude: [rules/common.yaml]\nvars: {name: ours}\nrules:\n  own: {output: own.txt, template: own.hbs}\n")
        .file("own.hbs", "{{vars.name}} {{vars.other}}\n")
        .file("rules/common.yaml", "include: [rules/deep/more.yaml]\nvars: {name: theirs, other: \"{{vars.name}}!\"}\nrules:\n  a: {output: a.txt, template: t/a.hbs, inputs: [in.txt]}\n  own: {output: never.txt, template: t/a.hbs}\n")
        .file("rules/t/a.hbs", "{{> part}}{{vars.name}}\n")
        .file("rules/t/part.hbs", "part ")
        .file("rules/deep/more.yaml", "rules: {more: {output: more.txt, template: ../t/a.hbs}}\n")
        .file("in.txt", "");
    p.run([]).exits(0);
    assert_eq!(p.read("own.txt"), "ours ours!\n");
    assert_eq!(p.read("a.txt"), "part ours\n");
    assert!(p.exists("more.txt") && !p.exists("never.txt"));
    // Its mistakes are shown where they stand, with all others.
    p.edit("rules/common.yaml", "rules:\n  a: {otput: a.txt, template: t/a.hbs}\n").edit("own.hbs", "x");
    p.run([]).stderr_has("unknown key `otput` in rule `a`").stderr_has("rules/common.yaml:2:7").exits(2);
}

#[test]
fn includes_that_cannot_be_followed() {
    let p = Project::new()
        .file("Genfile", "version: 1\ninclude: [a.yaml, nope.yaml, \"builtin:gp\", {from: c.yaml, only: [on]}, ../x.yaml]\nrules: {}\n")
        .file("a.yaml", "include: [b.yaml]\n")
        .file("b.yaml", "include: [a.yaml]\nproviders: {}\n")
        .file("c.yaml", "rules: {one: {output: o, run: \"true\"}}\n");
    p.run([])
        .stderr(expect![[r#"
            genmake::missing_input

              x it includes `nope.yaml`, which is not there
               ,-[Genfile:2:19]
             1 | version: 1
             2 | include: [a.yaml, nope.yaml, "builtin:gp", {from: c.yaml, only: [on]}, ../x.yaml]
               :                   ^^^^^^^^^
             3 | rules: {}
               `----
              help: paths are relative to the Genfile's folder; a pack is written `builtin:NAME`
            genmake::missing_input

              x genmake ships no pack `gp`
               ,-[Genfile:2:30]
             1 | version: 1
             2 | include: [a.yaml, nope.yaml, "builtin:gp", {from: c.yaml, only: [on]}, ../x.yaml]
               :                              ^^^^^^^^^^^^
             3 | rules: {}
               `----
              help: did you mean `go`?
                    there is `go`, `node`, `project`, `python`, `rust`
            genmake::unknown_rule

              x `c.yaml` has no rule `on`
               ,-[Genfile:2:51]
             1 | version: 1
             2 | include: [a.yaml, nope.yaml, "builtin:gp", {from: c.yaml, only: [on]}, ../x.yaml]
               :                                                   ^^^^^^
             3 | rules: {}
               `----
              help: did you mean `one`?
            genmake::bad_path

              x `../x.yaml` leads outside the root
               ,-[Genfile:2:72]
             1 | version: 1
             2 | include: [a.yaml, nope.yaml, "builtin:gp", {from: c.yaml, only: [on]}, ../x.yaml]
               :                                                                        ^^^^^^^^^
             3 | rules: {}
               `----
            genmake::cycle

              x files include each other: `a.yaml` → `b.yaml` → `a.yaml`
               ,-[b.yaml:1:11]
             1 | include: [a.yaml]
               :           ^^^^^^
             2 | providers: {}
               `----
              help: take one of these `include` entries out
            genmake::unknown_key

              x unknown key `providers` in the included file `b.yaml`
               ,-[b.yaml:2:1]
             1 | include: [a.yaml]
             2 | providers: {}
               : ^^^^^^^^^
               `----
              help: the included file `b.yaml` has the keys `version`, `vars`, `include`, `rules`
            6 mistakes
        "#]])
        .exits(2);
}

#[test]
fn only_takes_some_rules_of_a_file_and_the_same_name_twice_is_an_error() {
    let rules = "rules:\n  one: {output: one.txt, template: t.hbs, foreach: [1]}\n  two: {output: two.txt, template: t.hbs, foreach: [1]}\n";
    let p = Project::new()
        .file("Genfile", "version: 1\ninclude: [{from: a.yaml, only: [one]}]\nrules: {}\n")
        .file("a.yaml", rules)
        .file("b.yaml", rules)
        .file("t.hbs", "x\n");
    p.run([]).exits(0);
    assert!(p.exists("one.txt") && !p.exists("two.txt"));
    p.edit("Genfile", "version: 1\ninclude: [a.yaml, b.yaml]\nrules: {}\n");
    p.run([]).stderr_has("two included files have a rule `one`").exits(2);
}

#[test]
fn a_path_with_brackets_is_itself_where_it_is_there() {
    let p = project(
        "  each: {foreach: \"pages/*\", inputs: [\"{{item.path}}\"], output: \"out/{{item.name}}\", template: in.hbs}\n  \
           parts: {inputs: [\"d/[a].yaml#/x\"], output: out/parts, template: part.hbs}\n  \
           made: {output: \"gen/{x}.txt\", template: c.hbs}\n  \
           glob: {inputs: [\"pages/[iz].tsx\", \"gen/{x}.txt\"], output: out/glob, template: glob.hbs}\n",
    )
    .file("in.hbs", "{{inputs.[0].text}}")
    .file("part.hbs", "{{inputs.[0].value}}")
    .file("c.hbs", "made")
    .file("glob.hbs", "{{len inputs.[0]}} {{inputs.[1].text}}")
    .file("pages/[id].tsx", "brackets")
    .file("pages/i.tsx", "i")
    .file("d/[a].yaml", "x: right\n")
    .file("d/a.yaml", "x: wrong\n");
    p.run([]).exits(0);
    let read = |path: &str| p.read(&format!("out/{path}"));
    assert_eq!([read("[id].tsx"), read("i.tsx"), read("parts"), read("glob")], ["brackets", "i", "right", "1 made"]);
    p.edit("pages/[id].tsx", "edited").run([]).stderr_has("1 rendered").exits(0);
    assert_eq!(p.read("out/[id].tsx"), "edited");
}

#[test]
fn a_foreach_over_parts_of_what_a_later_rule_makes_is_refused() {
    for rule in
        ["{output: gen/b.yaml, template: t.hbs}", "{foreach: [b], output: \"gen/{{item}}.yaml\", template: t.hbs}"]
    {
        let p = project(&format!(
            "  sel: {{foreach: \"gen/*.yaml#/x/*\", output: \"out/{{{{item.key}}}}\", template: t.hbs}}\n  late: {rule}\n"
        ))
        .file("gen/a.yaml", "x: {k: 1}\n");
        p.run([])
            .stderr_has("genmake::dynamic_foreach")
            .stderr_has("rule `sel`: it runs over the content of `gen/b.yaml`, which rule `late` makes")
            .exits(2);
    }
}

#[test]
fn an_environment_variable_that_is_not_set_has_a_default() {
    let p = project("  a: {env: [GM_UNSET], output: a.txt, template: env.hbs}\n  b: {env: [GM_UNSET], output: b.txt, template: b.hbs}\n")
        .file("env.hbs", "{{#if env.GM_UNSET}}set{{/if}}{{default env.GM_UNSET \"default\"}}")
        .file("b.hbs", "{{env.GM_UNSET}}");
    p.run(["a"]).exits(0);
    assert_eq!(p.read("a.txt"), "default");
    p.run(["b"])
        .stderr_has("unknown variable `env.GM_UNSET`")
        .stderr_has("help: `GM_UNSET` must be set, and stand in the rule's `env: [GM_UNSET]`")
        .exits(2);
}

#[test]
fn what_was_meant_to_be_an_expression_or_a_string() {
    let p = project(
        "  a: {when: vars.on, output: a.txt, template: t.hbs}\n  b: {output: {{rule}}, template: t.hbs}\n  \
           c: {output: c.txt, template: t.hbs, file_mode: 0755}\n  d: {output: d.txt, template: t.hbs, check: [{}]}\n",
    );
    p.run([])
        .stderr_has("`when` holds no expression: `vars.on` is always true")
        .stderr_has("help: put it in quotes, as in `\"{{vars.x}}\"`: in YAML `{` starts a map")
        .stderr_has("help: put it in quotes: `\"0755\"`")
        .stderr_has("this `check` names nothing to check")
        .stderr_has("4 mistakes")
        .exits(2);
}

#[test]
fn outputs_in_an_output_are_one_mistake() {
    let p = project(
        "  a: {output: w, template: t.hbs}\n  b: {foreach: [1, 2, 3], output: \"w/{{item}}\", template: t.hbs}\n",
    );
    p.run([])
        .stderr(expect![[r#"
        genmake::duplicate_output

          x `w/1` would lie in `w`, which rule `a` makes as a file
           ,-[Genfile:4:35]
         3 |   a: {output: w, template: t.hbs}
         4 |   b: {foreach: [1, 2, 3], output: "w/{{item}}", template: t.hbs}
           :                                   ^^^^^^^^^^^^
           `----
    "#]])
        .exits(2);
}

#[test]
fn a_folder_is_no_input_and_a_glob_is_normalised() {
    let p = project(
        "  a: {inputs: [docs], output: a, template: t.hbs}\n  b: {inputs: [gen/], output: b, template: t.hbs}\n  \
           c: {output: gen/c, template: t.hbs}\n",
    )
    .file("docs/x.md", "x");
    p.run([])
        .stderr_has("rule `a`: its input is `docs`, which is a folder")
        .stderr_has("help: its files are `docs/*`, and with all folders below `docs/**`")
        .stderr_has("rule `b`: its input is `gen`, which is a folder")
        .exits(2);
    let p = project("  a: {inputs: [docs/./*.md], output: a, template: l.hbs}\n")
        .file("docs/x.md", "x")
        .file("l.hbs", "{{len inputs.[0]}}");
    p.run([]).exits(0);
    assert_eq!(p.read("a"), "1");
}
