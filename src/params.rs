//! Sampling parameters: the names that rules and prompt files may set, with the types of their values.

use serde_json::Value;

use crate::error::{Code, Error, did_you_mean};

const PARAMS: &[&str] = &[
    "temperature",
    "top_p",
    "top_k",
    "seed",
    "max_output_tokens",
    "stop",
    "frequency_penalty",
    "presence_penalty",
    "reasoning_effort",
];

/// One sampling parameter by our name and with a value of its type, or what is wrong with it, without a place.
/// Dotprompt's spellings (`maxOutputTokens`) are understood.
///
/// # Errors
/// [`Code::UnknownKey`] or [`Code::BadValue`].
pub fn read(name: &str, value: &Value) -> Result<(String, Value), Error> {
    let ours = match name {
        "maxOutputTokens" => "max_output_tokens",
        "topP" => "top_p",
        "topK" => "top_k",
        "stopSequences" => "stop",
        name => name,
    };
    if !PARAMS.contains(&ours) {
        let near =
            did_you_mean(name, PARAMS.iter().copied()).unwrap_or_else(|| format!("there is `{}`", PARAMS.join("`, `")));
        return Err(Error::new(Code::UnknownKey, format!("unknown parameter `{name}`")).hint(near));
    }
    let (fits, wanted) = match ours {
        "max_output_tokens" => (value.as_u64().is_some_and(|n| n > 0), "a number of tokens, at least 1"),
        "seed" => (value.is_i64() || value.is_u64(), "a whole number"),
        "top_k" => (value.as_u64().is_some(), "a whole number"),
        "stop" => (is_stop(value), "a string or a list of strings"),
        "reasoning_effort" => (value.is_string(), "a string"),
        _ => (value.is_number(), "a number"),
    };
    if !fits {
        return Err(Error::new(Code::BadValue, format!("`{name}` is {wanted}, not {value}")));
    }
    Ok((ours.to_owned(), value.clone()))
}

fn is_stop(value: &Value) -> bool {
    value.as_array().map_or(value.is_string(), |list| list.iter().all(Value::is_string))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn stop_is_texts() {
        assert!(read("stop", &json!("x")).is_ok() && read("stopSequences", &json!(["x", "y"])).is_ok());
        assert!(read("stop", &json!(1)).is_err() && read("stop", &json!(["x", 1])).is_err());
    }
}
