//! JSON Schema: compiled once, and what a value has against it. The only module that names the library.
//!
//! Nothing is fetched: a schema speaks of itself alone. Without the feature `schema` nothing passes one: what cannot be judged has not
//! passed.

use std::fmt;

use serde_json::Value;

/// A compiled schema.
pub struct Schema {
    value: Value,
    #[cfg(feature = "schema")]
    validator: jsonschema::Validator,
}

impl Schema {
    /// Compiles a schema.
    ///
    /// # Errors
    /// Why it is no schema, in words; or that this genmake was built without schemas.
    #[cfg(feature = "schema")]
    pub fn new(value: Value) -> Result<Schema, String> {
        let validator = jsonschema::options().offline().build(&value).map_err(|e| {
            let at = e.instance_path().to_string();
            if at.is_empty() { e.to_string() } else { format!("at `{at}`: {e}") }
        })?;
        Ok(Schema { value, validator })
    }

    /// Keeps a schema as it is: this genmake was built without the feature `schema`.
    ///
    /// # Errors
    /// Never.
    #[cfg(not(feature = "schema"))]
    pub fn new(value: Value) -> Result<Schema, String> {
        Ok(Schema { value })
    }

    /// The schema as it was given.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Judges a value.
    ///
    /// # Errors
    /// All that it has against it, each with its JSON pointer.
    #[cfg(feature = "schema")]
    pub fn check(&self, value: &Value) -> Result<(), String> {
        const SHOWN: usize = 8;
        let mut found: Vec<String> = Vec::new();
        let mut more = 0;
        for error in self.validator.iter_errors(value) {
            let at = error.instance_path().to_string();
            let at = if at.is_empty() { "the whole".to_owned() } else { format!("`{at}`") };
            if found.len() < SHOWN { found.push(format!("{at}: {error}")) } else { more += 1 }
        }
        if more > 0 {
            found.push(format!("and {more} more"));
        }
        if found.is_empty() { Ok(()) } else { Err(found.join("; ")) }
    }

    /// Judges nothing: this genmake was built without the feature `schema`.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(feature = "schema"))]
    pub fn check(&self, _: &Value) -> Result<(), String> {
        Err("it cannot be judged: this genmake was built without the feature `schema`".to_owned())
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Schema({})", self.value)
    }
}

impl PartialEq for Schema {
    fn eq(&self, other: &Schema) -> bool {
        self.value == other.value
    }
}

#[cfg(all(test, feature = "schema"))]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_is_named_with_its_pointer() {
        let schema = Schema::new(json!({
            "type": "object", "required": ["name"],
            "properties": {"name": {"type": "string"}, "list": {"items": {"type": "integer"}}},
        }))
        .unwrap();
        assert_eq!(schema.check(&json!({"name": "a", "list": [1]})), Ok(()));
        let wrong = schema.check(&json!({"list": [1, "x"]})).unwrap_err();
        assert!(wrong.contains("the whole: \"name\" is a required property"), "{wrong}");
        assert!(wrong.contains("`/list/1`: \"x\" is not of type \"integer\""), "{wrong}");
        let wrong = schema.check(&json!({"name": "a", "list": vec!["x"; 20]})).unwrap_err();
        assert!(wrong.ends_with("; and 12 more"), "{wrong}");
    }

    #[test]
    fn what_is_no_schema_is_refused_and_nothing_is_fetched() {
        assert!(Schema::new(json!({"type": "strng"})).is_err());
        assert!(Schema::new(json!({"$ref": "http://127.0.0.1:1/x.json"})).is_err());
        assert!(Schema::new(json!({"$ref": "file:///etc/hostname"})).is_err());
    }
}
