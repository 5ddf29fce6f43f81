//! What models cost and take: a dated table that ships with genmake, and lists that others publish.
//!
//! Values only: never asks anybody, and what it does not know it does not guess. A model without a price is unpriced, not free.

use std::collections::HashMap;
use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::yaml;

/// What is known of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Model {
    /// How many tokens prompt and answer may have together.
    pub context: Option<u64>,
    /// How many tokens an answer can have.
    pub max_output: Option<u64>,
    /// What it costs.
    pub price: Option<Price>,
    /// What is known of its maker's cache for the starts of prompts.
    pub cache: Option<Cache>,
}

/// What tokens cost, in USD per million.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
pub struct Price {
    /// Tokens sent.
    pub input: f64,
    /// Tokens that come back.
    pub output: f64,
    /// Tokens sent that were in the cache; without, as any others.
    pub cache_read: Option<f64>,
    /// Tokens sent that went into the cache; without, as any others.
    pub cache_write: Option<f64>,
    /// Tokens sent that went into the cache for an hour; without, as `cache_write`.
    pub cache_write_1h: Option<f64>,
    /// What holds instead for long prompts.
    pub above: Option<Tier>,
}

/// What tokens cost where a prompt is longer than so many.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
pub struct Tier {
    /// A prompt of more tokens than these.
    pub prompt: u64,
    /// As in [`Price`].
    pub input: f64,
    /// As in [`Price`].
    pub output: f64,
    /// As in [`Price`].
    pub cache_read: Option<f64>,
    /// As in [`Price`].
    pub cache_write: Option<f64>,
    /// As in [`Price`].
    pub cache_write_1h: Option<f64>,
}

/// A maker's cache for the starts of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// How many tokens a start must have to be kept.
    pub minimum: u64,
}

/// For how long a start of prompts is to be kept in a maker's cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Five minutes, or as long as the maker does without being asked.
    Short,
    /// An hour.
    Long,
}

impl Model {
    /// Whether its maker takes more for tokens that it keeps than for others.
    pub fn pays_to_keep(&self) -> bool {
        self.price.is_some_and(|price| price.cache_write.is_some_and(|write| write > price.input))
    }
}

/// How many tokens something took, or would take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tokens {
    /// All tokens sent, those of the cache among them.
    pub input: u64,
    /// Of the tokens sent, those that were in the cache.
    pub cached: u64,
    /// Of the tokens sent, those that went into the cache.
    pub cache_write: u64,
    /// Of those that went into the cache, the ones that are kept there for an hour.
    pub kept_long: u64,
    /// Tokens that come back, those of thinking among them.
    pub output: u64,
    /// Of the tokens that come back, those of thinking.
    pub reasoning: u64,
}

impl Tokens {
    /// Whether a provider did not say what an answer with so many good results took, or not all of it.
    pub fn is_silent_on(&self, good: usize) -> bool {
        self.input == 0 || (self.output == 0 && good > 0)
    }
}

impl Price {
    /// What nothing costs.
    pub const FREE: Price =
        Price { input: 0.0, output: 0.0, cache_read: None, cache_write: None, cache_write_1h: None, above: None };

    /// The same through a batch API: half of it, at every maker whose models ask for USD.
    #[must_use]
    pub fn of_batches(self) -> Price {
        let half = |price: Option<f64>| price.map(|price| price / 2.0);
        let above = self.above.map(|tier| Tier {
            prompt: tier.prompt,
            input: tier.input / 2.0,
            output: tier.output / 2.0,
            cache_read: half(tier.cache_read),
            cache_write: half(tier.cache_write),
            cache_write_1h: half(tier.cache_write_1h),
        });
        Price {
            input: self.input / 2.0,
            output: self.output / 2.0,
            cache_read: half(self.cache_read),
            cache_write: half(self.cache_write),
            cache_write_1h: half(self.cache_write_1h),
            above,
        }
    }

