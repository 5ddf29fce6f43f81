//! Which schemas Anthropic's structured outputs take. Pure.
//!
//! From Anthropic's guide and from requests that were refused: no object may have other properties than those named, at most 24 may
//! be left out, at most 16 places may have one of several types, nothing refers to itself, and there are no bounds of numbers,
//! lengths and lists. A schema that is none of these is asked for as the input of a tool, and the result is judged here.

use serde_json::{Map, Value};

use crate::provider::form;

const KEYWORDS: &[&str] = &[
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "properties",
    "required",
    "title",
    "type",
];

const FORMATS: &[&str] = &["date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"];

const MOST_OPTIONAL: usize = 24;
const MOST_UNIONS: usize = 16;
/// What is larger, with all that it refers to, is surely too complex.
const MOST_PLACES: usize = 2_000;

/// Whether structured outputs take this schema.
pub(super) fn takes(schema: &Value) -> bool {
    let mut walk = Walk { root: schema, optional: 0, unions: 0, places: 0, within: Vec::new() };
    schema.get("type").is_some_and(|kind| kind == "object")
        && walk.takes(schema)
        && walk.optional <= MOST_OPTIONAL
        && walk.unions <= MOST_UNIONS
}

/// How many results of such a schema structured outputs take in one answer; none where they do not take it at all.
pub(super) fn most_results(schema: &Value) -> Option<usize> {
    let mut walk = Walk { root: schema, optional: 0, unions: 0, places: 0, within: Vec::new() };
    if !walk.takes(schema) {
        return None;
    }
    // The answer's object, and the one that holds the results.
    let places = form::holds(MOST_PLACES, 2, walk.places)?;
    Some(places.min(form::holds(MOST_OPTIONAL, 0, walk.optional)?).min(form::holds(MOST_UNIONS, 0, walk.unions)?))
}

