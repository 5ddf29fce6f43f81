//! How many items stand in one window of a collection, and where it ends. Pure; in no key, and the same for the same items.

use std::ops::Range;

use serde_json::Value;

use crate::graph::Graph;
use crate::manifest::Rule;
use crate::models;
use crate::tokens;

/// The context window of a model of which nobody knows it, in tokens.
const USUAL_WINDOW: u64 = 8192;

/// What a result is taken to have, in tokens: what stands in a Genfile decides how many share a window, and not what results had
/// before.
const USUAL_RESULT: u64 = 200;

/// All that one window may weigh.
const FULL: u64 = 1 << 20;

/// How much room a window has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// For so many items.
    Items(u64),
    /// For so many tokens of items, and so many results where each item has one.
    Tokens { sent: u64, results: Option<u64> },
}

impl Room {
    /// The room that a rule gives, or else that its model has: a quarter of its context window for items, and half of its longest
    /// answer for results, unless the model counts them.
    pub fn of(graph: &Graph, rule: &Rule, window: Option<usize>, is_free: bool) -> Room {
        if let Some(items) = window {
            return Room::Items(items as u64);
        }
        let context = graph.manifest.window_of(rule).unwrap_or(USUAL_WINDOW);
        let provider = graph.manifest.provider_of(rule).ok();
        let said = provider.and_then(|provider| provider.limits.max_output);
        let model = rule.model.as_ref().or_else(|| provider?.model.as_ref());
        let known = || models::find(model?)?.max_output;
        let longest = said.or_else(known).unwrap_or(USUAL_WINDOW / 2).min(context);
        let results = (longest / 2 / USUAL_RESULT).max(1);
        Room::Tokens { sent: (context / 4).max(1), results: (!is_free).then_some(results) }
    }

    /// How much of a window an item takes.
    pub fn weight(&self, item: &Value) -> u64 {
        match self {
            Room::Items(_) => 1,
            Room::Tokens { sent, results } => {
                let tokens = tokens::estimate(&item.to_string());
                let of_results = results.map_or(0, |results| FULL / results);
                (tokens * FULL / sent).max(of_results).clamp(1, FULL)
            }
        }
    }

    /// The most that a window weighs.
    pub fn most(&self) -> u64 {
        match self {
            Room::Items(items) => *items,
            Room::Tokens { .. } => FULL,
        }
    }
}

/// Windows one after the other, each as full as it can be.
pub(super) fn in_order(weights: &[u64], most: u64) -> Vec<Range<usize>> {
    let mut windows: Vec<Range<usize>> = Vec::new();
    let mut taken = 0;
    for (at, weight) in weights.iter().enumerate() {
        match windows.last_mut() {
            Some(window) if taken + weight <= most => {
                window.end = at + 1;
                taken += weight;
            }
            _ => {
                windows.push(at..at + 1);
                taken = *weight;
            }
        }
    }
    windows
}

/// Windows whose ends depend on what the items are and not on where they stand, so that what is put in or taken out changes the one
/// that it is in: what is too long is cut behind the item with the smallest hash of those that leave a quarter of a window on either
/// side, and so are its parts.
pub(super) fn by_content(hashes: &[u64], weights: &[u64], most: u64) -> Vec<Range<usize>> {
    let mut upto = vec![0; weights.len() + 1];
    for (at, weight) in weights.iter().enumerate() {
        upto[at + 1] = upto[at] + weight;
    }
    let weight = |range: &Range<usize>| upto[range.end] - upto[range.start];
    let least = most / 4;
    let mut windows = Vec::new();
    let mut open: Vec<Range<usize>> = Vec::new();
    open.push(0..weights.len());
    while let Some(range) = open.pop() {
        if range.is_empty() {
            continue;
        }
        if weight(&range) <= most || range.len() == 1 {
            windows.push(range);
            continue;
        }
        let leaves_enough = |at: &usize| weight(&(range.start..*at)) >= least && weight(&(*at..range.end)) >= least;
        let cuts = range.start + 1..range.end;
        let by_hash = |at: &usize| (hashes[*at - 1], *at);
        let cut = cuts.clone().filter(leaves_enough).min_by_key(by_hash).or_else(|| cuts.min_by_key(by_hash));
        let cut = cut.unwrap_or(range.end);
        // The part in front comes first.
        open.push(cut..range.end);
        open.push(range.start..cut);
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn windows_in_order_are_as_full_as_they_can_be() {
        assert_eq!(in_order(&[1; 7], 3), [0..3, 3..6, 6..7]);
        assert_eq!(in_order(&[2, 2, 9, 1], 4), [0..2, 2..3, 3..4]);
        assert!(in_order(&[], 4).is_empty());
    }

    #[test]
    fn what_fits_is_one_window() {
        assert_eq!(by_content(&[3, 1, 2], &[1; 3], 3).first(), Some(&(0..3)));
        assert!(by_content(&[], &[], 3).is_empty());
    }

    fn hash(item: u32) -> u64 {
        u64::from(item.wrapping_mul(2_654_435_761)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// How many windows of the second list are not in the first.
    fn new(before: &[u32], after: &[u32], most: u64) -> usize {
        let cut = |items: &[u32]| -> Vec<Vec<u32>> {
            let hashes: Vec<u64> = items.iter().map(|item| hash(*item)).collect();
            let windows = by_content(&hashes, &vec![1; items.len()], most);
            windows.into_iter().map(|window| items[window].to_vec()).collect()
        };
        let before = cut(before);
        cut(after).iter().filter(|window| !before.contains(window)).count()
    }

    proptest! {
        /// Every item is in one window, in order, and none is too full.
        #[test]
        fn windows_hold_all_items(
            items in proptest::collection::vec((any::<u64>(), 1u64..9), 0..80), most in 4u64..20,
        ) {
            let (hashes, weights): (Vec<u64>, Vec<u64>) = items.into_iter().unzip();
            for windows in [by_content(&hashes, &weights, most), in_order(&weights, most)] {
                let all: Vec<usize> = windows.iter().cloned().flatten().collect();
                prop_assert_eq!(all, (0..weights.len()).collect::<Vec<_>>());
                prop_assert!(windows.iter().all(|w| w.len() == 1 || weights[w.clone()].iter().sum::<u64>() <= most));
            }
        }

        /// An insertion changes the window that it is in, which may be cut in two, and seldom some beside it: of twenty windows fewer
        /// than two on average, wherever it is.
        #[test]
        fn an_insertion_changes_little(seed: u32) {
            let before: Vec<u32> = (0..600).map(|n| n ^ seed).collect();
            let changed = (0..600).step_by(12).map(|place| {
                let mut after = before.clone();
                after.insert(place, (10_000 + place as u32) ^ seed);
                new(&before, &after, 50)
            });
            let changed: Vec<usize> = changed.collect();
            prop_assert!(changed.iter().sum::<usize>() < 2 * changed.len(), "{:?}", changed);
        }
    }
}
