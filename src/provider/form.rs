//! What a JSON schema says of one place, for those who decide which schemas a provider takes. Pure.

use std::collections::HashSet;

use serde_json::{Map, Value};

/// An object that has no properties but those named.
pub(super) struct Closed {
    /// How many it has.
    pub properties: usize,
    /// How many of them may be left out.
    pub optional: usize,
}

/// How many results one schema holds of which each counts so much, with so much besides; none where it does not hold even one.
pub(super) fn holds(most: usize, besides: usize, each: usize) -> Option<usize> {
    match each {
        0 => Some(usize::MAX),
        each => Some(most.saturating_sub(besides) / each).filter(|results| *results > 0),
    }
}

/// Whether it says anything that a value could be held to.
pub(super) fn says_something(schema: &Map<String, Value>) -> bool {
    ["type", "anyOf", "$ref", "enum", "const"].iter().any(|key| schema.contains_key(*key))
}

/// Whether it is of an object.
pub(super) fn is_object(schema: &Map<String, Value>) -> bool {
    schema.contains_key("properties")
        || match schema.get("type") {
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "object"),
            Some(kind) => kind == "object",
            None => false,
        }
}

/// What there is to say of an object that is closed by `additionalProperties: false`; none of an open one.
pub(super) fn closed(schema: &Map<String, Value>) -> Option<Closed> {
    if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
        return None;
    }
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    let required: HashSet<&str> = required.filter_map(Value::as_str).collect();
    let names = || schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
    let optional = names().filter(|name| !required.contains(name.as_str())).count();
    Some(Closed { properties: names().count(), optional })
}
