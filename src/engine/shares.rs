//! What each task of a request took of it.

use super::asking::Checked;
use crate::llm::Usage;
use crate::models::Price;

/// What a task's share costs, in USD; `None` where a price is not known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost(pub Option<f64>);

impl Default for Cost {
    fn default() -> Cost {
        Cost(Some(0.0))
    }
}

impl Cost {
    pub(super) fn and(self, other: Cost) -> Cost {
        Cost(self.0.zip(other.0).map(|(one, other)| one + other))
    }
}

/// What each share of a request costs. They add up to what the whole costs, also where that has the price of long prompts.
pub(super) fn costs(price: Option<Price>, usage: Usage, shares: &[Usage]) -> Vec<Cost> {
    let Some(price) = price else { return vec![Cost(None); shares.len()] };
    let (whole, parts) = (price.cost(usage), shares.iter().map(|share| price.cost(*share)));
    let sum: f64 = parts.clone().sum();
    let scale = if sum > 0.0 { whole / sum } else { 0.0 };
    parts.map(|part| Cost(Some(part * scale))).collect()
}

/// What each task of a request took of it: of what was sent, which is theirs together, as much as any other; of what came back, by
/// the length of its result. To the token: the shares add up to the whole.
pub(super) fn shares(usage: Usage, lengths: &[u64]) -> Vec<Usage> {
    let alike = vec![1; lengths.len()];
    let (input, cached) = (apportioned(usage.input, &alike), apportioned(usage.cached, &alike));
    let (cache_write, kept_long) = (apportioned(usage.cache_write, &alike), apportioned(usage.kept_long, &alike));
    let (output, reasoning) = (apportioned(usage.output, lengths), apportioned(usage.reasoning, lengths));
    let share = |i: usize| Usage {
        input: input[i],
        cached: cached[i],
        cache_write: cache_write[i],
        kept_long: kept_long[i],
        output: output[i],
        reasoning: reasoning[i],
    };
    (0..lengths.len()).map(share).collect()
}

/// How long what came for a task is, in bytes.
pub(super) fn length(result: &Result<Checked, ()>) -> u64 {
    match result {
        Ok(Ok(contents)) => contents.iter().map(|bytes| bytes.len() as u64).sum(),
        Ok(Err((texts, _))) => texts.iter().map(|text| text.len() as u64).sum(),
        Err(()) => 0,
    }
}

/// A number in parts that are to each other as these weights, and add up to it; in equal ones if all weights are 0.
fn apportioned(whole: u64, weights: &[u64]) -> Vec<u64> {
    let total: u64 = weights.iter().sum();
    if total == 0 {
        return if weights.is_empty() { Vec::new() } else { apportioned(whole, &vec![1; weights.len()]) };
    }
    let upto = |weight: u64| u64::try_from(u128::from(whole) * u128::from(weight) / u128::from(total)).unwrap_or(whole);
    let mut before = 0;
    let part = |weight: &u64| {
        let from = upto(before);
        before += weight;
        upto(before) - from
    };
    weights.iter().map(part).collect()
}

pub(super) fn add(a: Usage, b: Usage) -> Usage {
    Usage {
        input: a.input + b.input,
        cached: a.cached + b.cached,
        cache_write: a.cache_write + b.cache_write,
        kept_long: a.kept_long + b.kept_long,
        output: a.output + b.output,
        reasoning: a.reasoning + b.reasoning,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parts_are_as_their_weights() {
        assert_eq!(apportioned(10, &[1, 1, 1]), [3, 3, 4]);
        assert_eq!(apportioned(100, &[1, 0, 3]), [25, 0, 75]);
        assert_eq!(apportioned(5, &[0, 0]), [2, 3]);
        assert_eq!(apportioned(5, &[]), [0u64; 0]);
    }

    proptest! {
        #[test]
        fn parts_add_up(whole: u64, weights in proptest::collection::vec(0u64..1 << 40, 1..9)) {
            let parts = apportioned(whole, &weights);
            prop_assert_eq!(parts.iter().sum::<u64>(), whole);
            prop_assert!(weights.iter().sum::<u64>() == 0 || parts.iter().zip(&weights).all(|(part, w)| *part == 0 || *w > 0));
        }
    }
}
