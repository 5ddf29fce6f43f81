//! What a request will take, before it is sent: tokens, cost, and whether the model has room for it.
//!
//! Pure, and never a part of a key or a verdict: what is learnt changes estimates and nothing else.

use serde_json::Value;

use crate::ledger::{Expected, Ledger};
use crate::llm::{self, Request};
use crate::models::{Model, Tokens};
use crate::prompt::{Message, Role};
use crate::tokens::{self, Counter};

/// What there is to estimate by.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// What is known of the model.
    pub model: Model,
    /// What earlier requests took.
    pub ledger: &'a Ledger,
    /// What its tokens are counted by. Models on this machine are of many makers with words of their own: their tokens are estimated
    /// by length and by what the ledger knows, and nothing is read in for them.
    pub counter: Counter,
}

/// What a request will take.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Estimate {
    /// Tokens sent.
    pub input: u64,
    /// Tokens that will come back, as results of these rules are.
    pub output: u64,
    /// The most tokens that can come back; where nothing bounds them, four times what is expected.
    pub most_output: u64,
    /// Whether the request itself bounds what comes back.
    pub is_bounded: bool,
    /// What is known of the model.
    pub model: Model,
}

/// How a request fits its model's context window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// It does.
    Enough,
    /// It takes more than four fifths: tokens, and the window.
    Tight(u64, u64),
    /// It does not: tokens, and the window.
    TooLong(u64, u64),
}

/// Tokens that a message takes beside its text, and those with which an answer is begun for the model: as OpenAI counts them for its
/// chat models, in its guide to counting tokens.
const OF_A_MESSAGE: u64 = 4;
const OF_AN_ANSWER: u64 = 3;

impl Means<'_> {
    /// A text's tokens, as the model's maker will probably count them.
    pub fn tokens(&self, model: &str, text: &str) -> u64 {
        self.corrected(model, self.counter.count(text))
    }

    fn corrected(&self, model: &str, tokens: u64) -> u64 {
        (tokens as f64 * self.ledger.ratio(model, self.counter.name())).round() as u64
    }

    /// What a request will take that brings these results.
    pub fn of(&self, request: &Request, expected: &[Expected]) -> Estimate {
        let in_answer = |one: &Expected| match expected {
            [_] => one.usual,
            _ => llm::framed(one.usual, 1),
        };
        let output = expected.iter().map(in_answer).sum();
        let guess = expected.iter().map(|one| one.most.max(4 * in_answer(one))).sum();
        let most = request.max_output_tokens.or(self.model.max_output).unwrap_or(guess);
        Estimate {
            input: self.corrected(&request.model, sent(request, self.counter)),
            output,
            most_output: most.max(output),
            is_bounded: request.max_output_tokens.is_some(),
            model: self.model,
        }
    }

    /// How a request fits the model. What surely fits is not counted.
    pub fn room(&self, request: &Request) -> Room {
        let Some(window) = self.model.context else { return Room::Enough };
        let answer = request.max_output_tokens.unwrap_or(0);
        let texts = request.messages.iter().map(|message| message.text.as_str());
        let most: u64 = texts.map(|text| tokens::most(text) + OF_A_MESSAGE).sum();
        let most = most + tokens::most(&schema(request)) + OF_AN_ANSWER;
        if is_ample(self.corrected(&request.model, most) + answer, window) {
            return Room::Enough;
        }
        let taken = self.corrected(&request.model, sent(request, self.counter)) + answer;
        match taken {
            _ if taken > window => Room::TooLong(taken, window),
            _ if is_ample(taken, window) => Room::Enough,
            _ => Room::Tight(taken, window),
        }
    }
}

/// Whether no more than four fifths of a window are taken.
fn is_ample(taken: u64, window: u64) -> bool {
    taken.saturating_mul(5) <= window.saturating_mul(4)
}

/// The tokens that a request sends, as counted here; what the model's maker counts is for the ledger to know. Servers on this machine hold
/// an answer to its schema by a grammar, and show the model none of it.
pub fn sent(request: &Request, counter: Counter) -> u64 {
    let count = |message: &Message| match message.role {
        Role::System => counter.count_prefix(&message.text),
        _ => counter.count(&message.text),
    };
    let messages: u64 = request.messages.iter().map(|message| count(message) + OF_A_MESSAGE).sum();
    let schema = if counter == Counter::Words { counter.count(&schema(request)) } else { 0 };
    messages + schema + OF_AN_ANSWER
}

