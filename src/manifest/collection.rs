//! What a rule makes of many items: one file. How that is written, and what of it cannot stand together.

use serde_json::Value;

use super::model::{Expr, Foreach, Recipe};
use super::read::{Fields, Reader, boolean, fields, text, whole};
use super::rule::foreach;
use crate::error::{Code, Error};
use crate::yaml::{Key, Node};

/// What a rule makes of many items.
#[derive(Debug)]
pub struct Collection {
    /// What there is a result for each of.
    pub items: Foreach,
    /// The JSON Schema of one result; without, that of the prompt file, or else a result is a text.
    pub schema: Option<Expr>,
    /// The field of which no two results have the same value: the first of them counts.
    pub unique_by: Option<String>,
    /// Fields that each result has beside what the model says.
    pub set: Vec<(String, Fixed)>,
    /// How many items one request is about at most; none for as many as fit.
    pub window: Option<usize>,
    /// How much each window is shown of what came of those before it; none where nothing, so that all may go at once.
    pub carry: Option<Carry>,
    /// How results belong to items.
    pub results: Results,
}

/// The value of a field that each result has.
#[derive(Debug)]
pub enum Fixed {
    /// A text that may hold expressions.
    Text(Expr),
    /// Anything else, as it is.
    Value(Value),
}

/// How much a window is shown of what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// The last so many results.
    Last(usize),
    /// All windows before it, as the turns of a conversation.
    All,
}

/// How results belong to items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// Each item has one.
    Each,
    /// The model says how many there are of a window.
    Free {
        /// The fewest of a window.
        min: Option<usize>,
        /// The most of a window.
        max: Option<usize>,
    },
}

/// The keys of a collection beside `items`.
const OF_ITEMS: [&str; 8] = ["schema", "unique_by", "set", "window", "carry", "results", "min", "max"];

/// Reads what a rule makes of many items; none for a rule without `items`.
pub(super) fn collection(reader: &mut Reader, rule: &Key, keys: Fields, recipe: Option<&Recipe>) -> Option<Collection> {
    let Some((key, items)) = keys.entry("items") else {
        for (key, _) in OF_ITEMS.iter().filter_map(|name| keys.entry(name)) {
            let error = Error::new(Code::Conflict, format!("rule `{}` has `{}` and no `items`", rule.name, key.name));
            reader.report(&key.span, error.hint("it says how one file is made of many items: `items: FILE#/…/*`"));
        }
        return None;
    };
    if let Some(recipe @ (Recipe::Template(_) | Recipe::Run(_))) = recipe {
        let what = format!("rule `{}` has `items` and a `{}`", rule.name, recipe.name());
        let error = Error::new(Code::Conflict, what);
        reader
            .report(&key.span, error.hint("a collection is made by a `prompt`; `foreach` makes a file for each item"));
    }
    if let (Some((key, _)), false) = (keys.entry("outputs"), matches!(recipe, Some(Recipe::Embed(_)))) {
        let error = Error::new(Code::Conflict, format!("rule `{}` has `items` and several outputs", rule.name));
        reader.report(&key.span, error.hint("a collection is one file: `output: PATH`"));
    }
    let results = results(reader, keys);
    Some(Collection {
        items: foreach(reader, items)?,
        schema: keys.get("schema").and_then(|node| reader.expr(node)),
        unique_by: keys.get("unique_by").and_then(text).map(str::to_owned),
        set: keys.get("set").map(|node| set(reader, node)).unwrap_or_default(),
        window: keys.get("window").and_then(count),
        carry: keys.get("carry").and_then(|node| match text(node) {
            Some("all") => Some(Carry::All),
            _ => count(node).map(Carry::Last),
        }),
        results,
    })
}

fn count(node: &Node) -> Option<usize> {
    whole(node).and_then(|n| usize::try_from(n).ok())
}

fn results(reader: &mut Reader, keys: Fields) -> Results {
    let bound = |name| keys.get(name).and_then(count);
    let (min, max) = (bound("min"), bound("max"));
    if keys.get("results").and_then(text) == Some("free") {
        if let (Some(least), Some(most), Some((key, _))) = (min, max, keys.entry("max"))
            && least > most
        {
            let error = Error::new(Code::BadValue, format!("`min` is {least}, and `max` is {most}"));
            reader.report(&key.span, error);
        }
        return Results::Free { min, max };
    }
    for (key, _) in ["min", "max"].iter().filter_map(|name| keys.entry(name)) {
        let error = Error::new(Code::Conflict, format!("`{}` without `results: free`", key.name));
        reader.report(&key.span, error.hint("`results: each` has one result an item, whoever counts them"));
    }
    Results::Each
}

fn set(reader: &mut Reader, node: &Node) -> Vec<(String, Fixed)> {
    let fixed = |reader: &mut Reader, node: &Node| match (text(node), node.to_value()) {
        (Some(_), Value::String(_)) => reader.expr(node).map(Fixed::Text),
        (_, value) => Some(Fixed::Value(value)),
    };
    let named = super::read::entries(node).iter();
    named.filter_map(|(key, node)| Some((key.name.clone(), fixed(reader, node)?))).collect()
}

/// How texts become vectors.
#[derive(Debug)]
pub struct Embed {
    /// A Handlebars file that makes the text of an item; without, what genmake says of it.
    pub template: Option<Expr>,
    /// How many numbers a vector has; none for as many as the model gives.
    pub dimensions: Option<u32>,
    /// How many tokens a text has at most: it is cut behind them.
    pub max_tokens: Option<u64>,
    /// What the vectors are for, in the provider's word.
    pub task: Option<String>,
    /// Whether the comments of source code stay.
    pub keeps_comments: bool,
}

/// Reads `embed`.
pub(super) fn embed(reader: &mut Reader, node: &Node) -> Embed {
    let keys = fields(node);
    Embed {
        template: keys.get("template").and_then(|node| reader.expr(node)),
        dimensions: keys.get("dimensions").and_then(whole).and_then(|n| u32::try_from(n).ok()),
        max_tokens: keys.get("max_tokens").and_then(whole),
        task: keys.get("task").and_then(text).map(str::to_owned),
        keeps_comments: keys.get("comments").and_then(boolean_or_word).unwrap_or(true),
    }
}

/// `keep` and `drop`.
fn boolean_or_word(node: &Node) -> Option<bool> {
    match text(node) {
        Some("keep") => Some(true),
        Some("drop") => Some(false),
        _ => boolean(node),
    }
}
