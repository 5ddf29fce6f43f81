//! Rows as the text of a data file, by the file's extension, and back: what collections write.
//!
//! Row by row, so that a file of many needs no room for all of them at once. The same rows give the same bytes.
//!
//! | extension | text | without rows |
//! | --- | --- | --- |
//! | `.json` | a list; a row a line, compact, behind two spaces | `[]` |
//! | `.jsonl`, `.ndjson` | a row a line, compact | nothing |
//! | `.yaml`, `.yml` | a list in block form | `[]` |
//! | `.csv`, `.tsv` | a header and a record a row | nothing |
//!
//! A row a line, so that one row that changes is one line of a diff. Knows no file, no schema, and not what a row is about.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::io::{Error, ErrorKind, Result, Write};

use serde_json::Value;

use crate::path::RelPath;
use crate::selector;
use crate::yaml;

/// What is said of a file that cannot hold rows.
pub const HINT: &str = "rows are written to .json, .jsonl, .ndjson, .yaml, .yml, .csv and .tsv";

/// The column of rows that are no maps.
const VALUE: &str = "value";

#[derive(Clone, Copy)]
enum Form {
    List,
    Lines,
    Yaml,
    Table(u8),
}

fn form(path: &RelPath) -> Option<Form> {
    match path.ext() {
        "json" => Some(Form::List),
        "jsonl" | "ndjson" => Some(Form::Lines),
        "yaml" | "yml" => Some(Form::Yaml),
        "csv" => Some(Form::Table(b',')),
        "tsv" => Some(Form::Table(b'\t')),
        _ => None,
    }
}

/// Whether rows can be written to a file of this name.
pub fn is_rows(path: &RelPath) -> bool {
    form(path).is_some()
}

/// Whether [`read`] gives the rows of such a file as they were written. Tables hold texts only.
pub fn is_exact(path: &RelPath) -> bool {
    form(path).is_some_and(|form| !matches!(form, Form::Table(_)))
}

/// Writes rows as the text of the file. Tables go over the rows twice, all else once.
///
/// A table's header has the keys of all rows, in the order in which they come up first; what a row lacks is an empty cell, and
/// so is null. A text stands in its cell as it is, anything else as compact JSON. A row that is no map is one cell, below `value`.
///
/// # Errors
/// Those of `out`; [`ErrorKind::Unsupported`] where [`is_rows`] says no.
pub fn write<R>(path: &RelPath, rows: R, out: &mut dyn Write) -> Result<()>
where
    R: IntoIterator<Item: Borrow<Value>> + Clone,
{
    match form(path) {
        Some(Form::List) => list(rows, out),
        Some(Form::Lines) => rows.into_iter().try_for_each(|row| writeln!(out, "{}", row.borrow())),
        Some(Form::Yaml) => block(rows, out),
        Some(Form::Table(delimiter)) => table(delimiter, rows, out),
        None => Err(Error::new(ErrorKind::Unsupported, format!("`{path}` cannot hold rows: {HINT}"))),
    }
}

fn list(rows: impl IntoIterator<Item: Borrow<Value>>, out: &mut dyn Write) -> Result<()> {
    let mut before = "[\n  ";
    for row in rows {
        write!(out, "{before}{}", row.borrow())?;
        before = ",\n  ";
    }
    out.write_all(if before.starts_with('[') { b"[]\n" } else { b"\n]\n" })
}

fn block(rows: impl IntoIterator<Item: Borrow<Value>>, out: &mut dyn Write) -> Result<()> {
    let mut is_empty = true;
    for row in rows {
        // A list of one is an entry of the whole.
        out.write_all(yaml::write(&Value::Array(vec![row.borrow().clone()])).as_bytes())?;
        is_empty = false;
    }
    if is_empty { out.write_all(b"[]\n") } else { Ok(()) }
}