/// Prompts of fewer tokens than these have room everywhere.
const SHORT: u64 = 1000;

/// The tokens of a prompt, if its provider counted far fewer: some servers cut silently what is longer than their window. Makers count
/// otherwise, but hardly by a third; what looks like that by its length is counted by words.
pub fn unread(request: &Request, counted: u64) -> Option<u64> {
    let is_far_fewer = |sent: u64| sent >= SHORT && counted.saturating_mul(3) < sent.saturating_mul(2);
    let words = || request.messages.iter().map(|message| Counter::Words.count(&message.text)).sum::<u64>();
    let looks_so = counted > 0 && is_far_fewer(sent(request, Counter::Length));
    looks_so.then(words).filter(|words| is_far_fewer(*words))
}

fn schema(request: &Request) -> String {
    request.schema.as_ref().map(Value::to_string).unwrap_or_default()
}

impl Estimate {
    /// All tokens that will probably be used.
    pub fn tokens(&self) -> u64 {
        self.input + self.output
    }

    /// All tokens that can be used.
    pub fn most_tokens(&self) -> u64 {
        self.input + self.most_output
    }

    /// What it will probably cost, in USD; `None` where the price is not known. Nothing is taken to be in the maker's cache.
    pub fn cost(&self) -> Option<f64> {
        self.cost_of(self.output)
    }

    /// What it can cost.
    pub fn most_cost(&self) -> Option<f64> {
        self.cost_of(self.most_output)
    }

    /// What is sent costs, whatever comes back.
    pub fn sent_cost(&self) -> Option<f64> {
        self.cost_of(0)
    }

    fn cost_of(&self, output: u64) -> Option<f64> {
        let tokens = Tokens { input: self.input, output, ..Tokens::default() };
        self.model.price.map(|price| price.cost(tokens))
    }
}

/// The tokens that a value of this schema should have, by its form alone; a text's where there is none.
pub fn by_form(schema: Option<&Value>) -> u64 {
    schema.map_or(TEXT, |schema| of_form(schema, schema, DEEPEST))
}

/// What a text of which nothing is known is taken to have.
const TEXT: u64 = 100;

/// What a text within a value is taken to have, and what any other value.
const WITHIN: (u64, u64) = (20, 4);

/// How many values a list is taken to have.
const LISTED: u64 = 3;

/// How deep a schema is looked into: it may lead back to itself.
const DEEPEST: usize = 8;

