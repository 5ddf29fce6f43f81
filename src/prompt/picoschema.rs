//! Picoschema, Dotprompt's short form of a schema, into JSON Schema. Pure.
//!
//! The form is described at <https://google.github.io/dotprompt/reference/picoschema/>: `field?: string, what it is`,
//! `list(array): number`, `(*): any`. What is JSON Schema already stays as it is.

use serde_json::{Map, Value, json};

/// What is wrong with a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PicoError {
    /// The keys that lead to it.
    pub path: Vec<String>,
    /// In words.
    pub message: String,
}

const SCALARS: &[&str] = &["any", "boolean", "integer", "null", "number", "string"];

/// Keys of JSON Schema that no field of a Picoschema can be taken for, as their values are no types.
const KEYWORDS: &[&str] = &["allOf", "anyOf", "enum", "oneOf", "required", "type"];

/// The JSON Schema of a schema in either form. `named` are schemas that it may use by name.
///
/// # Errors
/// The first thing that is no Picoschema.
pub(super) fn json_schema(schema: &Value, named: &Map<String, Value>) -> Result<Value, PicoError> {
    match schema {
        Value::Object(map) if is_json_schema(map) => {
            let mut schema = map.clone();
            if !map.contains_key("type") && map.get("properties").is_some_and(Value::is_object) {
                schema.insert("type".to_owned(), "object".into());
            }
            Ok(schema.into())
        }
        _ => Pico { named, path: Vec::new() }.schema(schema),
    }
}

fn is_json_schema(map: &Map<String, Value>) -> bool {
    let is_type = |value: &Value| {
        value.as_str().is_some_and(|name| SCALARS.contains(&name) || matches!(name, "object" | "array"))
    };
    map.get("type").is_some_and(is_type)
        || map.get("properties").is_some_and(Value::is_object)
        || map.keys().any(|key| key.starts_with('$'))
        || KEYWORDS.iter().any(|key| map.get(*key).is_some_and(Value::is_array))
}

struct Pico<'a> {
    named: &'a Map<String, Value>,
    path: Vec<String>,
}

impl Pico<'_> {
    fn wrong<T>(&self, message: String) -> Result<T, PicoError> {
        Err(PicoError { path: self.path.clone(), message })
    }

    fn schema(&mut self, schema: &Value) -> Result<Value, PicoError> {
        match schema {
            Value::String(text) => self.scalar(text),
            Value::Null => Ok(json!({"type": "null"})),
            Value::Object(map) => self.object(map),
            other => self.wrong(format!("a schema is a type's name or a map of fields, not {other}")),
        }
    }

    fn scalar(&self, text: &str) -> Result<Value, PicoError> {
        let (name, description) = described(text);
        let mut schema = match name {
            "any" => Map::new(),
            name if SCALARS.contains(&name) => Map::from_iter([("type".to_owned(), name.into())]),
            name => match self.named.get(name) {
                Some(Value::Object(schema)) => schema.clone(),
                _ => {
                    let names = SCALARS.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                    return self.wrong(format!("unknown type `{name}`; there is {names}"));
                }
            },
        };
        if let Some(description) = description {
            schema.insert("description".to_owned(), description.into());
        }
        Ok(schema.into())
    }

    fn object(&mut self, fields: &Map<String, Value>) -> Result<Value, PicoError> {
        let mut properties = Map::new();
        let mut required = Vec::new();
        let mut others = Value::Bool(false);
        for (key, value) in fields {
            self.path.push(key.clone());
            if key == "(*)" {
                others = self.schema(value)?;
            } else {
                let (name, is_optional, form) = field(key);
                properties.insert(name.to_owned(), self.property(form, value, is_optional)?);
                if !is_optional {
                    required.push(Value::from(name));
                }
            }
            self.path.pop();
        }
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = required.into();
        }
        schema["additionalProperties"] = others;
        Ok(schema)
    }

    fn property(&mut self, form: Option<&str>, value: &Value, is_optional: bool) -> Result<Value, PicoError> {
        let Some(form) = form else {
            let mut property = self.schema(value)?;
            or_null(&mut property, is_optional);
            return Ok(property);
        };
        let (form, description) = described(form);
        let mut property = match form {
            "array" => json!({"type": "array", "items": self.schema(value)?}),
            "object" => self.schema(value)?,
            "enum" => match value {
                Value::Array(values) => {
                    let mut values = values.clone();
                    if is_optional && !values.contains(&Value::Null) {
                        values.push(Value::Null);
                    }
                    json!({"enum": values})
                }
                other => return self.wrong(format!("an enum takes a list of values, not {other}")),
            },
            other => return self.wrong(format!("in parentheses stands `array`, `object` or `enum`, not `{other}`")),
        };
        or_null(&mut property, is_optional);
        if let Some(description) = description {
            property["description"] = description.into();
        }
        Ok(property)
    }
}

