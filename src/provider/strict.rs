//! Which schemas OpenAI's strict mode takes. Pure.
//!
//! From OpenAI's guide to structured outputs: an object at the root, in every object all properties required and no others,
//! at most ten levels and 5,000 properties, a thousand enum values, 120,000 letters in all of their names, 15,000 in an enum of more
//! than 250 values, and these keywords only. A schema that is none of these is
//! sent not strict: the provider follows it as well as it can, and the result is judged here.

use serde_json::{Map, Value};

use super::form;

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
const MOST_LETTERS: usize = 120_000;
/// An enum of more values than these has a limit of its own.
const LARGE_ENUM: usize = 250;
const MOST_LETTERS_OF_A_LARGE_ENUM: usize = 15_000;

/// Whether strict mode takes this schema.
pub(super) fn takes(schema: &Value) -> bool {
    let mut counts = Counts { properties: 0, enum_values: 0, letters: 0 };
    schema.get("type").is_some_and(|kind| kind == "object")
        && counts.takes(schema, 0)
        && counts.properties <= MOST_PROPERTIES
        && counts.enum_values <= MOST_ENUM_VALUES
        && counts.letters <= MOST_LETTERS
}

struct Counts {
    properties: usize,
    enum_values: usize,
    /// Of the names of properties and definitions, and of the values of enums.
    letters: usize,
}

impl Counts {
    fn takes(&mut self, schema: &Value, level: usize) -> bool {
        let Value::Object(schema) = schema else { return false };
        if level > MOST_LEVELS || schema.keys().any(|key| !KEYWORDS.contains(&key.as_str())) {
            return false;
        }
        let letters = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
        let values = schema.get("enum").and_then(Value::as_array);
        let of_values: usize = values.into_iter().flatten().map(letters).sum();
        let is_large = values.is_some_and(|values| values.len() > LARGE_ENUM);
        let names =
            ["properties", "$defs"].into_iter().filter_map(|key| schema.get(key)?.as_object()).flat_map(Map::keys);
        self.letters += names.map(|name| name.chars().count()).sum::<usize>() + of_values;
        self.letters += schema.get("const").map_or(0, letters);
        self.enum_values += values.map_or(0, Vec::len);
        form::says_something(schema)
            && !(is_large && of_values > MOST_LETTERS_OF_A_LARGE_ENUM)
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        let with = |values: usize, letters: usize| {
            let values: Vec<String> = (0..values).map(|_| "x".repeat(letters)).collect();
            takes(
                &json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": {"enum": values}}}),
            )
        };
        assert!(with(250, 400) && with(251, 59) && with(1000, 15));
        assert!(!with(251, 60) && !with(1001, 1) && !with(250, 481));
        let mut deep = json!({"type": "string"});
        for _ in 0..11 {
            deep =
                json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {"a": deep}});
        }
        assert!(!takes(&deep));
        assert!(takes(&deep["properties"]["a"]));
    }
}
