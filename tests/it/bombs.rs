//! Hostile Genfiles, and what they lead to: too deep, too large, too many. Each is refused with its place, or works; none of
//! them takes the stack, a gigabyte, or the day.

use std::fmt::Write as _;
use std::process::Command;

use crate::project::Project;

/// The most memory that a run may ask for, in KB; the bar that is measured, in a release build, is 64 MB.
const MOST_MEMORY: usize = 256 << 10;
/// The most that a run may print, in bytes.
const MOST_SAID: usize = 32 << 10;

/// Runs `genmake check` in a folder of these files, on few threads, whose stacks count as memory. It ends in order, with exit 2 where something is to be said.
#[track_caller]
fn check(files: &[(&str, &[u8])], says: &[&str]) {
    let p = Project::new();
    for (path, bytes) in files {
        fs_err::write(p.path(path), bytes).expect("a file of the project can be written");
    }
    let run = p.finish(bounded(p.command(["check", "-j2"])).spawn().expect("a shell can be started"));
    let told =
        format!("{}\n{}", files[0].0, String::from_utf8_lossy(&run.stderr.as_bytes()[..run.stderr.len().min(3_000)]));
    assert!(run.stderr.len() < MOST_SAID, "it prints {} bytes: {told}", run.stderr.len());
    assert!(!run.stderr.contains("panicked") && !run.stderr.contains("genmake::bug"), "{told}");
    for part in says {
        assert!(run.stderr.contains(part), "it does not say {part:?}: {told}");
    }
    match says {
        [] => assert!(matches!(run.status.code(), Some(0 | 1)), "{:?}: {told}", run.status),
        _ => assert_eq!(run.status.code(), Some(2), "{:?}: {told}", run.status),
    }
}

/// The same command with a bound on its memory, where the system has one.
fn bounded(command: Command) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -d {MOST_MEMORY}; exec \"$0\" \"$@\""));
    shell.arg(command.get_program()).args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().expect("it runs in the project"));
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    shell
}

// ---- YAML ----

/// What no YAML of genmake's may hold: the text, what is said, and where.
fn yaml_bombs() -> Vec<(String, &'static str, (usize, usize))> {
    let mut laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (one, next) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        let all = vec![format!("*{one}"); 9].join(",");
        let _ = writeln!(laughs, "{next}: &{next} [{all}]"); // a string takes all
    }
    let quadratic = format!("a: &a [{}]\nb: [{}]\n", vec!["x"; 40_000].join(","), vec!["*a"; 30_000].join(","));
    let staircase: String = (0..2_000).fold(String::new(), |text, i| text + &" ".repeat(i) + "a:\n");
    let anchors: String = (0..5_000).fold(String::new(), |text, i| text + &format!("a{i}: &a{i} 1\n"));
    let merged = format!(
        "b: &b {{{}}}\n{}",
        (0..5_000).map(|i| format!("k{i}: 1")).collect::<Vec<_>>().join(", "),
        (0..900).map(|i| format!("c{i}: {{<<: *b}}\n")).collect::<String>()
    );
    let too_deep = "nested deeper than 64 levels";
    let too_many = "aliases stand for more than 50000 values";
    vec![
        (laughs, too_many, (5, 20)),
        (quadratic, too_many, (2, 8)),
        (merged, too_many, (1, 48_855)),
        (anchors, "more than 1000 anchors", (1001, 15)),
        ("[".repeat(200_000), too_deep, (1, 256)),
        ("[".repeat(100_000) + &"]".repeat(100_000), too_deep, (1, 256)),
        ("- ".repeat(100_000), too_deep, (1, 129)),
        ("{a: ".repeat(3_000) + &"}".repeat(3_000), too_deep, (1, 1021)),
        (staircase, too_deep, (65, 65)),
        ("x: &a [*a]\n".to_owned(), "an anchor holds itself", (1, 8)),
        ("x: &a {y: *a}\n".to_owned(), "an anchor holds itself", (1, 11)),
        ("x: *nope\n".to_owned(), "unknown anchor", (1, 4)),
        ("x:\n\ty: 1\n".to_owned(), "tabs", (2, 2)),
        ("x: 1\n\0\n".to_owned(), "unexpected character", (2, 1)),
        (format!("x: {}\n", "9".repeat(1_000_000)), "no number, or one too large", (1, 4)),
        (format!("x: \"{}\"\n]\n", "y".repeat(1_000_000)), "", (2, 1)),
    ]
}

