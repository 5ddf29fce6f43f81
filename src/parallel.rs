//! The same for many things, on several threads at once, and on a thread with room for what nests deep. Knows not what is done.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder, ScopedJoinHandle};

/// As the main thread has it: what nests as deep as it may is read on either.
pub const STACK: usize = 8 << 20;

/// Does `work` for each of `items`, on so many threads, this one among them; on as many as there are cores for 0. What comes of it is in
/// the order of the items.
pub fn map<T: Send, R: Send>(threads: usize, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = NonZero::new(threads).or_else(|| thread::available_parallelism().ok()).map_or(1, NonZero::get);
    let helpers = threads.min(items.len()).saturating_sub(1);
    if helpers == 0 {
        return items.into_iter().map(work).collect();
    }
    let queue = Mutex::new(items.into_iter().enumerate());
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let some = || std::iter::from_fn(next).map(|(at, item)| (at, work(item))).collect::<Vec<_>>();
    let mut done = thread::scope(|scope| {
        // Where the system has no more threads, there is less help.
        let helpers: Vec<_> = (0..helpers).filter_map(|_| named().spawn_scoped(scope, some).ok()).collect();
        let mut done = some();
        helpers.into_iter().for_each(|helper| done.extend(joined(helper)));
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Does `work` on a thread with room for what nests deep, whatever thread this is.
pub fn deep<R: Send>(work: impl Fn() -> R + Sync) -> R {
    thread::scope(|scope| match named().spawn_scoped(scope, &work) {
        Ok(thread) => joined(thread),
        Err(_) => work(),
    })
}

fn named() -> Builder {
    Builder::new().name("genmake-plan".to_owned()).stack_size(STACK)
}

/// What a thread gives. If it panicked, so does this one.
fn joined<R>(thread: ScopedJoinHandle<'_, R>) -> R {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn results_are_in_the_order_of_the_items_however_many_threads_there_are() {
        for threads in [0, 1, 2, 7] {
            let doubled: Vec<usize> = (0..1000).map(|n| n * 2).collect();
            assert_eq!(map(threads, (0..1000).collect(), |n| n * 2), doubled, "{threads}");
        }
        assert!(map(0, Vec::<usize>::new(), |n| n).is_empty());
    }

    #[test]
    fn so_many_are_at_work_at_once() {
        let all = Barrier::new(3);
        // Each waits until all three are there, and one of them is told to lead.
        let led = map(3, vec![(); 3], |()| all.wait().is_leader());
        assert_eq!(led.into_iter().filter(|is_leader| *is_leader).count(), 1);
    }

    #[test]
    #[should_panic(expected = "of a helper")]
    fn a_panic_is_the_callers() {
        map(2, vec![1, 2, 3, 4], |_| panic!("of a helper"));
    }
}