    /// What one request costs, in USD. The price of a tier is for all of its tokens.
    pub fn cost(&self, tokens: Tokens) -> f64 {
        let tier = self.above.filter(|tier| tokens.input > tier.prompt);
        let (input, output) = tier.map_or((self.input, self.output), |tier| (tier.input, tier.output));
        let read = tier.map_or(self.cache_read, |tier| tier.cache_read).unwrap_or(input);
        let write = tier.map_or(self.cache_write, |tier| tier.cache_write).unwrap_or(input);
        let write_long = tier.map_or(self.cache_write_1h, |tier| tier.cache_write_1h).unwrap_or(write);
        let plain = tokens.input.saturating_sub(tokens.cached).saturating_sub(tokens.cache_write);
        let long = tokens.kept_long.min(tokens.cache_write);
        let short = tokens.cache_write - long;
        let written = [(short, write), (long, write_long)];
        let parts = [(plain, input), (tokens.cached, read), written[0], written[1], (tokens.output, output)];
        parts.iter().map(|(count, price)| *count as f64 * price / 1e6).sum()
    }
}

/// Models by name.
#[derive(Debug, Clone, Default)]
pub struct List {
    models: HashMap<String, Model>,
}

/// What the table that ships with genmake has of a model, whether it is named with a date (`claude-sonnet-4-5-20250929`), with
/// its vendor (`anthropic/claude-sonnet-4.5`), or plainly.
pub fn find(name: &str) -> Option<Model> {
    shipped().find(name)
}

/// When the table that ships with genmake was true: `YYYY-MM-DD`.
pub fn as_of() -> &'static str {
    TABLE.lines().find_map(|line| line.strip_prefix("as_of: ")).unwrap_or_default()
}

const TABLE: &str = include_str!("models.yaml");

fn shipped() -> &'static List {
    static SHIPPED: OnceLock<List> = OnceLock::new();
    SHIPPED.get_or_init(|| {
        // A test reads every row.
        let table = yaml::data(TABLE).ok();
        let rows = table.as_ref().and_then(|table| table.get("models")?.as_object());
        let row = |(name, row): (&String, &Value)| Some((spelled(name), row_model(row)?));
        List { models: rows.into_iter().flatten().filter_map(row).collect() }
    })
}

/// A row of the table.
fn row_model(row: &Value) -> Option<Model> {
    let (amount, tokens) = (|of: &Value, key: &str| of.get(key)?.as_f64(), |key: &str| row.get(key)?.as_u64());
    let tier = |of: &Value| {
        Some(Tier {
            prompt: of.get("prompt")?.as_u64()?,
            input: amount(of, "input")?,
            output: amount(of, "output")?,
            cache_read: amount(of, "cache_read"),
            cache_write: amount(of, "cache_write"),
            cache_write_1h: amount(of, "cache_write_1h"),
        })
    };
    let price = Price {
        input: amount(row, "input")?,
        output: amount(row, "output")?,
        cache_read: amount(row, "cache_read"),
        cache_write: amount(row, "cache_write"),
        cache_write_1h: amount(row, "cache_write_1h"),
        above: row.get("above").and_then(tier),
    };
    Some(Model {
        context: tokens("context"),
        max_output: tokens("max_output"),
        price: Some(price),
        cache: tokens("cache_minimum").map(|minimum| Cache { minimum }),
    })
}

impl List {
    /// Reads the public list of prices that the LiteLLM project keeps, `model_prices_and_context_window.json`: USD for one token,
    /// by model.
    ///
    /// # Errors
    /// What it is instead, in words.
    pub fn of_litellm(text: &str) -> Result<List, String> {
        let list: Map<String, Value> =
            serde_json::from_str(text).map_err(|e| format!("is no list of prices by model: {e}"))?;
        let mut models = HashMap::new();
        for (name, entry) in &list {
            if let Some(model) = entry.as_object().and_then(litellm_model) {
                // A name as it stands there is before what another comes to.
                models.insert(name.to_lowercase(), model);
                models.entry(plain(name)).or_insert(model);
            }
        }
        if models.is_empty() {
            return Err("has no model with `input_cost_per_token` or `max_input_tokens`".to_owned());
        }
        Ok(List { models })
    }

    /// What the list has of a model, under this name or what it comes to without date and vendor.
    pub fn find(&self, name: &str) -> Option<Model> {
        let names = [name.to_lowercase(), spelled(without_vendor(&name.to_lowercase())), plain(name)];
        names.iter().find_map(|name| self.models.get(name)).copied()
    }
}

