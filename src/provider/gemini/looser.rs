//! A schema as Gemini takes it: what it does not know is left out, so that it allows more and never less. Pure.
//!
//! From Google's reference of `responseJsonSchema`, and from requests that were refused: these keywords only, beside `$ref` none
//! that does not start with `$`, references below `#/$defs/` alone; and bounds that come to too much in all are refused with words
//! that name nothing. Results are held against the whole schema here.

use serde_json::{Map, Value, json};

/// Keywords that are sent as they are.
const KEYWORDS: &[&str] = &[
    "$anchor",
    "$id",
    "$ref",
    "description",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "propertyOrdering",
    "required",
    "title",
    "type",
];

/// Those of them that bound a value.
const BOUNDS: &[&str] = &["format", "maxItems", "maximum", "minItems", "minimum"];

/// Forms of strings that are known; those of numbers are, too.
const FORMATS: &[&str] = &["date", "date-time", "time", "int32", "int64", "float", "double"];

/// Deeper ones go without.
const MOST_LEVELS: usize = 64;

/// The schema as it is sent; none where nothing of it can be.
pub(super) fn looser(schema: &Value) -> Option<Value> {
    let sent = looser_at(schema, 0)?;
    refers_to_definitions(&sent).then_some(sent)
}

/// The same without bounds of numbers, lists and strings.
pub(super) fn without_bounds(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let kept = map.iter().filter(|(key, value)| !BOUNDS.contains(&key.as_str()) || value.is_object());
            Value::Object(kept.map(|(key, value)| (key.clone(), without_bounds(value))).collect())
        }
        Value::Array(values) => values.iter().map(without_bounds).collect(),
        value => value.clone(),
    }
}

fn looser_at(schema: &Value, level: usize) -> Option<Value> {
    let Value::Object(schema) = schema else {
        // `true` allows all; what allows nothing cannot be said.
        return (schema == &Value::Bool(true)).then(|| json!({}));
    };
    if level > MOST_LEVELS {
        return None;
    }
    let below = |schema: &Value| looser_at(schema, level + 1);
    let all = |schemas: &Map<String, Value>| -> Option<Value> {
        let pairs = schemas.iter().map(|(name, schema)| Some((name.clone(), below(schema)?)));
        pairs.collect::<Option<Map<String, Value>>>().map(Value::Object)
    };
    let list = |schemas: &Vec<Value>| schemas.iter().map(below).collect::<Option<Vec<Value>>>().map(Value::Array);
    let mut sent = Map::new();
    for (key, value) in schema {
        if schema.contains_key("$ref") && !key.starts_with('$') {
            continue;
        }
        let value = match (key.as_str(), value) {
            ("properties" | "$defs", Value::Object(schemas)) => Some(all(schemas)?),
            ("anyOf" | "oneOf" | "prefixItems", Value::Array(schemas)) => Some(list(schemas)?),
            ("items", value @ Value::Object(_)) => Some(below(value)?),
            // Names that a pattern allows would not be allowed any more.
            ("additionalProperties", _) if schema.contains_key("patternProperties") => None,
            ("additionalProperties", value @ Value::Object(_)) => Some(below(value)?),
            ("additionalProperties", Value::Bool(_)) => Some(value.clone()),
            ("enum", Value::Array(values)) if values.iter().all(is_word) => Some(value.clone()),
            ("const", value) if is_word(value) => Some(json!([value])),
            ("format", Value::String(format)) if FORMATS.contains(&format.as_str()) => Some(value.clone()),
            (key, value) if KEYWORDS.contains(&key) => Some(value.clone()),
            _ => None,
        };
        if let Some(value) = value {
            sent.insert(if key == "const" { "enum".to_owned() } else { key.clone() }, value);
        }
    }
    Some(Value::Object(sent))
}

/// What can stand in an `enum`.
fn is_word(value: &Value) -> bool {
    value.is_string() || value.is_number()
}