#[test]
fn in_the_genfile() {
    for (text, says, (line, column)) in yaml_bombs() {
        check(&[("Genfile", text.as_bytes())], &["genmake::yaml", says, &format!("[Genfile:{line}:{column}]")]);
    }
    check(&[("Genfile", b"version: 1\n---\nversion: 1\n")], &["a second document starts here", "[Genfile:3:1]"]);
    check(&[("Genfile", &b"---\n".repeat(100_000))], &["a second document starts here", "[Genfile:2:4]"]);
}

#[test]
fn in_an_included_file() {
    let genfile = ("Genfile", &b"version: 1\ninclude: [inc.yaml]\nrules: {}\n"[..]);
    for (text, says, (line, column)) in yaml_bombs() {
        check(
            &[genfile, ("inc.yaml", text.as_bytes())],
            &["genmake::yaml", says, &format!("[inc.yaml:{line}:{column}]")],
        );
    }
}

const ASKS: &[u8] = b"version: 1\nprovider: p\nproviders: {p: {api: openai, model: m, base_url: \"http://127.0.0.1:9/v1\"}}\nrules: {a: {output: o, prompt: p.prompt}}\n";

#[test]
fn in_the_front_matter_of_a_prompt() {
    for (text, says, (line, column)) in yaml_bombs() {
        let prompt = format!("---\n{text}\n---\nhello\n");
        // A text that goes on below its bomb may be refused somewhere else.
        let place =
            if text.ends_with('\n') { format!("[p.prompt:{}:{column}]", line + 1) } else { "[p.prompt:".to_owned() };
        check(&[("Genfile", ASKS), ("p.prompt", prompt.as_bytes())], &["genmake::yaml", says, &place]);
    }
}

/// A rule over the parts of a data file, which ends in `ext`.
fn over(ext: &str) -> String {
    format!("version: 1\nrules: {{a: {{foreach: \"d.{ext}#/*\", output: \"o{{{{item.index}}}}\", template: t.hbs}}}}\n")
}

#[test]
fn in_a_data_file() {
    let (yaml, json, toml) = (over("yaml"), over("json"), over("toml"));
    for (text, says, (line, column)) in yaml_bombs() {
        check(
            &[("Genfile", yaml.as_bytes()), ("d.yaml", text.as_bytes()), ("t.hbs", b"x")],
            &["genmake::unreadable", says, &format!("[d.yaml:{line}:{column}]")],
        );
    }
    for text in ["[".repeat(100_000), "[".repeat(100_000) + &"]".repeat(100_000), "{\"a\":".repeat(100_000)] {
        check(
            &[("Genfile", json.as_bytes()), ("d.json", text.as_bytes()), ("t.hbs", b"x")],
            &["recursion limit exceeded", "[d.json:1:"],
        );
    }
    let dotted = format!("a{} = 1\n", ".a".repeat(100_000));
    for text in [format!("a = {}", "[".repeat(100_000)), format!("a = {}", "{a=".repeat(100_000)), dotted] {
        check(
            &[("Genfile", toml.as_bytes()), ("d.toml", text.as_bytes()), ("t.hbs", b"x")],
            &["is not TOML", "[d.toml:1:"],
        );
    }
    for ext in ["json", "yaml", "toml"] {
        let genfile = format!("version: 1\nrules: {{a: {{output: o, template: t.hbs, check: {ext}}}}}\n");
        check(&[("Genfile", genfile.as_bytes()), ("t.hbs", "a = [".repeat(50_000).as_bytes())], &[]);
    }
}

