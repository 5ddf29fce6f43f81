//! Parts of files as inputs of their own: what is edited beside a part leaves its task alone.

use expect_test::{Expect, expect};

use crate::project::Project;

/// A project with a template for each item, one for a part as input, and one for a list of parts.
fn project(file: &str, text: &str, rules: &str) -> Project {
    let p = Project::new()
        .file("Genfile", &format!("version: 1\nrules:\n{rules}"))
        .file("item.hbs", "{{json item.value}}\n")
        .file("one.hbs", "{{inputs.part.text}}\n")
        .file("all.hbs", "{{#each inputs.parts}}{{text}}\n{{/each}}\n")
        .file(file, text);
    p.run([]).exits(0);
    p.run(["check"]).exits(0);
    p
}

/// Edits a file, again and again: what was there, what comes in its place, and what is then to be made.
#[track_caller]
fn edits(p: &Project, file: &str, edits: &[(&str, &str, &[&str])]) {
    for (was, is, expected) in edits {
        let text = p.read(file);
        assert_eq!(text.matches(was).count(), 1, "{was:?} in {text:?}");
        p.edit(file, &text.replace(was, is));
        let check = p.run(["check"]);
        let mut outdated: Vec<String> =
            check.stdout.lines().filter_map(|line| Some(line.split_whitespace().nth(1)?.to_owned())).collect();
        outdated.sort();
        assert_eq!(outdated, *expected, "{was:?} became {is:?}\n{check}");
        check.exits(i32::from(!expected.is_empty()));
        let before = p.stamps();
        p.run([]).exits(0);
        let after = p.stamps();
        let written: Vec<&String> =
            after.keys().filter(|path| path.starts_with("out/") && before.get(*path) != after.get(*path)).collect();
        assert_eq!(written, *expected, "{was:?} became {is:?}");
        p.run(["check"]).exits(0);
    }
}

#[test]
fn keys_of_data() {
    for (file, text) in [
        ("d.json", "{\"a\": {\"n\": 1},\n\"b\": {\"n\": 2}}\n"),
        ("d.yaml", "{\"a\": {\"n\": 1},\n\"b\": {\"n\": 2}}\n"),
    ] {
        let rules = r##"
  each: {foreach: "FILE#/*", template: item.hbs, output: "out/{{item.key}}"}
  one: {inputs: {part: "FILE#/b/n"}, template: one.hbs, output: out/one}
  all: {inputs: {parts: "FILE#/*/n"}, template: all.hbs, output: out/parts}
"##;
        let p = project(file, text, &rules.replace("FILE", file));
        edits(
            &p,
            file,
            &[
                ("1", "10", &["out/a", "out/parts"]),
                ("2", "20", &["out/b", "out/one", "out/parts"]),
                ("{\"a\"", "{\"new\": {\"n\": 0},\n\"a\"", &["out/new", "out/parts"]),
                ("\"n\": 10", "\"m\": 1, \"n\": 10", &["out/a"]),
                (",\n\"b\"", ",\n\n  \"b\"", &[]),
            ],
        );
    }
}

#[test]
fn rows_and_lines() {
    for (file, text, above, spaced) in [
        ("d.csv", "id,n\na,1\nb,2\n", ("id,n\n", "id,n\nnew,0\n"), ("\nb,2", "\n\nb,20")),
        ("d.tsv", "id\tn\na\t1\nb\t2\n", ("id\tn\n", "id\tn\nnew\t0\n"), ("\nb\t2", "\n\nb\t20")),
        (
            "d.jsonl",
            "{\"id\": \"a\", \"n\": 1}\n{\"id\": \"b\", \"n\": 2}\n",
            ("{\"id\": \"a\"", "{\"id\": \"new\", \"n\": 0}\n{\"id\": \"a\""),
            ("\n{\"id\": \"b\", \"n\": 2}", "\n\n{\"id\": \"b\", \"n\": 20}"),
        ),
    ] {
        let rules = r##"
  each: {foreach: "FILE#/*", template: item.hbs, output: "out/{{item.value.id}}"}
  one: {inputs: {part: "FILE#/0"}, template: one.hbs, output: out/one}
  all: {inputs: {parts: "FILE#/*/n"}, template: all.hbs, output: out/parts}
"##;
        let p = project(file, text, &rules.replace("FILE", file));
        edits(
            &p,
            file,
            &[
                ("1", "10", &["out/a", "out/one", "out/parts"]),
                (spaced.0, spaced.1, &["out/b", "out/parts"]),
                (above.0, above.1, &["out/new", "out/one", "out/parts"]),
            ],
        );
    }
}