/// What is optional may also be null.
fn or_null(property: &mut Value, is_optional: bool) {
    if let Some(name) = property.get("type").and_then(Value::as_str).map(str::to_owned)
        && is_optional
    {
        property["type"] = json!([name, "null"]);
    }
}

/// A field's name, whether it is optional, and what stands in parentheses after it.
pub(super) fn field(key: &str) -> (&str, bool, Option<&str>) {
    let (name, form) = match key.split_once('(') {
        Some((name, form)) => (name, Some(form.strip_suffix(')').unwrap_or(form))),
        None => (key, None),
    };
    match name.strip_suffix('?') {
        Some(name) => (name, true, form),
        None => (name, false, form),
    }
}

/// A type and the description after the comma.
fn described(text: &str) -> (&str, Option<&str>) {
    match text.split_once(',') {
        Some((name, description)) => (name.trim(), Some(description.trim_start())),
        None => (text.trim(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn schema(text: &str) -> Result<Value, PicoError> {
        let named = json!({"Price": {"type": "number", "description": "in cents"}});
        json_schema(&yaml::data(text).unwrap(), named.as_object().unwrap())
    }

    #[test]
    fn each_form() {
        for (pico, want) in [
            ("string", json!({"type": "string"})),
            ("integer,  how many, at most", json!({"type": "integer", "description": "how many, at most"})),
            ("any", json!({})),
            ("Price, of all", json!({"type": "number", "description": "of all"})),
            (
                "{a: string, b?: integer}",
                json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties":
                    {"a": {"type": "string"}, "b": {"type": ["integer", "null"]}}}),
            ),
            (
                "tags?(array, words): string, a word",
                json!({"type": "object", "additionalProperties": false, "properties": {"tags":
                    {"type": ["array", "null"], "description": "words", "items": {"type": "string", "description": "a word"}}}}),
            ),
            (
                "o?(object, inner):\n  x: Price",
                json!({"type": "object", "additionalProperties": false, "properties": {"o": {"type": ["object", "null"],
                    "description": "inner", "additionalProperties": false, "required": ["x"],
                    "properties": {"x": {"type": "number", "description": "in cents"}}}}}),
            ),
            (
                "{\"e?(enum)\": [A, 2], n: null}",
                json!({"type": "object", "additionalProperties": false, "required": ["n"],
                    "properties": {"e": {"enum": ["A", 2, null]}, "n": {"type": "null"}}}),
            ),
            ("(*): number", json!({"type": "object", "properties": {}, "additionalProperties": {"type": "number"}})),
        ] {
            assert_eq!(schema(pico).unwrap(), want, "{pico}");
        }
    }

    #[test]
    fn json_schema_stays_as_it_is() {
        for text in ["{type: array, items: {type: string}}", "{$ref: '#/x'}", "{anyOf: [{type: string}]}"] {
            assert_eq!(schema(text).unwrap(), yaml::data(text).unwrap());
        }
        assert_eq!(
            schema("{properties: {a: {type: string}}}").unwrap(),
            json!({"type": "object", "properties": {"a": {"type": "string"}}})
        );
        // A field may have any name.
        assert_eq!(schema("{type: Price}").unwrap()["properties"]["type"]["type"], "number");
    }

    #[test]
    fn mistakes_are_named_where_they_are() {
        let wrong = |text: &str| schema(text).map_err(|e| (e.path.join("/"), e.message)).unwrap_err();
        assert_eq!(wrong("{a: {b: strng}}").0, "a/b");
        assert!(wrong("{a: strng}").1.starts_with("unknown type `strng`; there is `any`"));
        assert!(wrong("{a: 5}").1.contains("not 5"));
        assert!(wrong("{'a(list)': string}").1.contains("not `list`"));
        assert!(wrong("{'a(enum)': string}").1.contains("list of values"));
    }
}