// ---- texts ----

#[test]
fn what_is_no_text_has_a_place() {
    check(&[("Genfile", b"version: 1\nrules: {a\xff\xfe: {}}\n")], &["`Genfile` is not UTF-8 text", "[Genfile:2:10]"]);
    let genfile = ("Genfile", &b"version: 1\ninclude: [inc.yaml]\nrules: {}\n"[..]);
    check(&[genfile, ("inc.yaml", b"vars:\n  x: \xff\n")], &["`inc.yaml` is not UTF-8 text", "[inc.yaml:2:6]"]);
    check(&[("Genfile", ASKS), ("p.prompt", b"hello\n \xc3(\n")], &["`p.prompt` is not UTF-8 text", "[p.prompt:2:2]"]);
    let yaml = over("yaml");
    check(
        &[("Genfile", yaml.as_bytes()), ("t.hbs", b""), ("d.yaml", b"a: \xe2\x82\n")],
        &["`d.yaml` is not UTF-8 text", "[d.yaml:1:4]"],
    );
}

#[test]
fn what_is_only_odd_works() {
    let rules = "rules: {}\n";
    for text in [
        format!("\u{feff}version: 1\n{rules}"),
        "version: 1\r\nrules: {}\r\n".to_owned(),
        format!("version: 1\n{rules}{}", "# comment\n".repeat(100_000)),
        format!("vars: {{x: \"{}\"}}\nversion: 1\n{rules}", "y".repeat(5 << 20)),
        format!("version: 1\nvars: {{b: &b {{x: 1}}, c: {{<<: *b, y: 2}}}}\n{rules}"),
        format!("--- \nversion: 1\nvars: {{x: !!str 1, y: !own [1]}}\n{rules}..."),
    ] {
        check(&[("Genfile", text.as_bytes())], &[]);
    }
}

#[test]
fn what_is_only_odd_keeps_its_places() {
    for (text, place) in [
        ("\u{feff}version: 1\nrulez: {}\n", "[Genfile:2:1]"),
        ("version: 1\r\nrules: {}\r\nvarz: {}\r\n", "[Genfile:3:1]"),
        ("version: 1\nrules: {}\nvars: {a: &a {x: 1}}\nwhat: {<<: *a}\n", "[Genfile:4:1]"),
        ("version: 1\nrules: !own {}\nwhat: !!str 1\n", "[Genfile:3:1]"),
        ("--- # a comment\nversion: 1\nrules: {}\n'w\u{e9}': \"\u{1f600}\"\n...\n", "[Genfile:4:1]"),
    ] {
        check(&[("Genfile", text.as_bytes())], &["genmake::unknown_key", place]);
    }
}

#[test]
fn what_is_too_large_is_refused_by_its_size() {
    let large = vec![b'#'; 50 << 20];
    let genfile = ("Genfile", &b"version: 1\ninclude: [inc.yaml]\nrules: {}\n"[..]);
    check(&[("Genfile", &large)], &["genmake::yaml", "is 50 MB large; a Genfile has at most 8 MB"]);
    check(&[genfile, ("inc.yaml", &large)], &["genmake::yaml", "`inc.yaml` is 50 MB large", "[Genfile:2:11]"]);
    check(&[("Genfile", ASKS), ("p.prompt", &large)], &["`p.prompt` is 50 MB large", "at most 4 MB", "[Genfile:4:9]"]);
}

#[test]
fn a_million_keys() {
    let keys = |most: usize| (0..most).fold("vars:\n".to_owned(), |text, i| text + &format!("  k{i}: 1\n"));
    let fits = keys(600_000);
    assert!((7 << 20..8 << 20).contains(&fits.len()), "as large as the limit allows: {}", fits.len());
    check(&[("Genfile", fits.as_bytes())], &["more values than are read in one file", "[Genfile:"]);
    check(&[("Genfile", keys(1_000_000).as_bytes())], &["a Genfile has at most 8 MB"]);
    let twice = format!("version: 1\nrules: {{}}\nvars:\n{}", "  a: 1\n".repeat(20_000));
    check(&[("Genfile", twice.as_bytes())], &["`a` stands twice in one map", "[Genfile:5:3]"]);
}