const SECTIONS: &str = r##"
  each: {foreach: "d.md#sections", template: item.hbs, output: "out/{{kebab_case item.key}}"}
  one: {inputs: {part: "d.md#sections/Use"}, template: one.hbs, output: out/one}
  within: {inputs: {part: "d.md#sections/End/Use"}, template: one.hbs, output: out/within}
  all: {inputs: {parts: "d.md#sections"}, template: all.hbs, output: out/parts}
"##;

#[test]
fn sections() {
    let text = "before\n\n# Title\nt\n\n## Use\nu\n\n### Deep\nd\n\n# End\ne\n\n## Use\nv";
    let p = project("d.md", text, SECTIONS);
    assert_eq!(p.read("out/one"), "## Use\nu\n\n### Deep\nd\n\n");
    assert_eq!(p.read("out/use"), "\"## Use\\nu\\n\"\n");
    edits(
        &p,
        "d.md",
        &[
            ("before", "", &[]),
            ("\nt\n", "\nT\n", &["out/parts", "out/title"]),
            ("\nu\n", "\nU\n", &["out/one", "out/parts", "out/use"]),
            ("\nd\n", "\nD\n", &["out/deep", "out/one", "out/parts"]),
            ("\n\n# End", "\n\n\n\n# End", &[]),
            ("# Title", "# New\n\nn\n\n# Title", &["out/new", "out/parts"]),
            ("\nv", "\nv\n\n# Last\n", &["out/last", "out/parts"]),
            ("\nv", "\nV", &["out/parts", "out/use-2", "out/within"]),
        ],
    );
}

#[test]
#[cfg(feature = "syntax")]
fn definitions() {
    let rules = r##"
  each: {foreach: "d.py#defs", template: item.hbs, output: "out/{{item.name}}"}
  one: {inputs: {part: "d.py#defs/A.m"}, template: one.hbs, output: out/one}
  head: {inputs: {parts: "d.py#defs"}, template: head.hbs, output: out/parts}
"##;
    let text = "import a\n\n# Adds.\ndef f(x):\n    return 1\n\nclass A:\n    \"\"\"An A.\"\"\"\n    def m(self): return 2\n\n    def n(self): return 3\n";
    let p = Project::new()
        .file("head.hbs", "{{#each inputs.parts}}{{kind}} {{signature}} {{doc}}\n{{/each}}\n")
        .file("Genfile", &format!("version: 1\nrules:\n{rules}"))
        .file("item.hbs", "{{item.text}}\n")
        .file("one.hbs", "{{inputs.part.text}}\n")
        .file("d.py", text);
    p.run([]).exits(0);
    assert_eq!(
        p.read("out/parts"),
        "function def f(x): Adds.\nclass class A: An A.\nmethod def m(self): \nmethod def n(self): \n"
    );
    edits(
        &p,
        "d.py",
        &[
            ("import a", "import b", &[]),
            ("return 1", "return 10", &["out/f"]),
            ("# Adds", "# Sums", &["out/f", "out/parts"]),
            // A class is made of its methods, and no method of another.
            ("return 2", "return 20", &["out/A", "out/A.m", "out/one"]),
            ("return 3", "return 30", &["out/A", "out/A.n"]),
            ("import b", "import b\n\ndef new(): pass", &["out/new", "out/parts"]),
            ("\n\nclass", "\n\n\n\nclass", &[]),
        ],
    );
}

#[test]
fn a_glob_of_files_is_a_list_also_of_one() {
    let rules = r##"
  each: {foreach: "docs/*.md#sections/Use", template: item.hbs, output: "out/{{basename item.path}}"}
  all: {inputs: {parts: "docs/*.md#sections/Use"}, template: all.hbs, output: out/parts}
"##;
    let p = project("docs/a.md", "# Use\na\n# Other\n", rules);
    assert_eq!(p.read("out/parts"), "# Use\na\n\n");
    p.edit("docs/b.md", "# Use\nb\n");
    p.run([]).exits(0);
    assert_eq!(p.read("out/parts"), "# Use\na\n\n# Use\nb\n\n");
    edits(&p, "docs/a.md", &[("\na\n", "\nA\n", &["out/a.md", "out/parts"]), ("Other", "Another", &[])]);
}

