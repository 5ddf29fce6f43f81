//! What a plan does without, in tokens, by why: estimates, by the names of the report.

use std::collections::BTreeMap;

use super::plan::Costs;
use crate::batch::Form;
use crate::llm::{self, Ask};
use crate::plan::{Making, Verdict};
use crate::project::Planned;
use crate::report::Saved;
use crate::tokens;

/// What the plan saves, against one request for each task that sends everything, and no store.
pub(super) fn savings(planned: &Planned) -> Saved {
    let mut saved = Saved::default();
    // How many requests that begin alike came before.
    let mut before: BTreeMap<Form, usize> = BTreeMap::new();
    let mut all: BTreeMap<Form, usize> = BTreeMap::new();
    planned.plan.batches.iter().for_each(|batch| *all.entry(batch.form()).or_default() += 1);
    for batch in &planned.plan.batches {
        let asks: Vec<&Ask> = batch.tasks.iter().filter_map(|task| planned.ask(*task)).collect();
        let Some(terms) = planned.plan.terms.get(&batch.shape) else { continue };
        saved.batching += terms.prefix * (asks.len() as u64).saturating_sub(1);
        let before = before.entry(batch.form()).or_default();
        saved.prompt_cache += if terms.caching().reads(*before, all[&batch.form()]) { terms.prefix } else { 0 };
        *before += 1;
        saved.context += llm::context_saved(&asks);
    }
    for judged in planned.plan.tasks.iter().flatten().flatten() {
        match (&judged.verdict, &judged.making, judged.key) {
            (Verdict::Restorable(..), _, Some(key)) => {
                let action = planned.store().peek_action(&key);
                saved.store += action.map_or(0, |action| action.input_tokens + action.output_tokens);
            }
            (Verdict::Stale(_), Some(Making::Bytes(contents)), _) => {
                let size = |bytes: &[u8]| tokens::estimate(&String::from_utf8_lossy(bytes));
                saved.templates += contents.iter().map(|bytes| size(bytes)).sum::<u64>();
            }
            _ => {}
        }
    }
    saved
}

/// The same in one line for people; nothing where no model is concerned. Requests that take no fewer tokens than those `without`
/// genmake save nothing: what their tasks share is short, and weighs less than what tells their results apart.
pub(super) fn savings_line(planned: &Planned, costs: &Costs) -> Option<String> {
    let mut saved = savings(planned);
    if planned.plan.batches.is_empty() && saved.store == 0 {
        return None;
    }
    let (sum, without) = (costs.sum(), costs.without_genmake);
    if sum.input + sum.output >= without.input + without.output {
        (saved.batching, saved.context) = (0, 0);
    }
    saved.words().map(|words| format!("saves {words}\n"))
}