#[test]
fn many_mistakes_are_not_all_shown() {
    let unknown = (0..20_000).fold("version: 1\nrules: {}\n".to_owned(), |text, i| text + &format!("k{i}: 1\n"));
    check(
        &[("Genfile", unknown.as_bytes())],
        &["unknown key `k0`", "[Genfile:3:1]", "20000 mistakes, of which these are the first 100"],
    );
    let long = format!("version: 1\nrules: {{}}\n? {}\n: 1\n", "k".repeat(1_000_000));
    check(&[("Genfile", long.as_bytes())], &["genmake::unknown_key", "[Genfile:3:3]"]);
}

// ---- expressions, globs, selectors ----

#[test]
fn expressions_that_nest() {
    let deep = |open: &str, close: &str| open.repeat(10_000) + "a" + &close.repeat(10_000);
    let blocks = "blocks stand more than 100 deep in each other";
    let inside = "parentheses stand more than 20 deep in each other";
    let many = "too many expressions for so long a text";
    for (text, says) in [
        (deep("{{#if a}}", "{{/if}}"), blocks),
        ("{{#if a}}".repeat(10_000), blocks),
        (format!("{{{{#if a}}}}{}{{{{/if}}}}", "{{else if a}}".repeat(10_000)), blocks),
        (format!("{{{{len {}}}}}", deep("(len ", ")")), inside),
        ("{{".to_owned() + &"(len ".repeat(10_000), inside),
        (format!("{{{{len {}}}}}", "(json ".repeat(40) + "a" + &")".repeat(40)), inside),
        ("{{a}}".repeat(100_000), many),
        (format!("{{{{{}a}}}}", "../".repeat(10_000)), "unknown variable"),
        (format!("{{{{a{}}}}}", ".b".repeat(10_000)), "unknown variable"),
        ("{{".repeat(10_000), "genmake::bad_expression"),
        ("{{{{a}}}}".repeat(5_000), "genmake::"),
    ] {
        let genfile = |rule: &str| format!("version: 1\nrules:\n  a: {{{rule}}}\n");
        let plain = genfile("output: o, template: t.hbs");
        let vars = format!("version: 1\nvars: {{x: '{text}'}}\nrules: {{}}\n");
        check(&[("Genfile", vars.as_bytes())], &[says, "[Genfile:2:"]);
        let output = genfile(&format!("output: '{text}', template: t.hbs"));
        check(&[("Genfile", output.as_bytes()), ("t.hbs", b"")], &[says, "[Genfile:3:"]);
        let run = genfile(&format!("output: o, run: '{text}'"));
        check(&[("Genfile", run.as_bytes())], &[says, "[Genfile:3:"]);
        check(&[("Genfile", plain.as_bytes()), ("t.hbs", text.as_bytes())], &[says, "[t.hbs:1:"]);
        check(&[("Genfile", ASKS), ("p.prompt", text.as_bytes())], &[says, "[p.prompt:1:"]);
        check(
            &[("Genfile", plain.as_bytes()), ("t.hbs", b"{{> part}}"), ("part.hbs", text.as_bytes())],
            &[says, "[part.hbs:1:"],
        );
    }
}

#[test]
fn what_nests_within_the_bounds_is_rendered() {
    let text = format!("{}{}{}", "{{#if vars.x}}".repeat(100), "y", "{{/if}}".repeat(100));
    let genfile = b"version: 1\nvars: {x: [1]}\nrules: {a: {output: o, template: t.hbs}}\n";
    check(&[("Genfile", genfile), ("t.hbs", text.as_bytes())], &[]);
    let text = format!("{{{{json {}vars.x{}}}}}", "(json ".repeat(20), ")".repeat(20));
    check(&[("Genfile", genfile), ("t.hbs", text.as_bytes())], &[]);
}