#[test]
fn data_of_all_kinds_is_data_of_files_too() {
    let p = Project::new()
        .file(
            "Genfile",
            "version: 1\nrules:\n  \
             all: {inputs: {t: t.csv, l: l.jsonl}, template: all.hbs, output: out/all}\n  \
             each: {foreach: \"*.{csv,ndjson}\", template: each.hbs, output: \"out/{{item.name}}\"}\n",
        )
        .file("all.hbs", "{{json inputs.t.data}} {{json inputs.l.data}}\n")
        .file("each.hbs", "{{json item.data}}\n")
        .file("t.csv", "a,b\n1,2\n")
        .file("l.jsonl", "{\"x\": 1}\n[2]\n")
        .file("n.ndjson", "3\n");
    p.run([]).exits(0);
    assert_eq!(p.read("out/all"), "[{\"a\":\"1\",\"b\":\"2\"}] [{\"x\":1},[2]]\n");
    assert_eq!(p.read("out/n.ndjson"), "[3]\n");
    assert_eq!(p.read("out/t.csv"), "[{\"a\":\"1\",\"b\":\"2\"}]\n");
}

#[test]
fn an_optional_part_may_be_missing_and_not_impossible() {
    let rules = r##"
  one: {inputs: {part: {path: "d.md#sections/Use", optional: true}}, template: may.hbs, output: out/one}
  no: {inputs: {part: {path: "no.md#sections/Use", optional: true}}, template: may.hbs, output: out/no}
"##;
    let p = Project::new()
        .file("may.hbs", "{{#if inputs.part}}{{inputs.part.name}}{{/if}}.\n")
        .file("Genfile", &format!("version: 1\nrules:\n{rules}"))
        .file("d.md", "# Title\n");
    p.run([]).exits(0);
    assert_eq!(p.read("out/one"), ".\n");
    edits(&p, "d.md", &[("# Title\n", "# Use\n", &["out/one"])]);
    assert_eq!((p.read("out/one").as_str(), p.read("out/no").as_str()), ("Use.\n", ".\n"));
    p.edit("Genfile", &p.read("Genfile").replace("no.md#sections", "item.json#sections"));
    p.run([]).stderr_has("genmake::bad_selector").exits(2);
}

/// A part of a file that another rule makes is selected once the file is there.
#[test]
fn parts_of_made_files() {
    let rules = r##"
  use: {inputs: {part: "made.md#sections/Use"}, template: one.hbs, output: out/use}
  made: {inputs: {notes: notes.txt}, template: made.hbs, output: made.md}
"##;
    let p = Project::new()
        .file("one.hbs", "{{inputs.part.text}}")
        .file("made.hbs", "# Use\nu\n# Notes\n{{inputs.notes.text}}")
        .file("notes.txt", "n\n")
        .file("Genfile", &format!("version: 1\nrules:\n{rules}"));
    p.run([]).exits(0);
    assert_eq!(p.read("out/use"), "# Use\nu\n");
    let before = p.stamps();
    p.edit("notes.txt", "m\n").run([]).exits(0);
    assert_ne!(before["made.md"], p.stamps()["made.md"]);
    assert_eq!(before["out/use"], p.stamps()["out/use"]);
    p.edit("made.hbs", "# Used\n").run([]).stderr_has("did you mean `Used`?").exits(2);
}

#[track_caller]
fn refused(input: &str, expected: Expect) {
    let p = Project::new()
        .file(
            "Genfile",
            &format!("version: 1\nrules:\n  r: {{foreach: \"{input}\", template: t.hbs, output: out/x}}\n"),
        )
        .file("t.hbs", "")
        .file("d.md", "# Use it\n")
        .file("d.json", "{}\n")
        .file("d.txt", "")
        .file("d.csv", "a,b\n1\n")
        .file("d.jsonl", "1\n{\n")
        .file("d.go", "package a\n\nfunc Fetch() {}\n");
    let run = p.run([]);
    let lines: Vec<&str> = run.stderr.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    expected.assert_eq(&(lines.join("\n") + "\n"));
    run.exits(2);
}

