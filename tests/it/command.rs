//! `api: command`: what a command is given, what it may answer, and what becomes of it when it fails, hangs, or is not wanted any more.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::killed::send;
use crate::project::Project;
use crate::server::Server;
use crate::shop::{is_built, page, pages, shop_by};

/// A model that takes texts, and writes the page of each task that it finds in them.
const MODEL: &str = r##"
BEGIN { system("echo x >> asked") }
/^f[0-9]+:$/ { slot = substr($0, 1, length($0) - 1) }
/^Write about / {
    key = $3; sub(":", "", key)
    text = $0; sub(/^[^:]*: /, "", text)
    if (slot == "") printf "# %s\n\n%s\n", key, text
    else printf "%s\"%s\": \"# %s\\n\\n%s\\n\"", (n++ ? ", " : "{\"files\": {"), slot, key, text
}
END { if (n) print "}}" }
"##;

/// The shop whose provider is this command; `rule` are further keys of its rule.
fn shop(command: &str, pages: usize, rule: &str) -> Project {
    let provider = format!("api: command, model: m, in_flight: 1, stdin: text, command: {}", json!(command));
    shop_by(&provider, pages, rule).file("model.awk", MODEL)
}

/// One page, by a command that is given JSON; `keys` are further ones of the provider.
fn one(command: &str, keys: &str) -> Project {
    shop_by(&format!("api: command, model: m, command: {}{keys}", json!(command)), 1, "retries: 0")
}

/// How often the command was run that writes a line each time.
fn asked(p: &Project) -> usize {
    if p.exists("asked") { p.read("asked").lines().count() } else { 0 }
}

fn llm(p: &Project) -> Value {
    let report: Value = serde_json::from_str(&p.read("report.json")).expect("a report is JSON");
    report["llm"].clone()
}

// ---- what goes in, and what comes out ----

#[test]
fn a_command_is_given_the_request_as_json() {
    let provider = "api: command, model: m, command: \"cat >> asked.json; echo by $GENMAKE_MODEL\"";
    let p = shop_by(provider, 1, "params: {temperature: 0.5, max_output_tokens: 100, seed: 1}");
    p.run([]).exits(0);
    assert_eq!(p.read("docs/e1.md"), "by m\n");
    let line = "{\"genmake\":1,\"model\":\"m\",\"params\":{\"seed\":1,\"temperature\":0.5},\"max_output_tokens\":100,\"messages\":[{\"role\":\"system\",\"content\":\"You write a handbook.\"},{\"role\":\"user\",\"content\":\"Write about e1: about e1\"}],\"schema\":null}\n";
    assert_eq!(p.read("asked.json"), line);
    // For several tasks there is a schema.
    let p = shop_by(provider, 2, "");
    drop(p.run([]));
    let asked: Value = serde_json::from_str(p.read("asked.json").lines().next().expect("a line")).expect("JSON");
    assert_eq!(asked["schema"]["properties"]["files"]["required"], json!(["f1", "f2"]));
}

#[test]
fn a_command_that_takes_texts_needs_no_wrapper() {
    let p = shop("tee asked.txt | awk -f model.awk", 5, "");
    p.run(["--report", "report.json"]).exits(0);
    is_built(&p, 5, &[]);
    assert_eq!((asked(&p), &llm(&p)["requests"]), (1, &json!(1)));
    let text = p.read("asked.txt");
    assert!(text.starts_with("You write a handbook.\n\nDo these 5 tasks."), "{text}");
    let schema = text.split_once("It follows this JSON Schema:\n").expect("a schema").1;
    assert!(serde_json::from_str::<Value>(schema).is_ok_and(|schema| schema["type"] == "object"), "{text}");
    p.run(["check"]).exits(0);
}

#[test]
fn what_a_result_lacks_is_said_in_the_same_conversation() {
    let command = "cat > asked.txt; grep -q Assistant: asked.txt && echo '{\"a\": 1}' || echo '{'";
    let p = shop(command, 1, "check: json");
    p.run([]).exits(0);
    assert_eq!(p.read("docs/e1.md"), "{\"a\": 1}\n");
    let text = p.read("asked.txt");
    let said = "You write a handbook.\n\nUser:\nWrite about e1: about e1\n\nAssistant:\n{\n\n\nUser:\n";
    assert!(text.starts_with(said), "{text}");
}

