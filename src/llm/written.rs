//! A result that is data, as the text that its output holds.

use serde_json::Value;

use crate::path::RelPath;
use crate::selector::parse_data;

/// The value that such a text holds.
///
/// # Errors
/// Why it holds none.
pub(super) fn read(path: &RelPath, text: &str) -> Result<Value, String> {
    match path.ext() {
        "yaml" | "yml" | "toml" => parse_data(path, text).map_err(|e| e.message),
        _ => serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::write_data as write;
    use serde_json::json;

    #[test]
    fn a_value_survives_each_form() {
        let value =
            json!({"b": "yes", "a": [1, 2.5, true], "m": {"x": "1", "é": "a\nb\n"}, "d": "2024-01-01", "s": " # "});
        for name in ["a.json", "a.yaml", "a.yml", "a.toml", "a.txt", "a"] {
            let path = RelPath::new(name).unwrap();
            let text = write(&path, &value);
            assert!(text.ends_with('\n'));
            assert_eq!(read(&path, &text).unwrap(), value, "{name}: {text}");
        }
        let path = RelPath::new("a.toml").unwrap();
        assert!(read(&path, &write(&path, &json!({"a": null}))).unwrap_err().contains("not TOML"));
        assert_eq!(write(&RelPath::new("a.json").unwrap(), &json!({"a": []})), "{\n  \"a\": []\n}\n");
    }
}