struct Walk<'a> {
    root: &'a Value,
    optional: usize,
    unions: usize,
    places: usize,
    /// What is being followed.
    within: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn takes(&mut self, schema: &'a Value) -> bool {
        let Value::Object(schema) = schema else { return false };
        self.places += 1;
        if self.places > MOST_PLACES || schema.keys().any(|key| !KEYWORDS.contains(&key.as_str())) {
            return false;
        }
        self.unions += usize::from(schema.contains_key("anyOf") || schema.get("type").is_some_and(Value::is_array));
        let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
        let values = |key: &str| schema.get(key).and_then(Value::as_array).into_iter().flatten();
        let format = schema.get("format").is_none_or(|format| FORMATS.iter().any(|known| format == known));
        form::says_something(schema)
            && format
            && values("enum").chain(schema.get("const")).all(is_scalar)
            && (!form::is_object(schema) || self.closed(schema))
            && schema.get("$ref").is_none_or(|name| self.follows(name))
            && ["properties", "$defs"].iter().all(|key| {
                let of = schema.get(*key).and_then(Value::as_object);
                of.into_iter().flat_map(Map::values).all(|schema| self.takes(schema))
            })
            && values("anyOf").chain(schema.get("items")).all(|schema| self.takes(schema))
    }

    /// What a reference names, if it does not lead back to itself.
    fn follows(&mut self, name: &'a Value) -> bool {
        let Some(pointer) = name.as_str().and_then(|name| name.strip_prefix('#')) else { return false };
        let Some(named) = self.root.pointer(pointer).filter(|_| !self.within.contains(&pointer)) else { return false };
        self.within.push(pointer);
        let takes = !pointer.is_empty() && self.takes(named);
        self.within.pop();
        takes
    }

    /// No properties but those named; counts those that can be left out.
    fn closed(&mut self, schema: &Map<String, Value>) -> bool {
        let closed = form::closed(schema);
        self.optional += closed.as_ref().map_or(0, |closed| closed.optional);
        closed.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A closed object with these properties, of which the first so many are required.
    fn object(properties: Vec<Value>, required: usize) -> Value {
        let properties: Map<String, Value> =
            properties.into_iter().enumerate().map(|(i, property)| (format!("p{i}"), property)).collect();
        let required: Vec<&String> = properties.keys().take(required).collect();
        json!({"type": "object", "additionalProperties": false, "required": required, "properties": properties})
    }

    #[test]
    fn what_is_taken() {
        let text = json!({"type": "string", "format": "date", "description": "a day"});
        assert!(takes(&object(vec![text.clone(), json!({"enum": ["a", 1, null]}), json!({"const": 2})], 3)));
        assert!(takes(&object(vec![json!({"type": "array", "items": object(vec![text], 1)})], 1)));
        assert!(takes(&object(vec![], 0)));
    }

    #[test]
    fn what_was_refused() {
        let of = |property: Value| takes(&object(vec![property], 1));
        for property in [
            json!({"type": "object", "properties": {}}),
            json!({"type": "object", "additionalProperties": true}),
            json!({"type": "string", "minLength": 1}),
            json!({"type": "string", "format": "regex"}),
            json!({"type": "string", "pattern": "a"}),
            json!({"type": "integer", "minimum": 1}),
            json!({"type": "array", "items": {"type": "string"}, "maxItems": 3}),
            json!({"enum": [["a"]]}),
            json!({"oneOf": [{"type": "string"}]}),
            json!({"$ref": "other.json"}),
            json!({}),
            json!(true),
        ] {
            assert!(!of(property.clone()), "{property}");
        }
        assert!(!takes(&json!({"type": "array", "items": {"type": "string"}})));
        assert!(!takes(&json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})));
    }

    #[test]
    fn so_many_may_be_left_out_or_of_several_types() {
        let text = || json!({"type": "string"});
        assert!(takes(&object(vec![text(); 30], 6)));
        assert!(!takes(&object(vec![text(); 30], 5)));
        let either = || json!({"type": ["string", "null"]});
        let any = || json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        assert!(takes(&object([vec![either(); 8], vec![any(); 8]].concat(), 16)));
        assert!(!takes(&object([vec![either(); 9], vec![any(); 8]].concat(), 17)));
    }

    #[test]
    fn so_many_results_are_taken_at_once() {
        let text = || json!({"type": "string"});
        let most = |optional: usize, unions: usize, more: usize| {
            let union = json!({"type": ["string", "null"]});
            let properties = [vec![union; unions], vec![text(); optional + more]].concat();
            let schema = object(properties, unions + more);
            let most = most_results(&schema);
            // As many are taken, and no more.
            let batch = |results| object(vec![object(vec![schema.clone(); results], results)], 1);
            assert!(most.is_none_or(|most| takes(&batch(most)) && !takes(&batch(most + 1))), "{most:?}");
            most
        };
        assert_eq!([most(5, 0, 0), most(24, 0, 3), most(25, 0, 0)], [Some(4), Some(1), None]);
        assert_eq!([most(1, 3, 0), most(5, 3, 0), most(0, 17, 0)], [Some(5), Some(4), None]);
        assert_eq!([most(0, 0, 9), most(0, 0, 1998)], [Some(199), None]);
        assert_eq!(most_results(&text()), Some(1998));
        assert_eq!(most_results(&json!({"type": "string", "minLength": 1})), None);
    }

    #[test]
    fn references_are_followed_unless_they_come_back() {
        let with = |def: Value| {
            let mut schema = object(vec![json!({"$ref": "#/$defs/d"}), json!({"$ref": "#/$defs/d"})], 2);
            schema["$defs"] = json!({"d": def});
            takes(&schema)
        };
        assert!(with(object(vec![json!({"type": "string"})], 1)));
        assert!(!with(object(vec![json!({"$ref": "#/$defs/d"})], 1)));
        assert!(!with(json!({"$ref": "#"})));
        assert!(!with(json!({"type": "string", "minLength": 1})));
        assert!(!takes(&object(vec![json!({"$ref": "#/$defs/none"})], 1)));
    }
}
