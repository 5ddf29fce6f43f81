//! The `genmake` command: the process around [`genmake::cli`], with its signals and its exit status.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use genmake::cancel::Cancel;

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

/// The first signal interrupts the run in an orderly way, the second ends the process at once.
fn follow_signals(cancel: Cancel) -> Arc<AtomicI32> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let caught = Arc::new(AtomicI32::new(0));
    let seen = Arc::clone(&caught);
    #[cfg(unix)]
    let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, signal_hook::consts::SIGHUP]);
    #[cfg(unix)]
    if let Ok(mut signals) = signals {
        std::thread::spawn(move || {
            for signal in signals.forever() {
                let again = seen.swap(signal, Ordering::SeqCst) != 0;
                // Before a run has begun (it may wait for another's end) there is nothing to save.
                if again || !cancel.cancel() {
                    let _ = signal_hook::low_level::emulate_default_handler(signal);
                }
            }
        });
    }
    #[cfg(not(unix))]
    let _ = (SIGINT, SIGTERM, cancel, seen);
    caught
}
