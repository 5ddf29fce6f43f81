//! The Genfile's JSON Schema, for editors, from the table that Genfiles are checked against.

use serde_json::{Map, Value, json};

use super::language::{Field, Form, TOP};

/// The JSON Schema (draft 2020-12) of a Genfile.
pub fn schema() -> Value {
    let mut schema = keys(TOP);
    let mut head = Map::new();
    head.insert("$schema".to_owned(), "https://json-schema.org/draft/2020-12/schema".into());
    head.insert("title".to_owned(), "Genfile".into());
    if let Value::Object(keys) = &mut schema {
        head.append(keys);
    }
    head.into()
}

fn keys(fields: &[Field]) -> Value {
    let known = || fields.iter().filter(|field| !field.later);
    let properties: Map<String, Value> = known().map(|field| (field.name.to_owned(), property(field))).collect();
    let required: Vec<&str> = known().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
    if !required.is_empty() {
        schema["required"] = required.into();
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut schema = value(&field.form);
    schema["description"] = field.about.into();
    if let Ok(default) = serde_json::from_str::<Value>(field.default) {
        schema["default"] = default;
    }
    schema
}

fn value(form: &Form) -> Value {
    match form {
        Form::Any => json!({}),
        Form::Text => json!({"type": "string", "minLength": 1}),
        Form::Expr => json!({"type": ["string", "number"]}),
        Form::Bool => json!({"type": "boolean"}),
        Form::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
        Form::Number(least, most) => json!({"type": "number", "minimum": least, "maximum": most}),
        Form::Duration => json!({"type": ["string", "integer"]}),
        Form::Choice(now, _) => json!({"enum": now}),
        Form::List(of) => json!({"type": "array", "items": value(of)}),
        Form::Map(of) => json!({"type": "object", "additionalProperties": value(of)}),
        Form::Keys(fields) => keys(fields),
        Form::OneOf(forms) => {
            let buildable = |form: &&Form| !matches!(form, Form::Choice([], _));
            json!({"anyOf": forms.iter().filter(buildable).map(value).collect::<Vec<_>>()})
        }
    }
}
