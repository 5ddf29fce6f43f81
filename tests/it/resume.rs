//! `--resume`: a run that was cut short is gone on with as it was asked for, and says how far it had come.

use rustix::process::Signal;

use crate::killed::send;
use crate::project::Project;
use crate::server::{Act, Gate, Server};
use crate::shop::{asked_after, is_built, shop_with};

/// Six pages, two a request; the second request is held, and then the run is ended by a signal.
fn cut_short(signal: Signal, args: &[&str]) -> (Server, Project) {
    let server = Server::start();
    let p = shop_with(&server, 6, "in_flight: 1", "batching: {max_batch_size: 2}");
    server.script([Act::Default, Act::Hold(Gate::new())]);
    let mut child = p.spawn(args.iter().copied());
    server.wait_for(2);
    let arrived = if args.contains(&"--no-batch") { 1 } else { 2 };
    for _ in 0..arrived {
        p.wait_for_line(&mut child, "generate  docs/e");
    }
    send(signal, &child);
    let run = p.finish(child);
    if signal == Signal::INT {
        let run = run.stderr_has("   resume  `genmake --resume` goes on from here\ninterrupted: ");
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&run.status), Some(signal.as_raw()));
    }
    (server, p)
}

#[test]
fn it_goes_on_with_what_is_left_and_says_how_far_it_was() {
    for signal in [Signal::INT, Signal::KILL] {
        let (server, p) = cut_short(signal, &[]);
        p.run(["--resume"])
            .stderr_has("   resume  everything, begun ")
            .stderr_has("ago: 3 of 7 tasks done, 4 to go\n")
            .exits(0);
        assert_eq!(asked_after(&server, 2), ["e3 e4", "e5 e6"]);
        is_built(&p, 6, &[]);
        p.run(["--resume"]).stderr_has("there is nothing to resume").exits(2);
    }
}

#[test]
fn targets_and_options_are_those_of_the_run_that_was_cut_short() {
    let (server, p) = cut_short(Signal::INT, &["pages", "--no-batch", "-k"]);
    // Another run that comes to its end does not concern it.
    p.run(["index"]).exits(0);
    p.run(["--resume"]).stderr_has("resume  pages, begun ").exits(0);
    assert!(asked_after(&server, 2).iter().all(|asked| !asked.contains(' ')), "one request each");
    p.run(["--resume"]).exits(2);
}

#[test]
fn a_build_of_everything_leaves_nothing_to_resume() {
    let (_server, p) = cut_short(Signal::INT, &["pages"]);
    p.run([]).exits(0);
    p.run(["--resume"]).stderr_has("there is nothing to resume").exits(2);
}

#[test]
fn it_goes_with_nothing_that_would_be_another_run() {
    let (_server, p) = cut_short(Signal::INT, &[]);
    for args in [
        &["--resume", "pages"][..],
        &["--resume", "-B"],
        &["check", "--resume"],
        &["--resume", "-n"],
        &["--resume", "-q"],
    ] {
        p.run(args.iter().copied()).stderr_has("`--resume` goes with").exits(2);
    }
    // A note that nobody can read is none.
    p.edit(".genmake/unfinished", "{");
    p.run(["--resume"]).stderr_has("there is nothing to resume").exits(2);
}
