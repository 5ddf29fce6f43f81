//! Which schemas OpenAI's strict mode takes. Pure.
//!
//! From OpenAI's guide to structured outputs: an object at the root, in every object all properties required and no others,
//! at most ten levels, of o3 five, and 5,000 properties, a thousand enum values, 120,000 letters of names and values, and these
//! keywords only. A schema that is none of these is sent not strict: the provider follows it as well as it can, and the result is
//! judged here.

use serde_json::{Map, Value};

use crate::provider::form;

const KEYWORDS: &[&str] = &[
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "description",
    "enum",
    "format",
    "items",
    "maximum",
    "maxItems",
    "minimum",
    "minItems",
    "multipleOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
];

const MOST_LEVELS: usize = 10;
const MOST_PROPERTIES: usize = 5_000;
const MOST_ENUM_VALUES: usize = 1_000;
/// Of the names of properties and definitions, and of the values of `enum` and `const`.
const MOST_LETTERS: usize = 120_000;
/// Of an `enum` with more than so many values, these letters.
const LONG_ENUM: (usize, usize) = (250, 15_000);

/// How many levels a result lies below the root of an answer to several tasks.
const BELOW: usize = 2;
/// What the name of a result has at most, `f1000` or so.
const NAME: usize = 5;

/// Whether strict mode of a model takes this schema.
pub(super) fn takes(schema: &Value, model: &str) -> bool {
    let mut counts = Counts::below(most_levels(model));
    schema.get("type").is_some_and(|kind| kind == "object")
        && counts.takes(schema, 0)
        && counts.properties <= MOST_PROPERTIES
        && counts.enum_values <= MOST_ENUM_VALUES
        && counts.letters <= MOST_LETTERS
}

/// How many results of such a schema strict mode takes in one answer; none where it does not take it at all.
pub(super) fn most_results(schema: &Value, model: &str) -> Option<usize> {
    let mut counts = Counts::below(most_levels(model));
    if !counts.takes(schema, 0) {
        return None;
    }
    if counts.deepest + BELOW > counts.most_levels {
        return Some(1);
    }
    // Beside their own there is `files`, and a name for each.
    let properties = form::holds(MOST_PROPERTIES, 1, counts.properties + 1)?;
    let letters = form::holds(MOST_LETTERS, "files".len(), counts.letters + NAME)?;
    Some(properties.min(letters).min(form::holds(MOST_ENUM_VALUES, 0, counts.enum_values)?))
}

fn most_levels(model: &str) -> usize {
    if model.starts_with("o3") { 5 } else { MOST_LEVELS }
}

struct Counts {
    most_levels: usize,
    deepest: usize,
    properties: usize,
    enum_values: usize,
    letters: usize,
}

impl Counts {
    fn below(most_levels: usize) -> Counts {
        Counts { most_levels, deepest: 0, properties: 0, enum_values: 0, letters: 0 }
    }

    fn takes(&mut self, schema: &Value, level: usize) -> bool {
        let Value::Object(schema) = schema else { return false };
        if level > self.most_levels || schema.keys().any(|key| !KEYWORDS.contains(&key.as_str())) {
            return false;
        }
        self.deepest = self.deepest.max(level);
        let values = schema.get("enum").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let of_values: usize = values.iter().map(letters).sum();
        self.enum_values += values.len();
        self.letters +=
            of_values + schema.get("const").map_or(0, letters) + names(schema, "properties") + names(schema, "$defs");
        (values.len() <= LONG_ENUM.0 || of_values <= LONG_ENUM.1)
            && form::says_something(schema)
            && (!form::is_object(schema) || self.closed(schema))
            && self.each(schema.get("properties").into_iter().filter_map(Value::as_object).flat_map(Map::values), level)
            && self.each(schema.get("$defs").into_iter().filter_map(Value::as_object).flat_map(Map::values), level)
            && self.each(schema.get("anyOf").into_iter().filter_map(Value::as_array).flatten(), level)
            && self.each(schema.get("items").into_iter(), level)
    }

