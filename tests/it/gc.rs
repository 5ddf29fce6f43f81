//! `gc`: the store is pruned, and nothing that stands has to be asked for again.

use expect_test::expect;

use crate::project::Project;
use crate::server::Server;
use crate::shop::{genfile, is_built, shop, spec};

/// How many former contents of an output are remembered as genmake's own; results of those before are only in the store.
const REMEMBERED: usize = 4;

/// The shop with two pages, of which `e1` was another so often that its first results are nobody's any more.
fn with_a_past() -> (Server, Project) {
    let server = Server::start();
    let p = shop(&server, 2);
    for n in 0..=REMEMBERED {
        p.edit("spec.yaml", &spec(2, &[("e1", &format!("text {n}"))])).run([]).exits(0);
    }
    p.edit("spec.yaml", &spec(2, &[])).run([]).exits(0);
    (server, p)
}

/// The files below a folder of the store.
fn stored(p: &Project, folder: &str) -> usize {
    let start = format!(".genmake/store/{folder}/");
    p.everything().keys().filter(|path| path.starts_with(&start)).count()
}

#[test]
fn what_stands_is_not_asked_for_again() {
    let (server, p) = with_a_past();
    let asked = server.count();
    // Young things stay, whether they are needed or not.
    p.run(["gc"])
        .stderr(expect![[r#"
        nothing to free: the store holds only what is needed or young
    "#]])
        .stdout(expect![[""]])
        .exits(0);
    let before = p.everything();
    p.run(["gc", "-n", "--keep", "0s"])
        .stderr(expect![[r#"
            would free 582 B: 2 results, 2 blobs, 2 replies
        "#]])
        .exits(0);
    assert_eq!(p.everything(), before, "`-n` freed something");
    let results = stored(&p, "ac");
    p.run(["gc", "--keep", "0s"])
        .stderr(expect![[r#"
            freed 582 B: 2 results, 2 blobs, 2 replies
        "#]])
        .exits(0);
    assert!(stored(&p, "ac") < results);
    p.run(["gc", "--keep", "0s"])
        .stderr(expect![[r#"
        nothing to free: the store holds only what is needed or young
    "#]])
        .exits(0);
    p.run([]).stderr_has("nothing to do").exits(0);
    // What is restored comes from what was kept: from the lock, and where only this machine remembers it.
    p.remove("docs/e1.md").remove("docs/e2.md").run([]).exits(0);
    is_built(&p, 2, &[]);
    p.remove("docs/e1.md").remove(".genmake/state").run([]).exits(0);
    is_built(&p, 2, &[]);
    let last = format!("text {REMEMBERED}");
    p.edit("spec.yaml", &spec(2, &[("e1", &last)])).run([]).exits(0);
    is_built(&p, 2, &[("e1", &last)]);
    assert_eq!(server.count(), asked, "something was asked for again");
    // What nothing needed is asked for again: that is what it costs.
    p.edit("spec.yaml", &spec(2, &[("e1", "text 0")])).run([]).exits(0);
    assert_eq!(server.count(), asked + 1);
}

#[test]
fn a_result_of_a_current_key_stays_without_lock_and_memory() {
    let server = Server::start();
    let p = shop(&server, 2);
    p.run([]).exits(0);
    for name in ["Genfile.lock", ".genmake/state", "docs/e1.md", "docs/e2.md", "docs/index.md"] {
        p.remove(name);
    }
    p.run(["gc", "--keep", "0s"]).exits(0);
    p.run([]).exits(0);
    is_built(&p, 2, &[]);
    assert_eq!(server.count(), 1);
}

#[test]
fn what_the_lock_of_another_genfile_names_stays() {
    let server = Server::start();
    let p = shop(&server, 2);
    p.edit("other.gen", &genfile("", "").replace("{base_url}", &server.base_url()).replace("docs/", "other/"));
    p.edit("cargo.lock", "version = 4\n"); // another tool's
    p.run(["-f", "other.gen"]).exits(0);
    p.run([]).exits(0);
    let asked = server.count();
    p.remove(".genmake/state").remove("other/e1.md");
    p.run(["gc", "--keep", "0s"]).exits(0);
    p.run(["-f", "other.gen"]).exits(0);
    assert_eq!(server.count(), asked);
    // What that lock names cannot be told where it cannot be read.
    p.edit("other.gen.lock", "genmake-lock 1\nnonsense\n");
    p.run(["gc", "--keep", "0s"]).stderr_has("genmake::bad_lock").exits(2);
}

#[test]
fn what_was_damaged_is_freed_and_an_edit_that_was_just_kept_is_not() {
    let server = Server::start();
    let p = shop(&server, 1);
    p.run([]).exits(0);
    p.edit("docs/e1.md", "mine\n").run(["--force"]).exits(0);
    let path = p.everything().into_iter().find(|(path, bytes)| path.contains("/cas/") && bytes == b"mine\n");
    let path = path.expect("the edit is kept").0;
    // As if it had been kept long ago, and then again.
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let file = fs_err::OpenOptions::new().append(true).open(p.path(&path)).expect("a blob");
    file.file().set_modified(old).expect("a time can be set");
    p.edit("docs/e1.md", "mine\n").run(["--force"]).exits(0);
    p.run(["gc"]).exits(0);
    assert!(p.exists(&path), "what was put yesterday is gone");
    file.file().set_modified(old).expect("a time can be set");
    p.run(["gc"]).stderr_has("freed 5 B: 1 blob").exits(0);
    assert!(!p.exists(&path));
    // A damaged blob is set aside when it is read.
    let page = p.everything().into_iter().find(|(path, bytes)| path.contains("/cas/") && bytes.starts_with(b"# e1"));
    p.edit(&page.expect("a page in the store").0, "damaged").remove("docs/e1.md").run([]).exits(0);
    p.run(["gc", "-n", "--keep", "0s"]).stderr_has("1 damaged blob").exits(0);
    p.run(["gc", "--keep", "0s"]).exits(0);
    assert_eq!(stored(&p, "damaged"), 0);
}

#[test]
fn what_is_no_duration_and_what_is_no_question() {
    let p = Project::new().file("Genfile", "version: 1\nrules: {}\n");
    p.run(["gc", "--keep", "soon"]).stderr_has("invalid value 'soon' for '--keep <DURATION>'").exits(2);
    p.run(["gc", "-q"]).stderr_has("`-q` asks whether targets are up to date").exits(2);
    p.run(["gc", "--keep", "100000y"]).stderr_has("nothing to free").exits(0);
}