/// Whether all references are to what stands in `$defs` at the root.
fn refers_to_definitions(root: &Value) -> bool {
    fn each(schema: &Value, root: &Value) -> bool {
        match schema {
            Value::Object(map) => map.iter().all(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(name)) => {
                    let pointer = name.strip_prefix('#').filter(|pointer| pointer.starts_with("/$defs/"));
                    pointer.is_some_and(|pointer| root.pointer(pointer).is_some())
                }
                (_, value) => each(value, root),
            }),
            Value::Array(values) => values.iter().all(|value| each(value, root)),
            _ => true,
        }
    }
    each(root, root)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent of a property.
    fn sent(property: Value) -> Option<Value> {
        looser(&json!({"type": "object", "properties": {"p": property}})).map(|sent| sent["properties"]["p"].clone())
    }

    #[test]
    fn what_it_knows_is_sent_as_it_is() {
        for property in [
            json!({"type": ["string", "null"], "title": "t", "description": "d", "format": "date-time"}),
            json!({"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "minItems": 1, "maxItems": 3}),
            json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "number"}]}),
            json!({"anyOf": [{"type": "string"}, {"enum": ["a", 1]}]}),
            json!({"oneOf": [{"type": "string"}, {"type": "null"}]}),
            json!({"type": "object", "properties": {"a": {}}, "required": ["a"], "additionalProperties": false, "propertyOrdering": ["a"]}),
            json!({"type": "object", "additionalProperties": {"type": "string"}}),
            json!({"$id": "i", "$anchor": "a", "type": "string"}),
        ] {
            assert_eq!(sent(property.clone()), Some(property));
        }
        let names = ["pattern", "minLength", "maxItems", "format", "const"];
        let properties: Map<String, Value> =
            names.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        let schema = json!({"type": "object", "properties": properties});
        assert_eq!(looser(&schema), Some(schema.clone()), "names of properties are no keywords");
        assert_eq!(without_bounds(&schema), schema);
    }

    #[test]
    fn what_it_does_not_know_is_left_out() {
        let text = || json!({"type": "string"});
        for (key, value) in [
            ("pattern", json!("^a")),
            ("minLength", json!(1)),
            ("maxLength", json!(9)),
            ("format", json!("email")),
            ("exclusiveMinimum", json!(0)),
            ("multipleOf", json!(2)),
            ("uniqueItems", json!(true)),
            ("default", json!("a")),
            ("examples", json!(["a"])),
            ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
            ("$comment", json!("c")),
            ("allOf", json!([{"minLength": 1}])),
            ("not", json!({"const": "x"})),
            ("if", json!({})),
            ("enum", json!(["a", null])),
            ("const", json!(null)),
        ] {
            let mut property = text();
            property[key] = value;
            assert_eq!(sent(property), Some(text()), "{key}");
        }
        assert_eq!(sent(json!({"const": "a"})), Some(json!({"enum": ["a"]})));
        assert_eq!(sent(json!(true)), Some(json!({})));
        assert_eq!(sent(json!(false)), None);
        // Never less is allowed than before.
        let named = json!({"type": "object", "patternProperties": {"^x": {}}, "additionalProperties": false});
        assert_eq!(sent(named), Some(json!({"type": "object"})));
        let mut deep = text();
        for _ in 0..70 {
            deep = json!({"type": "array", "items": deep});
        }
        assert_eq!(sent(deep), None);
    }

    #[test]
    fn references_are_to_definitions() {
        let with = |name: &str| {
            let property = json!({"$ref": name, "description": "d", "minLength": 1});
            looser(
                &json!({"type": "object", "properties": {"p": property}, "$defs": {"d": {"type": "string", "pattern": "a"}}}),
            )
        };
        let sent = with("#/$defs/d").unwrap();
        assert_eq!(sent["properties"]["p"], json!({"$ref": "#/$defs/d"}));
        assert_eq!(sent["$defs"]["d"], json!({"type": "string"}));
        for name in ["#", "#/definitions/d", "#/$defs/e", "other.json", "#d"] {
            assert_eq!(with(name), None, "{name}");
        }
    }

    #[test]
    fn bounds_can_be_left_out() {
        let schema = json!({"type": "array", "maxItems": 9, "minItems": 1, "items": {"anyOf": [{"type": "integer", "minimum": 1,
            "maximum": 2}, {"type": "string", "format": "date", "enum": ["a"]}]}});
        let want =
            json!({"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string", "enum": ["a"]}]}});
        assert_eq!(without_bounds(&schema), want);
    }
}