    fn each<'a>(&mut self, mut schemas: impl Iterator<Item = &'a Value>, level: usize) -> bool {
        schemas.all(|schema| self.takes(schema, level + 1))
    }

    /// All properties required, and no others.
    fn closed(&mut self, schema: &Map<String, Value>) -> bool {
        let closed = form::closed(schema);
        self.properties += closed.as_ref().map_or(0, |closed| closed.properties);
        closed.is_some_and(|closed| closed.optional == 0)
    }
}

fn letters(value: &Value) -> usize {
    value.as_str().map_or_else(|| value.to_string().len(), |text| text.chars().count())
}

fn names(schema: &Map<String, Value>, key: &str) -> usize {
    let named = schema.get(key).and_then(Value::as_object);
    named.into_iter().flat_map(Map::keys).map(|name| name.chars().count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn takes(schema: &Value) -> bool {
        super::takes(schema, "gpt-4.1")
    }

    fn object(properties: &[(&str, Value)]) -> Value {
        let names: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
        let properties: Map<String, Value> =
            properties.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        json!({"type": "object", "additionalProperties": false, "required": names, "properties": properties})
    }

    /// So many objects in each other.
    fn deep(levels: usize) -> Value {
        (0..levels).fold(json!({"type": "string"}), |inner, _| object(&[("a", inner)]))
    }

    #[test]
    fn so_many_results_are_taken_at_once() {
        let most = |schema: &Value, model: &str| {
            let most = most_results(schema, model);
            let batch = |results: usize| {
                let names: Vec<String> = (10_000..10_000 + results).map(|name| name.to_string()).collect();
                object(&[("files", object(&names.iter().map(|name| (&**name, schema.clone())).collect::<Vec<_>>()))])
            };
            if let Some(most) = most.filter(|most| *most > 1) {
                assert!(super::takes(&batch(most), model) && !super::takes(&batch(most + 1), model), "{most}");
            }
            most
        };
        let of = |values: usize, letters: usize| {
            let values: Vec<String> = (0..values).map(|value| format!("{value:0letters$}")).collect();
            object(&[("a", json!({"enum": values}))])
        };
        let text = json!({"type": "string"});
        assert_eq!(most(&text, "m"), Some(4999));
        assert_eq!(most(&object(&[("a", text.clone()), ("b", text)]), "m"), Some(1666));
        assert_eq!(
            [most(&of(300, 4), "m"), most(&of(1000, 4), "m"), most(&of(1001, 4), "m")],
            [Some(3), Some(1), None]
        );
        assert_eq!(
            [most(&of(200, 300), "m"), most(&of(200, 700), "m"), most(&of(251, 60), "m")],
            [Some(1), None, None]
        );
        // In a batch it lies deeper.
        assert_eq!(
            [8, 9, 10, 11].map(|levels| most(&deep(levels), "m").map(|most| most > 1)),
            [Some(true), Some(false), Some(false), None]
        );
        assert_eq!(
            [3, 4, 5, 6].map(|levels| most(&deep(levels), "o3-mini").map(|most| most > 1)),
            [Some(true), Some(false), Some(false), None]
        );
        assert!(super::takes(&deep(5), "o3") && !super::takes(&deep(6), "o3") && takes(&deep(6)));
    }

    #[test]
    fn closed_objects_only() {
        let closed = json!({"type": "object", "additionalProperties": false, "required": ["a"],
            "properties": {"a": {"type": ["string", "null"]}}});
        assert!(takes(&closed));
        assert!(takes(&json!({"type": "object", "additionalProperties": false, "required": ["l"],
            "properties": {"l": {"type": "array", "items": closed}}})));
        for (pointer, value) in [
            ("/required", json!([])),
            ("/additionalProperties", json!(true)),
            ("/properties/a", json!({})),
            ("/properties/a", json!({"type": "string", "minLength": 2})),
            ("/properties/a", json!({"type": "object"})),
            ("/type", json!("array")),
        ] {
            let mut open = closed.clone();
            *open.pointer_mut(pointer).unwrap() = value;
            assert!(!takes(&open), "{pointer}: {open}");
        }
        let mut deep = json!({"type": "string"});
        for _ in 0..11 {
            deep =
                json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": deep}});
        }
        assert!(!takes(&deep));
        assert!(takes(&deep["properties"]["a"]));
    }
}
