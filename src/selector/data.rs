//! Data files: text into values, by the file's extension.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Code, Error, Place, Source};
use crate::files::Files;
use crate::path::RelPath;
use crate::yaml;

/// Parsed data files by content, so that ten thousand tasks over one file parse it once.
#[derive(Default)]
pub struct DataCache(Mutex<HashMap<(RelPath, Digest), Arc<Value>>>);

impl DataCache {
    /// The value of a data file, `None` if there is no file of that name.
    ///
    /// # Errors
    /// As [`Files::text`] and [`parse`].
    pub fn get(&self, files: &dyn Files, path: &RelPath) -> Result<Option<Arc<Value>>, Error> {
        let Some(digest) = files.digest(path)? else { return Ok(None) };
        let key = (path.clone(), digest);
        if let Some(value) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Some(Arc::clone(value)));
        }
        let Some(text) = files.text(path)? else { return Ok(None) };
        let value = Arc::new(parse(path, &text)?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&value));
        Ok(Some(value))
    }
}

/// Whether a file of this name is read as data.
pub fn is_data(path: &RelPath) -> bool {
    matches!(path.ext(), "yaml" | "yml" | "json" | "toml")
}

/// Reads a data file. Maps keep the order of the file.
///
/// # Errors
/// [`Code::Unreadable`], pointing at the mistake; also for a file whose extension names no data.
pub fn parse(path: &RelPath, text: &str) -> Result<Value, Error> {
    let wrong = |what: String, at: std::ops::Range<usize>| {
        let place = Place { source: Source::new(path.as_str(), text), span: at };
        Error::new(Code::Unreadable, what).at(place)
    };
    match path.ext() {
        "yaml" | "yml" => yaml::data(text).map_err(|e| wrong(format!("`{path}` is not YAML: {}", e.message), e.span)),
        "json" => serde_json::from_str(text).map_err(|e| {
            let at = Source { name: String::new(), text: text.to_owned() }.offset(e.line(), e.column());
            // The place that the library puts at the end of its words is the diagnostic's to show.
            let what = e.to_string();
            let what = what.trim_end_matches(&format!(" at line {} column {}", e.line(), e.column()));
            wrong(format!("`{path}` is not JSON: {what}"), at..at)
        }),
        "toml" => toml::from_str(text).map_err(|e: toml::de::Error| {
            wrong(format!("`{path}` is not TOML: {}", e.message()), e.span().unwrap_or(0..0))
        }),
        _ => Err(Error::new(Code::Unreadable, format!("`{path}` is no data file"))
            .hint("data files end in .yaml, .yml, .json or .toml")),
    }
}

/// A value as the text of a data file: YAML or TOML by the extension, else JSON over lines. A string is its own text.
pub fn write(path: &RelPath, value: &Value) -> String {
    let json = || serde_json::to_string_pretty(value).map(|text| text + "\n").unwrap_or_default();
    match (path.ext(), value) {
        (_, Value::String(text)) => text.clone(),
        ("yaml" | "yml", _) => yaml::write(value),
        // TOML has maps at the top only, and no null.
        ("toml", _) => toml::to_string(value).unwrap_or_else(|_| json()),
        _ => json(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn three_formats_one_value() {
        let parse = |name: &str, text: &str| super::parse(&RelPath::new(name).unwrap(), text);
        let want = json!({"b": {"x": [1, "two"]}, "a": true});
        assert_eq!(parse("f.yaml", "b: {x: [1, two]}\na: true\n").unwrap(), want);
        assert_eq!(parse("f.json", r#"{"b": {"x": [1, "two"]}, "a": true}"#).unwrap(), want);
        assert_eq!(
            parse("f.toml", "a = true\n[b]\nx = [1, \"two\"]\n").unwrap(),
            json!({"a": true, "b": {"x": [1, "two"]}})
        );
        let error = parse("f.json", "{\n  \"a\": }").unwrap_err();
        assert_eq!(error.to_string(), "f.json:2:8: `f.json` is not JSON: expected value");
        assert!(parse("f.toml", "a = ").unwrap_err().place.is_some());
        assert!(parse("f.yaml", "a: [").unwrap_err().place.is_some());
        assert!(parse("f.md", "").unwrap_err().message.contains("no data file"));
    }

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let value = json!({"a": [1, "x: y"], "b": {"c": true}});
        for name in ["f.json", "f.yaml", "f.toml"] {
            let path = RelPath::new(name).unwrap();
            assert_eq!(parse(&path, &write(&path, &value)).unwrap(), value, "{name}");
        }
        assert_eq!(write(&RelPath::new("f.txt").unwrap(), &json!("as it is")), "as it is");
        assert_eq!(write(&RelPath::new("f.txt").unwrap(), &json!([1])), "[\n  1\n]\n");
    }
}
