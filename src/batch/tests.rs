//! Tests of batching, by itself.

use super::*;
use crate::graph::TaskId;
use proptest::prelude::*;

fn shape_of(name: &str) -> Shape {
    Digest::of(name)
}

fn all(batcher: &mut Batcher) -> Vec<Vec<TaskId>> {
    batcher.all().into_iter().map(|batch| batch.tasks.iter().map(|unit| unit.task).collect()).collect()
}

fn units(tasks: Vec<TaskId>) -> Vec<Unit> {
    tasks.into_iter().map(Unit::from).collect()
}

fn asking(task: TaskId, shape: &str, most: usize) -> Traveler {
    Traveler::example(task, shape, most)
}

fn form_of(name: &str, tasks: usize) -> Form {
    Form { shape: shape_of(name), tasks }
}

/// One of those that travel in twos, with a prefix of so many tokens, of which 1,024 are kept.
fn keeping(task: TaskId, shape: &str, prefix: u64) -> Traveler {
    let mut traveler = asking(task, shape, 2);
    traveler.terms.prefix = prefix;
    traveler.terms.model.cache = Some(crate::models::Cache { minimum: 1024 });
    traveler
}

fn malformed() -> Shortfall {
    Shortfall::Malformed(String::new())
}

#[test]
fn large_batches_come_first_and_tasks_by_their_names() {
    let mut batcher = Batcher::default();
    batcher.add(asking(0, "other", 5));
    for task in (1..13).rev() {
        batcher.add(asking(task, "s", 5));
    }
    assert_eq!(all(&mut batcher), [vec![1, 2, 3, 4, 5], vec![6, 7, 8, 9, 10], vec![11, 12], vec![0]]);
    assert!(batcher.is_empty());
}

#[test]
fn shapes_do_not_mix() {
    let mut batcher = Batcher::default();
    for task in 0..6 {
        batcher.add(asking(task, if task % 2 == 0 { "a" } else { "b" }, 5));
    }
    let mut batches = all(&mut batcher);
    batches.sort();
    assert_eq!(batches, [[0, 2, 4], [1, 3, 5]]);
}

#[test]
fn truncated_goes_again_in_smaller_company() {
    let mut batcher = Batcher::default();
    let batch = Batch { shape: shape_of("s"), tasks: units(vec![1, 2, 3, 4, 5]), failures: 0 };
    batcher.missing(&batch, units(vec![1, 2, 3, 4, 5]), &Shortfall::Truncated);
    assert_eq!(all(&mut batcher), [vec![1, 2], vec![3, 4], vec![5]]);
}

#[test]
fn malformed_goes_together_then_halved_then_alone() {
    let mut batcher = Batcher::default();
    let batch = Batch { shape: shape_of("s"), tasks: units(vec![1, 2, 3, 4]), failures: 0 };
    batcher.missing(&batch, units(vec![2, 3, 4]), &malformed());
    let again = batcher.next_batch().unwrap();
    assert_eq!((again.tasks.clone(), again.failures), (units(vec![2, 3, 4]), 1));
    // Another batch of the shape went well in between: halves.
    batcher.succeeded(shape_of("s"));
    batcher.missing(&again, units(vec![2, 3, 4]), &malformed());
    assert_eq!(all(&mut batcher), [vec![2, 3], vec![4]]);
    // The second answer in a row with nothing in it: alone, and so is everything of the shape from then on.
    let queued = Batch { shape: shape_of("s"), tasks: units(vec![5, 6]), failures: 1 };
    batcher.again.push_back(queued.clone());
    batcher.missing(&again, units(vec![2, 3, 4]), &malformed());
    assert_eq!(all(&mut batcher), [[5], [6], [2], [3], [4]]);
    assert_eq!(batcher.parted(queued).len(), 2);
    batcher.add(asking(7, "s", 5));
    batcher.add(asking(8, "s", 5));
    assert_eq!(all(&mut batcher), [[7], [8]]);
}

#[test]
fn what_brings_something_is_no_failure_of_the_shape() {
    let mut batcher = Batcher::default();
    let batch = Batch { shape: shape_of("s"), tasks: units(vec![1, 2, 3, 4]), failures: 0 };
    for _ in 0..9 {
        batcher.missing(&batch, units(vec![3, 4]), &malformed());
        batcher.missing(&batch, units(vec![4]), &Shortfall::Truncated);
        batcher.missing(&batch, units(vec![2, 3, 4]), &Shortfall::Broken(String::new()));
    }
    assert_eq!(all(&mut batcher)[..3], [vec![3, 4], vec![4], vec![2, 3, 4]]);
    batcher.add(asking(7, "s", 5));
    batcher.add(asking(8, "s", 5));
    assert_eq!(all(&mut batcher), [[7, 8]]);
}