fn of_form(schema: &Value, root: &Value, deep: usize) -> u64 {
    if deep == 0 {
        return WITHIN.1;
    }
    let below = |schema: &Value| of_form(schema, root, deep - 1);
    if let Some(to) = schema.get("$ref").and_then(Value::as_str) {
        return to.strip_prefix('#').and_then(|to| root.pointer(to)).map_or(WITHIN.0, below);
    }
    let kind = schema.get("type").and_then(|kind| kind.as_str().or_else(|| kind.get(0)?.as_str()));
    match kind {
        _ if schema.get("enum").is_some() || schema.get("const").is_some() => WITHIN.1,
        Some("object") => {
            let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
            properties.map(|(name, schema)| tokens::estimate(name) + WITHIN.1 + below(schema)).sum::<u64>() + WITHIN.1
        }
        Some("array") => {
            let count = |key| schema.get(key).and_then(Value::as_u64);
            let count = count("maxItems").or_else(|| count("minItems")).unwrap_or(LISTED);
            schema.get("items").map_or(WITHIN.0, below).saturating_mul(count) + WITHIN.1
        }
        Some("integer" | "number" | "boolean" | "null") => WITHIN.1,
        _ => WITHIN.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Output;
    use crate::llm::Ask;
    use crate::models::Price;
    use crate::path::RelPath;
    use serde_json::{Map, json};

    fn ask(text: &str, cap: Option<u64>) -> Ask {
        let params: Map<String, Value> =
            cap.map(|cap| ("max_output_tokens".to_owned(), json!(cap))).into_iter().collect();
        Ask {
            outputs: vec![Output { name: None, path: RelPath::new("a").unwrap() }],
            messages: vec![Message { role: Role::User, text: text.into() }],
            model: "m".into(),
            params,
            schema: None,
            context: None,
            piece: None,
            carried: None,
        }
    }

    fn estimate(model: Model, ledger: &Ledger, ask: &Ask) -> Estimate {
        let expected = ledger.expected_output("r", ask.limit()).unwrap_or_else(|| Expected::guessed(ask.limit()));
        Means { model, ledger, counter: Counter::Length }.of(&Request::new(&[ask]), &[expected])
    }

    #[test]
    fn what_comes_back_is_as_before_and_bounded_by_what_bounds_it() {
        let mut ledger = Ledger::default();
        let none = Model::default();
        let of = |model: Model, ledger: &Ledger, ask: &Ask| {
            let estimate = estimate(model, ledger, ask);
            (estimate.input, estimate.output, estimate.most_output, estimate.is_bounded)
        };
        let text = "abcd".repeat(93);
        assert_eq!(of(none, &ledger, &ask(&text, None)), (100, 500, 2000, false));
        assert_eq!(of(none, &ledger, &ask(&text, Some(80))), (100, 27, 80, true));
        let known = Model { max_output: Some(9000), ..none };
        assert_eq!(of(known, &ledger, &ask(&text, None)), (100, 500, 9000, false));
        ledger.note_result("r", 100, 30);
        ledger.note_prompt("m", "length", 100, 150);
        assert_eq!(of(known, &ledger, &ask(&text, None)), (150, 30, 9000, false));
        assert_eq!(of(none, &ledger, &ask(&text, None)), (150, 30, 120, false));
    }

    #[test]
    fn without_a_price_it_is_unpriced() {
        let ask = ask(&"abcd".repeat(93), Some(100));
        let price = Price { input: 10.0, output: 100.0, ..Price::FREE };
        let cost = |price| estimate(Model { price, ..Model::default() }, &Ledger::default(), &ask).most_cost();
        assert_eq!(cost(None), None);
        assert_eq!(cost(Some(Price::FREE)), Some(0.0));
        assert!((cost(Some(price)).unwrap() - 0.011).abs() < 1e-12);
    }

    #[test]
    fn a_window_is_ample_tight_or_too_small() {
        let room = |letters: usize, cap, window, ledger: &Ledger| {
            let model = Model { context: window, ..Model::default() };
            Means { model, ledger, counter: Counter::Length }.room(&Request::new(&[&ask(&"a".repeat(letters), cap)]))
        };
        let mut ledger = Ledger::default();
        assert_eq!(room(4000, None, None, &ledger), Room::Enough);
        assert_eq!(room(4000, None, Some(2000), &ledger), Room::Enough);
        assert_eq!(room(6372, None, Some(2000), &ledger), Room::Enough);
        assert_eq!(room(6376, None, Some(2000), &ledger), Room::Tight(1601, 2000));
        assert_eq!(room(4000, Some(993), Some(2000), &ledger), Room::Tight(2000, 2000));
        assert_eq!(room(4000, Some(994), Some(2000), &ledger), Room::TooLong(2001, 2000));
        ledger.note_prompt("m", "length", 100, 200);
        assert_eq!(room(4000, None, Some(2000), &ledger), Room::TooLong(2014, 2000));
    }

    #[test]
    #[cfg(feature = "tokenizer")]
    fn a_prompt_that_was_read_in_part_is_known_by_its_count() {
        let request = Request::new(&[&ask(&"word by word ".repeat(2000), None)]);
        let words = Counter::Words.count(&request.messages[0].text);
        assert!(words > 5900, "{words}");
        assert_eq!(unread(&request, 3900), Some(words));
        // Who says nothing, who counts a little otherwise, and what is short.
        assert_eq!((unread(&request, 0), unread(&request, words * 3 / 4)), (None, None));
        assert_eq!(unread(&Request::new(&[&ask("word", None)]), 1), None);
        // What only looks long is counted: a token is many letters here.
        assert_eq!(unread(&Request::new(&[&ask(&" ".repeat(20_000), None)]), 700), None);
    }

    #[test]
    #[cfg(feature = "tokenizer")]
    fn models_elsewhere_are_counted_by_words() {
        let ledger = Ledger::default();
        let tokens = |counter| Means { model: Model::default(), ledger: &ledger, counter }.tokens("m", "hello world");
        assert_eq!([Counter::Length, Counter::Words].map(tokens), [3, 2]);
    }
}