#[test]
fn an_envelope_says_why_an_answer_ended_and_what_it_took() {
    let envelope = |json: &str| one(&format!("printf %s '{json}'"), "");
    let p = envelope(
        r##"{"genmake": 1, "text": "# e1\n", "usage": {"input_tokens": 7, "cached_input_tokens": 3, "output_tokens": 9}}"##,
    );
    p.run(["--report", "report.json"]).exits(0);
    assert_eq!(p.read("docs/e1.md"), "# e1\n");
    let llm = llm(&p);
    assert_eq!(
        (&llm["input_tokens"], &llm["cached_input_tokens"], &llm["output_tokens"]),
        (&json!(7), &json!(3), &json!(9))
    );
    let fails = |json: &str, says: &str| envelope(json).run([]).stderr_has(says).exits(2);
    fails(r#"{"genmake": 1, "text": "half", "stop": "length"}"#, "was cut at the limit of output tokens");
    fails(r#"{"genmake": 1, "stop": "refused", "message": "not that"}"#, "the model declined: not that");
    fails(r#"{"genmake": 1, "id": "r-7"}"#, "no usable answer of provider `p` (request r-7)");
    fails(r#"{"genmake": 1, "txt": "x"}"#, "printed an answer that is none: unknown field `txt`");
}

#[test]
fn what_is_no_answer_is_a_failure() {
    let fails = |command: &str, says: &str| {
        let p = one(&format!("echo x >> asked; {command}"), "");
        p.run([]).stderr_has(says).exits(2);
        assert_eq!(asked(&p), 1, "{command}");
        assert_eq!(pages(&p), [""; 0]);
    };
    fails("true", "printed nothing");
    fails("printf '\\377'", "printed something that is not UTF-8 text");
    fails("yes | head -c 70000000", "printed more than 64 MB");
    fails("echo 'half of it'; echo a >&2; echo b >&2; exit 3", "ended with exit status: 3: it said:");
    fails("kill -9 $$", "ended with signal: 9");
    fails("exec no-such-program", "is it installed?");
}

// ---- failures, and what has come by then ----

#[test]
fn one_that_asks_for_patience_is_run_again() {
    let p = one("echo x >> asked; test -e again || { touch again; echo busy >&2; exit 75; }; echo hello", "");
    p.run(["--report", "report.json"]).stderr_has("busy").exits(0);
    assert_eq!((asked(&p), &llm(&p)["retries"]), (2, &json!(1)));
    assert_eq!(p.read("docs/e1.md"), "hello\n");
}

#[test]
fn a_request_that_will_not_do_is_asked_for_in_less() {
    let p = shop("cat > asked.txt; grep -q f3: asked.txt && exit 65; awk -f model.awk asked.txt", 4, "");
    p.run([]).exits(0);
    is_built(&p, 4, &[]);
    assert_eq!(asked(&p), 2);
}

#[test]
fn what_is_whole_when_it_dies_is_kept() {
    let dies = r##"test -e died && exec awk -f model.awk; touch died; cat > died.txt; printf '{"files": {"f1": "# e1\n\nabout e1\n", "f2": "# e2\n\nabout e2\n", "f3": "# e'; echo 'it is gone' >&2; exit 1"##;
    let p = shop(&dies.replace("\\n", "\\\\n"), 5, "");
    p.run(["-v"]).stderr_has("it is gone").exits(0);
    is_built(&p, 5, &[]);
    assert_eq!(asked(&p), 1, "the first time nothing was written down");
}

#[test]
fn one_that_says_nothing_is_ended_with_its_group() {
    let p = one("echo x >> asked; (exec 9<>alive; sleep 1000) & sleep 1000", ", timeout: 300ms");
    let alive = Alive::new(&p);
    p.run([]).stderr_has("said nothing for [TIME]").stderr_has("raise `timeout`").exits(2);
    // It may have been paid for: once more, and no more.
    assert_eq!(asked(&p), 2);
    alive.ends();
}

#[test]
fn one_that_goes_on_answering_is_waited_for() {
    let p = one("for i in 1 2 3 4 5 6; do echo $i; sleep 0.2; done", ", timeout: 1s");
    p.run([]).exits(0);
    assert_eq!(p.read("docs/e1.md"), "1\n2\n3\n4\n5\n6\n");
}

#[test]
fn an_interrupted_run_leaves_none_behind() {
    // It says that it is there by the fifo, and does not end when asked to.
    let p = one("trap '' TERM; exec 9<>alive; echo up >&9; while :; do sleep 0.05; done", "");
    let alive = Alive::new(&p);
    let child = p.spawn([]);
    alive.begins();
    send(Signal::INT, &child);
    let run = p.finish(child);
    assert_eq!(run.status.code(), None, "{run}");
    alive.ends();
    assert_eq!(pages(&p), [""; 0]);
}

#[cfg(target_os = "linux")]
#[test]
fn what_a_killed_run_left_is_ended_by_the_next() {
    let hangs = "test -e second && exec echo hello; exec 9<>alive; echo up >&9; exec sleep 1000";
    let p = one(hangs, "");
    let alive = Alive::new(&p);
    let child = p.spawn([]);
    alive.begins();
    send(Signal::KILL, &child);
    drop(p.finish(child));
    p.edit("second", "");
    p.run([]).exits(0);
    alive.ends();
    assert_eq!(p.read("docs/e1.md"), "hello\n");
}

/// A fifo `alive` that commands hold open as long as they live.
struct Alive {
    said: mpsc::Receiver<Option<String>>,
    reader: Child,
    fifo: PathBuf,
}

impl Alive {
    fn new(p: &Project) -> Alive {
        let fifo = p.path("alive");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
        let mut reader = Command::new("cat").arg(&fifo).stdout(Stdio::piped()).spawn().expect("cat");
        let stdout = reader.stdout.take().expect("it is piped");
        let (send, said) = mpsc::channel();
        thread::spawn(move || {
            let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout));
            lines.map_while(Result::ok).for_each(|line| drop(send.send(Some(line))));
            let _ = send.send(None); // nobody may wait
        });
        Alive { said, reader, fifo }
    }

    fn next(&self) -> Option<String> {
        self.said.recv_timeout(Duration::from_secs(60)).expect("a line, or the end")
    }

    #[track_caller]
    fn begins(&self) {
        assert_eq!(self.next().as_deref(), Some("up"));
    }

    #[track_caller]
    fn ends(mut self) {
        assert_eq!(self.next(), None, "something lives on");
        assert!(self.reader.wait().expect("cat").success());
        fs_err::remove_file(&self.fifo).expect("the fifo");
    }
}

// ---- keys, and when none is run ----

#[test]
fn a_command_gets_its_own_key_and_no_other() {
    let genfile = r#"version: 1
provider: a
providers:
  a: {api: command, model: m, key_env: A_KEY, command: "echo a $A_KEY $B_KEY"}
  b: {api: command, model: m, key_env: B_KEY, command: "echo b $A_KEY; echo $B_KEY >&2; exit 1"}
rules:
  own: {output: own, prompt: p.prompt, on_error: skip}
  other: {output: other, prompt: p.prompt, provider: b, on_error: skip}
  none: {output: none, run: "echo ${A_KEY-unset} ${B_KEY-unset} > {{output}}"}
"#;
    let p = Project::new().file("Genfile", genfile).file("p.prompt", "Write.\n");
    let p = p.env("A_KEY", "sk-canary-a").env("B_KEY", "sk-canary-b");
    p.run(["--record", "rec"]).stderr_has("ended with exit status: 1: ***").exits(0);
    assert_eq!((p.read("own"), p.read("none")), ("a ***\n".to_owned(), "unset unset\n".to_owned()));
    for (path, bytes) in p.everything() {
        assert!(!String::from_utf8_lossy(&bytes).contains("sk-canary"), "{path}");
    }
    let p = Project::new().file("Genfile", genfile).file("p.prompt", "Write.\n");
    p.run([]).stderr_has("the environment variable `A_KEY` is not set").exits(0);
}

#[test]
fn none_is_run_where_nothing_may_be_asked() {
    let p = shop("awk -f model.awk", 2, "");
    for args in [&["check"][..], &["plan"], &["prompt", "docs/e1.md"], &["--frozen"], &["--offline"], &["-q"]] {
        drop(p.run(args.iter().copied()));
        assert_eq!(asked(&p), 0, "{args:?}");
    }
    p.run(["--offline"]).stderr_has("genmake::offline").exits(2);
    p.run([]).exits(0);
    assert_eq!(p.read("docs/e2.md"), page("e2", "about e2"));
    // What it costs nobody knows.
    p.run(["-B"]).stderr_has("genmake::needs_yes").exits(2);
    p.run(["-B", "--yes", "--max-cost", "1"]).stderr_has("genmake::budget").exits(2);
    assert_eq!(asked(&p), 1);
    p.run(["plan", "-B"]).stdout_has("unpriced").exits(0);
}

#[test]
fn a_command_takes_the_place_of_a_server_and_makes_nothing_stale() {
    let server = Server::start();
    let both = "version: 1\nprovider: far\nproviders:\n  far: {api: openai, model: m, base_url: \"{base_url}\"}\n  near: {api: command, model: m, command: echo near}\nrules:\n  a: {output: a, prompt: p.prompt}\n";
    let p = Project::new().genfile_for(&server, both).file("p.prompt", "Write.\n");
    p.run(["--provider", "near"]).exits(0);
    assert_eq!((p.read("a").as_str(), server.count()), ("near\n", 0));
    p.run(["check"]).exits(0);
}