#[test]
fn globs_and_selectors() {
    let genfile = |foreach: &str| {
        format!("version: 1\nrules:\n  a: {{foreach: {foreach}, output: \"out/{{{{item.name}}}}\", template: t.hbs}}\n")
    };
    let alternatives: Vec<String> = (0..10_000).map(|i| format!("ab{i}")).collect();
    for (glob, says) in [
        ("{a,b}".repeat(10_000), &[][..]),
        (format!("{{{}}}", alternatives.join(",")), &[]),
        ("**/".repeat(10_000) + "x", &[]),
        ("*a".repeat(5_000), &[]),
        ("?".repeat(10_000), &[]),
        ("{a,".repeat(10_000) + &"}".repeat(10_000), &["genmake::bad_glob", "too large, or nests too deep"]),
        ("{a,".repeat(10_000), &["genmake::bad_glob", "[Genfile:3:16]"]),
        ("[a-z]".repeat(15_000), &[]),
        ("?".repeat(200_000), &["genmake::bad_glob", "longer than 100000 bytes"]),
        ("d.yaml#".to_owned() + &"/*".repeat(10_000), &["genmake::bad_selector", "[Genfile:3:16]"]),
        ("d.yaml#".to_owned() + &"/a".repeat(10_000), &["genmake::bad_selector", "[Genfile:3:16]"]),
        ("d.yaml#/".to_owned() + &"~".repeat(100_000), &["genmake::bad_selector", "[Genfile:3:16]"]),
        ("#".repeat(100_000), &["genmake::bad_selector", "[Genfile:3:16]"]),
    ] {
        let text = genfile(&format!("'{glob}'"));
        check(&[("Genfile", text.as_bytes()), ("t.hbs", b"x"), ("d.yaml", b"a: {b: {c: 1}}\n")], says);
    }
    let axes: Vec<String> = (0..30).map(|i| format!("a{i}: [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]")).collect();
    let text = genfile(&format!("{{{}}}", axes.join(", ")));
    check(
        &[("Genfile", text.as_bytes()), ("t.hbs", b"x")],
        &["genmake::bad_value", "its foreach has more than 1000000 items", "[Genfile:3:3]"],
    );
    let path = format!("version: 1\nrules: {{a: {{output: {}x, template: t.hbs}}}}\n", "a/".repeat(100_000));
    check(&[("Genfile", path.as_bytes()), ("t.hbs", b"x")], &["genmake::bad_path", "longer than file systems allow"]);
}

#[test]
fn files_that_include_each_other_without_end() {
    let names: Vec<String> = (0..100).map(|i| format!("i{i}.yaml")).collect();
    let texts: Vec<String> = (1..=100).map(|i| format!("include: [i{i}.yaml]\n")).collect();
    let mut files = vec![("Genfile", &b"version: 1\ninclude: [i0.yaml]\nrules: {}\n"[..])];
    files.extend(names.iter().zip(&texts).map(|(name, text)| (name.as_str(), text.as_bytes())));
    check(&files, &["genmake::bad_value", "included by 33 files, each by another", "[i31.yaml:1:11]"]);
}

#[test]
fn locks() {
    let genfile = ("Genfile", &b"version: 1\nrules: {a: {output: o, template: t.hbs}}\n"[..]);
    let line = format!("genmake-lock 1\n\"{}", "[".repeat(1_000_000));
    check(&[genfile, ("t.hbs", b""), ("Genfile.lock", line.as_bytes())], &["genmake::bad_lock", "[Genfile.lock:2:1]"]);
    check(
        &[genfile, ("t.hbs", b""), ("Genfile.lock", b"genmake-lock 1\n\xff\n")],
        &["not UTF-8", "[Genfile.lock:2:1]"],
    );
}