#[test]
fn what_cannot_be_is_said() {
    refused(
        "d.md#sections/Use",
        expect![[r#"
        genmake::bad_selector
        x rule `r`: `d.md#sections/Use` finds nothing: no heading `Use`; there is `Use it`
        ,-[Genfile:3:16]
        2 | rules:
        3 |   r: {foreach: "d.md#sections/Use", template: t.hbs, output: out/x}
        :                ^^^^^^^^^^^^^^^^^^^
        `----
    "#]],
    );
    refused(
        "d.json#sections",
        expect![[r#"
        genmake::bad_selector
        x rule `r`: `d.json#sections` cannot be: `d.json` is no Markdown file
        ,-[Genfile:3:16]
        2 | rules:
        3 |   r: {foreach: "d.json#sections", template: t.hbs, output: out/x}
        :                ^^^^^^^^^^^^^^^^^
        `----
        help: Markdown files end in .md or .markdown
    "#]],
    );
    refused(
        "d.md#/a",
        expect![[r#"
        genmake::bad_selector
        x rule `r`: `d.md#/a` cannot be: `d.md` is no data file
        ,-[Genfile:3:16]
        2 | rules:
        3 |   r: {foreach: "d.md#/a", template: t.hbs, output: out/x}
        :                ^^^^^^^^^
        `----
        help: data files end in .yaml, .yml, .json, .jsonl, .ndjson, .toml, .csv or .tsv
        parts of a Markdown file are `#sections` and `#sections/HEADING`
    "#]],
    );
    refused(
        "d.csv#/*",
        expect![[r#"
            genmake::unreadable
            x rule `r`: `d.csv` is not CSV: the row's number of fields is 1, the header's 2
            ,-[d.csv:2:1]
            1 | a,b
            2 | 1
            : ^
            `----
        "#]],
    );
    refused(
        "d.jsonl#/*",
        expect![[r#"
        genmake::unreadable
        x rule `r`: `d.jsonl` is not JSON, line by line: EOF while parsing an object
        ,-[d.jsonl:2:1]
        1 | 1
        2 | {
        : ^
        `----
    "#]],
    );
    refused(
        "d.md#section",
        expect![[r#"
        genmake::bad_selector
        x rule `r`: `d.md#section` is no selector: `#section` is neither a pointer, which starts with `/` as in `d.md#/entities/*`, nor `#sections`, nor `#defs`
        ,-[Genfile:3:16]
        2 | rules:
        3 |   r: {foreach: "d.md#section", template: t.hbs, output: out/x}
        :                ^^^^^^^^^^^^^^
        `----
    "#]],
    );
}

#[test]
#[cfg(feature = "syntax")]
fn what_is_not_defined_is_said() {
    refused(
        "d.go#defs/Fetsh",
        expect![[r#"
        genmake::bad_selector
        x rule `r`: `d.go#defs/Fetsh` finds nothing: no definition `Fetsh`; it has `Fetch`
        ,-[Genfile:3:16]
        2 | rules:
        3 |   r: {foreach: "d.go#defs/Fetsh", template: t.hbs, output: out/x}
        :                ^^^^^^^^^^^^^^^^^
        `----
        help: did you mean `Fetch`?
    "#]],
    );
    refused(
        "d.txt#defs",
        expect![[r#"
        genmake::bad_selector
        x rule `r`: `d.txt#defs` cannot be: there is no grammar for `.txt`; there is one for .cjs, .cts, .go, .java, .js, .jsx, .mjs, .mts, .py, .pyi, .rs, .ts, .tsx
        ,-[Genfile:3:16]
        2 | rules:
        3 |   r: {foreach: "d.txt#defs", template: t.hbs, output: out/x}
        :                ^^^^^^^^^^^^
        `----
    "#]],
    );
}

#[test]
#[cfg(not(feature = "syntax"))]
fn without_grammars_nothing_is_defined() {
    refused(
        "d.go#defs",
        expect![[r#"
        genmake::bad_selector
        x rule `r`: `d.go#defs` cannot be: this build of genmake has no grammars (the feature `syntax` is off)
        ,-[Genfile:3:16]
        2 | rules:
        3 |   r: {foreach: "d.go#defs", template: t.hbs, output: out/x}
        :                ^^^^^^^^^^^
        `----
    "#]],
    );
}