#[test]
fn a_refused_batch_goes_in_halves_then_one_by_one() {
    let mut batcher = Batcher::default();
    let batch = Batch { shape: shape_of("s"), tasks: units(vec![1, 2, 3, 4, 5]), failures: 0 };
    let refused = Shortfall::Refused("no".into());
    batcher.missing(&batch, batch.tasks.clone(), &refused);
    let half = batcher.next_batch().unwrap();
    assert_eq!(half.tasks, [1, 2, 3]);
    batcher.missing(&half, half.tasks.clone(), &refused);
    assert_eq!(all(&mut batcher), [vec![4, 5], vec![1], vec![2], vec![3]]);
}

#[test]
fn batches_that_were_put_together_before_come_apart_after_two_failures() {
    let mut batcher = Batcher::default();
    (0..6).for_each(|task| batcher.add(asking(task, "s", 2)));
    for _ in 0..2 {
        let batch = batcher.next_batch().unwrap();
        batcher.missing(&batch, batch.tasks.clone(), &malformed());
    }
    assert_eq!(all(&mut batcher), [[0], [1], [2], [3], [4], [5]]);
}

#[test]
fn one_request_goes_ahead_where_the_provider_keeps_the_prefix() {
    let cached = |task, shape: &str, prefer| {
        let mut traveler = asking(task, shape, 2);
        traveler.terms.prefix = 2000;
        traveler.terms.model.cache = Some(crate::models::Cache { minimum: 1024 });
        traveler.terms.batching.prefer = prefer;
        traveler
    };
    let next = |batcher: &mut Batcher| batcher.next_batch().map(|batch| batch.tasks);
    let mut batcher = Batcher::default();
    (0..6).for_each(|task| batcher.add(cached(task, "s", Prefer::Cost)));
    (6..8).for_each(|task| batcher.add(cached(task, "alone", Prefer::Cost)));
    assert_eq!(next(&mut batcher), Some(units(vec![0, 1])));
    // Another shape does not wait for it, nor one that begins otherwise; all others do, whoever is added.
    assert_eq!(next(&mut batcher), Some(units(vec![6, 7])));
    (8..11).for_each(|task| batcher.add(cached(task, "s", Prefer::Cost)));
    assert_eq!(next(&mut batcher), Some(units(vec![10])));
    assert_eq!((next(&mut batcher), batcher.is_empty()), (None, false));
    batcher.is_answering(form_of("s", 2));
    let rest: Vec<_> = std::iter::from_fn(|| next(&mut batcher)).collect();
    assert_eq!(rest, [vec![2, 3], vec![4, 5], vec![8, 9]]);
    // Where time is preferred nobody waits, nor where the prefix is too short.
    for short in [false, true] {
        let mut batcher = Batcher::default();
        for task in 0..4 {
            let mut traveler = cached(task, "s", if short { Prefer::Cost } else { Prefer::Time });
            traveler.terms.prefix -= if short { 1500 } else { 0 };
            traveler.terms.in_flight = 2;
            batcher.add(traveler);
        }
        assert_eq!(std::iter::from_fn(|| next(&mut batcher)).count(), 2);
    }
}

#[test]
fn a_prefix_is_kept_where_another_request_reads_it() {
    let mut batcher = Batcher::default();
    for task in 0..8 {
        batcher.add(keeping(task, if task < 5 { "s" } else { "short" }, if task < 5 { 2000 } else { 20 }));
    }
    let sent = batcher.all();
    let of = |tasks: &[TaskId]| sent.iter().find(|batch| batch.tasks == tasks).unwrap();
    let (first, second, last) = (of(&[0, 1]), of(&[2, 3]), of(&[4]));
    let (short, there) = (Some((Keep::Short, false)), Some((Keep::Short, true)));
    // Nobody else begins with a short one's, nor with one for another number of tasks.
    assert_eq!(batcher.keeps_prefix(of(&[5, 6]), &|| 1), None);
    assert_eq!(batcher.keeps_prefix(last, &|| 0), None);
    // One writes it, and who is sent meanwhile writes it not again.
    assert_eq!(batcher.keeps_prefix(first, &|| 1), short);
    assert_eq!(batcher.keeps_prefix(second, &|| 1), None);
    batcher.prefix_is_kept(first.form(), false);
    assert_eq!(batcher.keeps_prefix(second, &|| 0), None);
    batcher.missing(second, units(vec![2, 3]), &malformed());
    assert_eq!(batcher.keeps_prefix(second, &|| 0), short, "it will be asked again");
    batcher.prefix_is_kept(second.form(), true);
    batcher.drain();
    assert_eq!(batcher.keeps_prefix(first, &|| 0), there);
    // Of what the provider does not keep it is said once, and it is not asked to do so again.
    assert_eq!([Unkept::Again, Unkept::Unheeded].map(|why| batcher.not_kept(first.form(), why)), [true, false]);
    batcher.prefix_is_kept(first.form(), true);
    assert_eq!(batcher.keeps_prefix(first, &|| 1), None);
}

