//! Data files: text into values, by the file's extension.

use std::ops::Range;

use serde_json::{Map, Value};

use super::Keys;
use crate::error::{Code, Error, Place, Source, offset};
use crate::path::RelPath;
use crate::yaml;

/// What to do about a file that is no data.
pub(super) const HINT: &str = "data files end in .yaml, .yml, .json, .jsonl, .ndjson, .toml, .csv or .tsv";

/// Whether a file of this name is read as data.
pub fn is_data(path: &RelPath) -> bool {
    matches!(path.ext(), "yaml" | "yml" | "json" | "jsonl" | "ndjson" | "toml" | "csv" | "tsv")
}

/// Reads a data file. Maps keep the order of the file. Of JSONL it gives the list of its values; of CSV and TSV the list of its
/// rows, each a map of texts by the header's names.
///
/// # Errors
/// [`Code::Unreadable`], pointing at the mistake; also for a file whose extension names no data.
pub fn parse(path: &RelPath, text: &str) -> Result<Value, Error> {
    // Some editors write a byte order mark; to the JSON library it is no space.
    let body = text.trim_start_matches('\u{feff}');
    let mark = text.len() - body.len();
    let wrong = |what: String, at: std::ops::Range<usize>| {
        let place = Place { source: Source::new(path.as_str(), text), span: at };
        Error::new(Code::Unreadable, what).at(place)
    };
    match path.ext() {
        "yaml" | "yml" => yaml::data(text).map_err(|e| wrong(format!("`{path}` is not YAML: {}", e.message), e.span)),
        "json" => serde_json::from_str(body).map_err(|e| {
            let at = mark + offset(body, e.line(), e.column());
            // The place that the library puts at the end of its words is the diagnostic's to show.
            let what = e.to_string();
            let what = what.trim_end_matches(&format!(" at line {} column {}", e.line(), e.column()));
            wrong(format!("`{path}` is not JSON: {what}"), at..at)
        }),
        "toml" => {
            let mut value = of_toml(text).map_err(|(e, at)| wrong(format!("`{path}` {e}"), at))?;
            match plain(&mut value) {
                true => Ok(value),
                false => Err(wrong(format!("`{path}` holds `inf` or `nan`, which data cannot be"), 0..0)),
            }
        }
        "jsonl" | "ndjson" => {
            let wrong = |(e, at)| wrong(format!("`{path}` is not JSON, line by line: {e}"), mark + at..mark + at);
            lines(body).map_err(wrong)
        }
        "csv" => table(text, b',').map_err(|(e, at)| wrong(format!("`{path}` is not CSV: {e}"), at..at)),
        "tsv" => table(text, b'\t').map_err(|(e, at)| wrong(format!("`{path}` is not TSV: {e}"), at..at)),
        _ => Err(Error::new(Code::Unreadable, format!("`{path}` is no data file")).hint(HINT)),
    }
}

/// A value, or what is wrong and where.
#[cfg(feature = "toml")]
fn of_toml(text: &str) -> Result<Value, (String, Range<usize>)> {
    toml::from_str(text)
        .map_err(|e: toml::de::Error| (format!("is not TOML: {}", e.message()), e.span().unwrap_or(0..0)))
}

/// This build was made without the feature `toml`.
#[cfg(not(feature = "toml"))]
fn of_toml(_: &str) -> Result<Value, (String, Range<usize>)> {
    Err(("cannot be read: this build of genmake reads no TOML (the feature `toml` is off)".to_owned(), 0..0))
}

/// The text of a value; `None` of what TOML cannot hold.
#[cfg(feature = "toml")]
fn to_toml(value: &Value) -> Option<String> {
    toml::to_string(value).ok()
}

/// This build was made without the feature `toml`.
#[cfg(not(feature = "toml"))]
fn to_toml(_: &Value) -> Option<String> {
    None
}

/// A value as the text of a data file: YAML and TOML by the extension, any other as JSON with two spaces. What TOML cannot hold
/// stays JSON, which [`parse`] then refuses with its place.
pub fn write(path: &RelPath, value: &Value) -> String {
    let json = || format!("{value:#}\n");
    match path.ext() {
        "yaml" | "yml" => yaml::write(value),
        "toml" => to_toml(value).unwrap_or_else(json),
        _ => json(),
    }
}

/// The value of what [`write()`] wrote. All but YAML and TOML is JSON to both of them, also what [`parse`] reads as a table.
///
/// # Errors
/// Why the text holds none, in words.
pub fn read_back(path: &RelPath, text: &str) -> Result<Value, String> {
    match path.ext() {
        "yaml" | "yml" | "toml" => parse(path, text).map_err(|e| e.message),
        _ => serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}")),
    }
}

/// What the TOML library hands a date over as: a map of this one key.
const DATE: &str = "$__toml_private_datetime";

/// Makes dates texts, as they are in YAML. `false` where a number is not finite, which comes as null: TOML has none of its own.
fn plain(value: &mut Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => list.iter_mut().all(plain),
        Value::Object(map) => match map.get_mut(DATE).map(Value::take) {
            Some(date) => {
                *value = date;
                true
            }
            None => map.values_mut().all(plain),
        },
        _ => true,
    }
}

/// JSON, a value a line. An error has its place in the text.
fn lines(text: &str) -> Result<Value, (String, usize)> {
    let mut values = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let json = line.trim_end();
        if !json.is_empty() {
            values.push(serde_json::from_str(json).map_err(|e| {
                let column = offset(json, e.line(), e.column());
                // The library counts lines within the one that it was given.
                let what = e.to_string();
                (what.split(" at line ").next().unwrap_or(&what).to_owned(), start + column)
            })?);
        }
        start += line.len();
    }
    Ok(Value::Array(values))
}