fn table<R>(delimiter: u8, rows: R, out: &mut dyn Write) -> Result<()>
where
    R: IntoIterator<Item: Borrow<Value>> + Clone,
{
    let mut header: Vec<String> = Vec::new();
    let mut known: HashSet<String> = HashSet::new();
    let mut is_empty = true;
    let mut add = |name: &str| {
        if !known.contains(name) {
            known.insert(name.to_owned());
            header.push(name.to_owned());
        }
    };
    for row in rows.clone() {
        is_empty = false;
        match row.borrow() {
            Value::Object(map) => map.keys().for_each(|name| add(name)),
            _ => add(VALUE),
        }
    }
    if is_empty {
        return Ok(());
    }
    let mut writer = csv::WriterBuilder::new().delimiter(delimiter).from_writer(out);
    writer.write_record(&header)?;
    for row in rows {
        let row = row.borrow();
        let cells = header.iter().map(|name| match row {
            Value::Object(map) => map.get(name).map(cell).unwrap_or_default(),
            _ if name == VALUE => cell(row),
            _ => String::new(),
        });
        writer.write_record(cells)?;
    }
    writer.flush()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The rows of what [`write`] wrote, or a person has edited since.
///
/// # Errors
/// Why the text gives none, in words; of a table always, since it holds texts only.
pub fn read(path: &RelPath, text: &str) -> std::result::Result<Vec<Value>, String> {
    if !is_exact(path) {
        return Err(format!("rows cannot be read from `{path}` as they were written"));
    }
    match selector::parse_data(path, text).map_err(|e| e.message)? {
        Value::Array(rows) => Ok(rows),
        _ => Err(format!("`{path}` holds no list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;
    use serde_json::json;

    const NAMES: [&str; 7] = ["r.json", "r.jsonl", "r.ndjson", "r.yaml", "r.yml", "r.csv", "r.tsv"];

    fn path(name: &str) -> RelPath {
        RelPath::new(name).unwrap()
    }

    fn text(name: &str, rows: &[Value]) -> String {
        let mut out = Vec::new();
        write(&path(name), rows, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn check(name: &str, rows: &Value, expected: Expect) {
        expected.assert_eq(&text(name, rows.as_array().unwrap()));
    }

    #[test]
    fn each_form() {
        let rows = json!([
            {"id": 1, "say": "a, \"b\"\nc", "tags": ["x", null]},
            {"id": 2.5, "more": {"k": true}, "say": null},
            {"say": "", "id": "yes"},
        ]);
        check(
            "r.json",
            &rows,
            expect![[r#"
                [
                  {"id":1,"say":"a, \"b\"\nc","tags":["x",null]},
                  {"id":2.5,"more":{"k":true},"say":null},
                  {"say":"","id":"yes"}
                ]
            "#]],
        );
        check(
            "r.jsonl",
            &rows,
            expect![[r#"
            {"id":1,"say":"a, \"b\"\nc","tags":["x",null]}
            {"id":2.5,"more":{"k":true},"say":null}
            {"say":"","id":"yes"}
        "#]],
        );
        check(
            "r.yaml",
            &rows,
            expect![[r#"
            - id: 1
              say: |-
                a, "b"
                c
              tags:
              - x
              - null
            - id: 2.5
              more:
                k: true
              say: null
            - say: ""
              id: "yes"
        "#]],
        );
        check(
            "r.csv",
            &rows,
            expect![[r#"
            id,say,tags,more
            1,"a, ""b""
            c","[""x"",null]",
            2.5,,,"{""k"":true}"
            yes,,,
        "#]],
        );
        check(
            "r.tsv",
            &rows,
            expect![[r#"
            id	say	tags	more
            1	"a, ""b""
            c"	"[""x"",null]"	
            2.5			"{""k"":true}"
            yes			
        "#]],
        );
    }

    #[test]
    fn rows_that_are_no_maps_are_a_column() {
        check(
            "r.csv",
            &json!(["x", 1, [2], {"a": "b", "value": "c"}, null, {}]),
            expect![[r#"
            value,a
            x,
            1,
            [2],
            c,b
            ,
            ,
        "#]],
        );
    }

    #[test]
    fn no_rows_and_empty_rows() {
        let texts = NAMES.map(|name| text(name, &[]));
        assert_eq!(texts, ["[]\n", "", "", "[]\n", "[]\n", "", ""]);
        let texts = NAMES.map(|name| text(name, &[json!({}), json!({})]));
        assert_eq!(
            texts,
            [
                "[\n  {},\n  {}\n]\n",
                "{}\n{}\n",
                "{}\n{}\n",
                "- {}\n- {}\n",
                "- {}\n- {}\n",
                "\"\"\n\"\"\n\"\"\n",
                "\"\"\n\"\"\n\"\"\n"
            ]
        );
    }

    #[test]
    fn other_files_hold_no_rows() {
        for name in ["r.txt", "r.toml", "r", "r.md"] {
            assert!(!is_rows(&path(name)));
            assert!(read(&path(name), "[]").is_err());
            let error = write(&path(name), [json!(1)], &mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(".jsonl"), "{error}");
        }
        assert_eq!(
            read(&path("r.csv"), "a\n1\n").unwrap_err(),
            "rows cannot be read from `r.csv` as they were written"
        );
        assert_eq!(read(&path("r.json"), "{}").unwrap_err(), "`r.json` holds no list");
        assert!(read(&path("r.json"), "[").unwrap_err().contains("is not JSON"));
    }

    #[test]
    fn what_cannot_be_written_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> Result<usize> {
                Err(ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> Result<()> {
                Err(ErrorKind::StorageFull.into())
            }
        }
        for name in NAMES {
            let error = write(&path(name), [json!({"a": 1})], &mut Full).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull, "{name}");
        }
    }

    /// Texts that some format takes for something else.
    fn words() -> impl Strategy<Value = String> {
        let odd = [
            "",
            " ",
            "a b",
            "yes",
            "no",
            "null",
            "~",
            "1",
            "0x1f",
            "1e3",
            "1_000",
            ".5",
            "-",
            "- a",
            "a: b",
            "#",
            " # x",
            "a #b",
            "'",
            "\"",
            "\\",
            "\n",
            "a\n",
            "\na",
            "a\n\nb",
            "a\r\nb",
            "\r",
            "\t",
            "\ta",
            "a\tb",
            ",",
            ";",
            "|",
            ">",
            "[",
            "{}",
            "&a",
            "*a",
            "!t",
            "%",
            "@",
            "`",
            "é",
            "日本",
            "\u{1f600}",
            "\u{0}",
            "\u{7f}",
            "\u{85}",
            "\u{2028}",
            "\u{feff}x",
            "---",
            "...",
            "2024-01-01",
            "12:30",
            "true",
            "<<",
            "=",
            "+1",
            "inf",
            ".nan",
            "  lead",
            "trail  ",
            "trail\n\n",
            "\u{a0}",
        ];
        prop_oneof![prop::sample::select(odd.to_vec()).prop_map(str::to_owned), "[ -~]{0,12}", "\\PC{0,6}"]
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-1e6..1e6).prop_map(Value::from),
            words().prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::vec((words(), inner), 0..4).prop_map(|entries| entries.into_iter().collect()),
            ]
        })
    }

    fn rows() -> impl Strategy<Value = Vec<Value>> {
        let map = prop::collection::vec((words(), values()), 0..4).prop_map(|entries| entries.into_iter().collect());
        prop::collection::vec(prop_oneof![3 => map, 1 => values()], 0..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn what_was_written_reads_back(rows in rows()) {
            for name in NAMES.into_iter().filter(|name| is_exact(&path(name))) {
                let text = text(name, &rows);
                prop_assert_eq!(&read(&path(name), &text).map_err(|e| format!("{e}: {text}")), &Ok(rows.clone()), "{}: {}", name, text);
            }
        }

        #[test]
        fn what_was_written_is_data(rows in rows()) {
            for name in NAMES {
                let text = text(name, &rows);
                prop_assert_eq!(&text, &self::text(name, &rows));
                let parsed = selector::parse_data(&path(name), &text);
                let count = parsed.as_ref().ok().and_then(Value::as_array).map(Vec::len);
                prop_assert_eq!(count, Some(rows.len()), "{}: {:?}: {}", name, parsed, text);
            }
        }
    }
}