#[test]
fn a_prefix_is_kept_as_the_rule_says() {
    // Whether the first of two requests, and one alone, are marked; of a short prefix; of a model that nobody knows.
    let kept = |keep_prefix: KeepPrefix, prefer: Prefer| {
        [(4, 2000, true), (2, 2000, true), (4, 20, true), (4, 2000, false)].map(|(tasks, prefix, is_known)| {
            let mut batcher = Batcher::default();
            for task in 0..tasks {
                let mut traveler = keeping(task, "s", prefix);
                (traveler.terms.batching.keep_prefix, traveler.terms.batching.prefer) = (keep_prefix, prefer);
                traveler.terms.model.cache = traveler.terms.model.cache.filter(|_| is_known);
                traveler.terms.in_flight = 2;
                batcher.add(traveler);
            }
            let first = batcher.next_batch().unwrap();
            batcher.keeps_prefix(&first, &|| 0).map(|(keep, _)| keep)
        })
    };
    let (short, long) = (Some(Keep::Short), Some(Keep::Long));
    assert_eq!(kept(KeepPrefix::Auto, Prefer::Cost), [short, None, None, None]);
    // Both are under way at once: neither reads what the other writes.
    assert_eq!(kept(KeepPrefix::Auto, Prefer::Time), [None; 4]);
    assert_eq!(kept(KeepPrefix::Never, Prefer::Cost), [None; 4]);
    assert_eq!(kept(KeepPrefix::For(Keep::Short), Prefer::Cost), [short, short, None, short]);
    assert_eq!(kept(KeepPrefix::For(Keep::Long), Prefer::Time), [long, long, None, long]);
}

#[test]
fn what_waits_can_be_taken_out() {
    let mut batcher = Batcher::default();
    (0..4).for_each(|task| batcher.add(asking(task, "s", 2)));
    batcher.next_batch();
    batcher.add(asking(9, "s", 2));
    batcher.alone(shape_of("s"), 7.into());
    assert_eq!(batcher.drain(), [7, 2, 3, 9]);
    assert!(batcher.is_empty());
}

proptest! {
    /// Nobody is lost, nobody travels twice, no batch is over its limit, and there are no more batches than needed.
    #[test]
    fn every_task_travels_once(tasks in proptest::collection::vec(0usize..3, 0..60), limit in 1usize..9) {
        let mut batcher = Batcher::default();
        for (task, shape) in tasks.iter().enumerate() {
            batcher.add(asking(task, &shape.to_string(), limit));
        }
        let batches = all(&mut batcher);
        prop_assert!(batches.iter().all(|batch| batch.len() <= limit));
        let least: usize = (0..3).map(|s| tasks.iter().filter(|shape| **shape == s).count().div_ceil(limit)).sum();
        prop_assert_eq!(batches.len(), least);
        let mut seen: Vec<TaskId> = batches.concat();
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..tasks.len()).collect::<Vec<_>>());
    }

    /// However often a request fails, each retry is for fewer tasks or has failed more often: it ends.
    #[test]
    fn falling_back_ends(size in 1usize..12, kinds in proptest::collection::vec(0u8..3, 40)) {
        let mut batcher = Batcher::default();
        for task in 0..size {
            batcher.add(asking(task, "s", size));
        }
        let mut requests = 0;
        let mut singles = 0;
        while let Some(batch) = batcher.next_batch() {
            requests += 1;
            if batch.tasks.len() == 1 {
                singles += 1;
                continue;
            }
            let why = match kinds[requests % kinds.len()] {
                0 => Shortfall::Truncated,
                1 => malformed(),
                _ => Shortfall::Refused(String::new()),
            };
            let tasks = batch.tasks.clone();
            batcher.missing(&batch, tasks, &why);
        }
        prop_assert_eq!(singles, size);
        prop_assert!(requests <= size + 5);
    }
}