/// Who stands before a model's name with a slash, at those who sell many makers' models.
const VENDORS: &[&str] =
    &["openrouter", "models", "anthropic", "openai", "google", "gemini", "vertex_ai", "voyage", "cohere"];

/// A name without its vendor, its date, and with one spelling of versions.
fn plain(name: &str) -> String {
    let spelled = spelled(without_vendor(&name.to_lowercase()));
    without_date(spelled.strip_suffix("-latest").unwrap_or(&spelled)).to_owned()
}

/// Versions are written `4.5` here and `4-5` there.
fn spelled(name: &str) -> String {
    name.replace('.', "-")
}

fn without_vendor(name: &str) -> &str {
    match name.split_once('/') {
        Some((vendor, rest)) if VENDORS.contains(&vendor) => without_vendor(rest),
        _ => name,
    }
}

/// A name without `-20250929`, `@20250929` or `-2025-09-29` at its end.
fn without_date(name: &str) -> &str {
    let is_number = |text: &str, digits| text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if let Some((rest, date)) = name.rsplit_once(['-', '@'])
        && is_number(date, 8)
    {
        return rest;
    }
    let mut parts = name.rsplitn(4, '-');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(day), Some(month), Some(year), Some(rest))
            if is_number(day, 2) && is_number(month, 2) && is_number(year, 4) =>
        {
            rest
        }
        _ => name,
    }
}

/// An entry of that list; `None` where it says nothing of tokens.
/// The highest price that is taken for one, in USD for a million tokens; a Genfile's own are bounded likewise.
const HIGHEST: f64 = 1e6;