/// A table with a header. An error has its place in the text.
fn table(text: &str, delimiter: u8) -> Result<Value, (String, usize)> {
    let wrong = |e: csv::Error| {
        let at = e.position().and_then(|at| usize::try_from(at.byte()).ok()).unwrap_or(0);
        // A record starts behind the line break of the one before it.
        let breaks = text[at.min(text.len())..].bytes().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        let what = match e.kind() {
            csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                format!("the row's number of fields is {len}, the header's {expected_len}")
            }
            _ => e.to_string(),
        };
        (what, at + breaks)
    };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let header = reader.headers().map_err(wrong)?.clone();
    let mut seen = Keys::default();
    if let Some(twice) = header.iter().find(|name| seen.unique(name) != **name) {
        return Err((format!("its header names `{twice}` twice"), 0));
    }
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let row: Map<String, Value> = header.iter().map(str::to_owned).zip(record.iter().map(Value::from)).collect();
        rows.push(Value::Object(row));
    }
    Ok(Value::Array(rows))
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
    fn a_byte_order_mark_is_no_part_of_a_text() {
        let parse = |name: &str, text: &str| super::parse(&RelPath::new(name).unwrap(), text);
        for (name, text, want) in [
            ("f.yaml", "\u{feff}a: 1\n", json!({"a": 1})),
            ("f.json", "\u{feff}{\"a\": 1}", json!({"a": 1})),
            ("f.toml", "\u{feff}a = 1\n", json!({"a": 1})),
            ("f.jsonl", "\u{feff}{\"a\": 1}\n", json!([{"a": 1}])),
            ("f.csv", "\u{feff}a\n1\n", json!([{"a": "1"}])),
        ] {
            assert_eq!(parse(name, text), Ok(want), "{name}");
        }
        assert_eq!(&parse("f.json", "\u{feff}[x]").unwrap_err().place.unwrap().span, &(4..4));
        assert_eq!(&parse("f.jsonl", "\u{feff}[x]").unwrap_err().place.unwrap().span, &(4..4));
    }

    #[test]
    fn toml_has_dates_and_an_order() {
        let parse = |text: &str| super::parse(&RelPath::new("f.toml").unwrap(), text);
        let value = parse("z = 2024-01-01\na = [{t = 1979-05-27T07:32:00Z}, {t = 12:00:00}]\n").unwrap();
        assert_eq!(value.to_string(), r#"{"z":"2024-01-01","a":[{"t":"1979-05-27T07:32:00Z"},{"t":"12:00:00"}]}"#);
        let error = parse("[x]\nc = -inf\n").unwrap_err().message;
        assert_eq!(error, "`f.toml` holds `inf` or `nan`, which data cannot be");
    }

    #[test]
    fn lines_of_json_are_a_list() {
        let parse = |text: &str| super::parse(&RelPath::new("f.jsonl").unwrap(), text);
        assert_eq!(parse("{\"a\": 1}\n\n[2]\r\n\"x\"").unwrap(), json!([{"a": 1}, [2], "x"]));
        assert_eq!(parse("").unwrap(), json!([]));
        assert_eq!(
            parse("{\"é\": 1}\n\n  {\"a\": }\n1\n").unwrap_err().to_string(),
            "f.jsonl:3:9: `f.jsonl` is not JSON, line by line: expected value"
        );
        assert!(parse("1\n{\"a\":\n1}\n").unwrap_err().to_string().starts_with("f.jsonl:2:"));
    }

    #[test]
    fn tables_are_lists_of_rows() {
        let parse = |name: &str, text: &str| super::parse(&RelPath::new(name).unwrap(), text);
        let want = json!([{"id": "1", "say": "a, \"b\"\nc"}, {"id": "2", "say": ""}]);
        assert_eq!(parse("f.csv", "\u{feff}id,say\r\n1,\"a, \"\"b\"\"\nc\"\r\n\r\n2,\r\n").unwrap(), want);
        assert_eq!(parse("f.tsv", "id\tsay\n1\ta, b\n").unwrap(), json!([{"id": "1", "say": "a, b"}]));
        assert_eq!(parse("f.csv", "id,say\n").unwrap(), json!([]));
        assert_eq!(parse("f.csv", "").unwrap(), json!([]));
        let error = |text: &str| parse("f.csv", text).unwrap_err().to_string();
        assert_eq!(
            error("a,b\n1,2\n3\n"),
            "f.csv:3:1: `f.csv` is not CSV: the row's number of fields is 1, the header's 2"
        );
        assert_eq!(
            error("a,b\r\n1,2\r\n3,4,5\r\n"),
            "f.csv:3:1: `f.csv` is not CSV: the row's number of fields is 3, the header's 2"
        );
        assert_eq!(error("a,b,a\n"), "f.csv:1:1: `f.csv` is not CSV: its header names `a` twice");
    }

    #[test]
    fn a_value_survives_each_form() {
        let value =
            json!({"b": "yes", "a": [1, 2.5, true], "m": {"x": "1", "é": "a\nb\n"}, "d": "2024-01-01", "s": " # "});
        for name in ["a.json", "a.yaml", "a.yml", "a.toml", "a.txt", "a"] {
            let path = RelPath::new(name).unwrap();
            let text = write(&path, &value);
            assert!(text.ends_with('\n'));
            assert_eq!(read_back(&path, &text).unwrap(), value, "{name}: {text}");
        }
        let path = RelPath::new("a.toml").unwrap();
        assert!(read_back(&path, &write(&path, &json!({"a": null}))).unwrap_err().contains("not TOML"));
        assert_eq!(write(&RelPath::new("a.json").unwrap(), &json!({"a": []})), "{\n  \"a\": []\n}\n");
    }
}
