//! The `genmake` command: the process around [`genmake::cli`], with its signals and its exit status.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use genmake::cancel::{Cancel, Stop};

fn main() -> ExitCode {
    let cancel = Cancel::default();
    let signal = follow_signals(cancel.clone());
    #[allow(clippy::disallowed_methods)] // The edge where the environment is read.
    let env = Arc::new(|name: &str| std::env::var(name).ok());
    let exit = genmake::cli::run(std::env::args_os(), env, cancel);
    let caught = signal.load(Ordering::SeqCst);
    if caught != 0 {
        // What was finished is saved and what was started is stopped: now end as the signal would have.
        let _ = signal_hook::low_level::emulate_default_handler(caught);
    }
    ExitCode::from(exit.0)
}

/// How long a process that is to end at once takes to leave its terminal clean.
const CLEANS: Duration = Duration::from_millis(200);

/// Each signal ends the run sooner: Ctrl-C at a terminal waits for what is under way, the next signal or any other one saves what is
/// finished, the one after that ends the process at once. Nobody waits for a program that sends a signal: it cannot see what it waits
/// for.
fn follow_signals(cancel: Cancel) -> Arc<AtomicI32> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let caught = Arc::new(AtomicI32::new(0));
    let seen = Arc::clone(&caught);
    let is_attended = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
    #[cfg(unix)]
    let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, signal_hook::consts::SIGHUP]);
    #[cfg(unix)]
    if let Ok(mut signals) = signals {
        std::thread::spawn(move || {
            let mut told = None;
            for signal in signals.forever() {
                seen.store(signal, Ordering::SeqCst);
                let stop = match told {
                    None if signal == SIGINT && is_attended => Stop::Gently,
                    _ => Stop::Now,
                };
                // Before a run has begun (it may wait for another's end) there is nothing to save.
                if told == Some(Stop::Now) || !cancel.stop(stop) {
                    end(&cancel, signal);
                }
                told = Some(stop);
            }
        });
    }
    #[cfg(not(unix))]
    let _ = (SIGINT, SIGTERM, cancel, seen, is_attended, Stop::Now, end);
    caught
}

/// Ends the process as the signal would have, with a clean terminal unless that takes too long.
fn end(cancel: &Cancel, signal: i32) {
    let (cancel, (done, cleaned)) = (cancel.clone(), mpsc::channel());
    std::thread::spawn(move || {
        cancel.last_words();
        let _ = done.send(());
    });
    let _ = cleaned.recv_timeout(CLEANS);
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}