fn litellm_model(entry: &Map<String, Value>) -> Option<Model> {
    // What no price can be is none: it would make a budget void.
    let per_million =
        |name: &str| entry.get(name)?.as_f64().map(|cost| cost * 1e6).filter(|cost| (0.0..=HIGHEST).contains(cost));
    let count = |name: &str| entry.get(name).and_then(Value::as_u64).filter(|tokens| *tokens > 0);
    let limits = entry.keys().filter_map(|key| {
        let limit = key.strip_prefix("input_cost_per_token_above_")?.strip_suffix("k_tokens")?;
        Some((limit.to_owned(), limit.parse::<u64>().ok()? * 1000))
    });
    // Where there are several, the dearest is the highest.
    let above = limits.max_by_key(|(_, prompt)| *prompt).and_then(|(limit, prompt)| {
        let of = |name: &str| per_million(&format!("{name}_above_{limit}k_tokens"));
        Some(Tier {
            prompt,
            input: of("input_cost_per_token")?,
            output: of("output_cost_per_token").or_else(|| per_million("output_cost_per_token"))?,
            cache_read: of("cache_read_input_token_cost"),
            cache_write: of("cache_creation_input_token_cost"),
            cache_write_1h: of("cache_creation_input_token_cost_above_1hr"),
        })
    });
    let is_embedding = entry.get("mode").is_some_and(|mode| mode == "embedding");
    let output = per_million("output_cost_per_token").or(is_embedding.then_some(0.0));
    let price = per_million("input_cost_per_token").zip(output).map(|(input, output)| Price {
        input,
        output,
        cache_read: per_million("cache_read_input_token_cost"),
        cache_write: per_million("cache_creation_input_token_cost"),
        cache_write_1h: per_million("cache_creation_input_token_cost_above_1hr"),
        above,
    });
    let context = count("max_input_tokens");
    (price.is_some() || context.is_some()).then(|| Model {
        context,
        max_output: count("max_output_tokens"),
        price,
        cache: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_is_read() {
        let table = yaml::data(TABLE).unwrap();
        let names: Vec<&String> = table["models"].as_object().unwrap().keys().collect();
        assert_eq!(shipped().models.len(), names.len());
        for name in names {
            let row = &table["models"][name];
            let model = find(name).unwrap_or_else(|| panic!("{name}"));
            let price = model.price.unwrap();
            assert_eq!(
                (Some(price.input), Some(price.output)),
                (row["input"].as_f64(), row["output"].as_f64()),
                "{name}"
            );
            assert!(price.cache_read.is_none_or(|read| read < price.input), "{name}");
            assert!(price.cache_write.is_none_or(|write| write > price.input), "{name}");
            assert!(price.cache_write_1h.is_none_or(|write| Some(write) > price.cache_write), "{name}");
            assert_eq!(price.cache_write_1h.is_some(), name.starts_with("claude"), "{name}");
            assert!(price.above.is_none_or(|tier| tier.input > price.input && tier.output > price.output), "{name}");
            assert_eq!(model.context, row.get("context").and_then(Value::as_u64), "{name}");
        }
        assert_eq!(as_of().len(), 10);
    }

    #[test]
    fn a_model_goes_by_several_names() {
        let price = |name: &str| find(name).and_then(|model| model.price).map(|price| price.input);
        for name in [
            "claude-sonnet-4-5",
            "claude-sonnet-4.5",
            "claude-sonnet-4-5-20250929",
            "claude-sonnet-4-5@20250929",
            "anthropic/claude-sonnet-4.5",
            "openrouter/anthropic/claude-sonnet-4.5",
            "Claude-Sonnet-4-5-latest",
        ] {
            assert_eq!(price(name), Some(3.0), "{name}");
        }
        assert_eq!(price("gpt-4.1-mini-2025-04-14"), Some(0.4));
        assert_eq!(price("models/gemini-2.5-pro"), Some(1.25));
        // What is only like a known one is not taken for it.
        for name in ["claude-sonnet-4-20250514", "gpt-4.1-micro", "gpt-5.4-mini-ours", "acme/gpt-5", "smollm2", ""] {
            assert_eq!(find(name), None, "{name}");
        }
    }

    #[test]
    fn prices_are_to_each_other_as_their_makers_have_them() {
        let is =
            |price: Option<f64>, input: f64, times: f64| price.is_none_or(|price| (price - input * times).abs() < 1e-9);
        for name in shipped().models.keys() {
            let price = find(name).and_then(|model| model.price).unwrap();
            let Price { input, cache_read, cache_write, cache_write_1h, above, .. } = price;
            // OpenAI's before 5.6 write to the cache for nothing beside what sending costs, and Gemini's always.
            let is_new = ["claude", "gpt-5-6", "gpt-6"].iter().any(|maker| name.starts_with(maker));
            assert_eq!(cache_write.is_some(), is_new, "{name}");
            assert!(is(cache_write, input, 1.25) && is(cache_write_1h, input, 2.0), "{name}");
            let tenth =
                ["claude-fable", "claude-opus-5-5", "gpt-6-1", "gpt-4"].iter().all(|own| !name.starts_with(own));
            assert!(!tenth || is(cache_read, input, 0.1), "{name}: {cache_read:?}");
            if let Some(tier) = above {
                assert!(is(tier.cache_write, tier.input, 1.25) && is(tier.cache_write_1h, tier.input, 2.0), "{name}");
                assert_eq!(
                    (tier.cache_read.is_some(), tier.cache_write.is_some()),
                    (cache_read.is_some(), cache_write.is_some())
                );
            }
        }
    }

    #[test]
    fn a_batch_api_costs_half_whatever_is_counted() {
        let tokens = Tokens { cached: 40_000, cache_write: 20_000, kept_long: 5000, output: 3000, ..Tokens::default() };
        for name in shipped().models.keys() {
            let price = find(name).and_then(|model| model.price).unwrap();
            // On both sides of every tier.
            for input in [90_000, 400_000] {
                let (whole, half) = (Tokens { input, ..tokens }, price.of_batches());
                assert!((half.cost(whole) * 2.0 - price.cost(whole)).abs() < 1e-9, "{name}");
            }
        }
    }

    #[test]
    fn a_request_costs_what_its_tokens_do() {
        let cost = |name: &str, tokens| find(name).and_then(|model| model.price).unwrap().cost(tokens);
        let is = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");
        let tokens =
            Tokens { input: 1_000_000, cached: 400_000, cache_write: 100_000, output: 200_000, ..Tokens::default() };
        is(cost("claude-sonnet-4.5", tokens), 1.5 + 0.12 + 0.375 + 3.0);
        // Of what was written 30,000 tokens are kept for an hour, which costs twice what sending does.
        is(cost("claude-sonnet-4.5", Tokens { kept_long: 30_000, ..tokens }), 1.5 + 0.12 + 0.2625 + 0.18 + 3.0);
        is(cost("gpt-5.6-sol", tokens), cost("gpt-5.6-sol", Tokens { kept_long: 100_000, ..tokens }));
        // Writes that have no price of their own are tokens like any others.
        is(cost("gpt-4.1", tokens), 1.2 + 0.2 + 1.6);
        let short = Tokens { input: 200_000, output: 1000, ..Tokens::default() };
        is(cost("gemini-3.1-pro", short), 0.4 + 0.012);
        is(cost("gemini-3.1-pro", Tokens { input: 200_001, ..short }), 0.800_004 + 0.018);
        // Of a tier the whole prompt counts, what was in the cache and what went into it, too.
        let long = Tokens { input: 300_000, cached: 200_000, cache_write: 40_000, output: 1000, ..Tokens::default() };
        is(cost("gpt-5.6-sol", long), 0.6 + 0.2 + 0.5 + 0.045);
        is(cost("claude-haiku-5.5", Tokens { kept_long: 30_000, ..long }), 0.03 + 0.1 + 0.006_25 + 0.03 + 0.0025);
        let tier = |prompt| Tokens { input: prompt, ..Tokens::default() };
        is(cost("claude-haiku-5.5", tier(100_000)), 0.01);
        is(cost("claude-haiku-5.5", tier(100_001)), 0.050_000_5);
        is(cost("gpt-5.6-luna", tier(272_000)), 0.0544);
        is(cost("gpt-5.6-luna", tier(272_001)), 0.108_800_4);
        is(Price::FREE.cost(tokens), 0.0);
    }

    #[test]
    fn the_public_list_is_read() {
        let list = List::of_litellm(
            r#"{
            "sample_spec": {"max_input_tokens": "max input tokens", "input_cost_per_token": 0.0},
            "acme-1": {"input_cost_per_token": 1e-06, "output_cost_per_token": 2e-06, "max_input_tokens": 8000,
                "max_output_tokens": 2000, "cache_read_input_token_cost": 1e-07, "cache_creation_input_token_cost": 1.25e-06,
                "cache_creation_input_token_cost_above_1hr": 2e-06,
                "input_cost_per_token_above_200k_tokens": 4e-06, "output_cost_per_token_above_200k_tokens": 6e-06},
            "acme-1-20260101": {"input_cost_per_token": 9e-06, "output_cost_per_token": 9e-06},
            "openai/acme-2": {"input_cost_per_token": 3e-06, "output_cost_per_token": 3e-06},
            "acme-embed": {"mode": "embedding", "input_cost_per_token": 1e-08},
            "acme-image": {"mode": "image_generation", "output_cost_per_image": 0.06}
        }"#,
        )
        .unwrap();
        let acme = list.find("acme-1").unwrap();
        assert_eq!((acme.context, acme.max_output), (Some(8000), Some(2000)));
        let price = acme.price.unwrap();
        assert!((price.output - 2.0).abs() < 1e-9 && (price.cache_read.unwrap() - 0.1).abs() < 1e-9);
        assert!((price.cache_write_1h.unwrap() - 2.0).abs() < 1e-9);
        let tier = price.above.unwrap();
        assert!((tier.input - 4.0).abs() < 1e-9 && tier.prompt == 200_000);
        let input = |name: &str| list.find(name).and_then(|model| model.price).map(|price| price.input.round());
        assert_eq!(input("acme-1-20260101"), Some(9.0));
        assert_eq!(input("acme-1-20270101"), Some(1.0));
        assert_eq!(input("acme-2"), Some(3.0));
        assert_eq!(input("acme-embed"), Some(0.0));
        assert_eq!(list.find("acme-image"), None);
        // What cannot be is not taken: there is no price then, and no window.
        for cost in ["-1e-2", "1e300", "1e-3, \"max_input_tokens\": 0, \"output_cost_per_token\": -1"] {
            let text = format!(
                r#"{{"odd": {{"output_cost_per_token": 1e-6, "max_output_tokens": 9, "input_cost_per_token": {cost}}}, "b": {{"max_input_tokens": 9}}}}"#
            );
            assert_eq!(List::of_litellm(&text).unwrap().find("odd"), None, "{cost}");
        }
        assert!(List::of_litellm("[]").is_err() && List::of_litellm(r#"{"a": {}}"#).is_err());
    }
}
