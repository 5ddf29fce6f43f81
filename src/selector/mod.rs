//! `FILE#SELECTOR`: a part of a file as an input of its own.
//!
//! Pure: text in, parts out. Which file is read, and when, is decided elsewhere.

mod data;

use serde_json::Value;

use crate::path::RelPath;

pub use data::{DataCache, is_data, parse as parse_data, write as write_data};

/// A parsed selector: which file or files, and which part of each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// The file's path or a glob, as written.
    pub file: String,
    /// The pointer's steps.
    pub steps: Vec<Step>,
}

/// One step of a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A key of a map, or an index of a list.
    Key(String),
    /// `*`: each entry.
    Each,
}

/// A part that a selector found.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What each `*` stood for, from the left; for a selector without `*`, the last step.
    pub keys: Vec<String>,
    /// The part itself.
    pub value: Value,
}

impl Part {
    /// What the last `*` stood for.
    pub fn key(&self) -> &str {
        self.keys.last().map_or("", String::as_str)
    }
}

/// Splits `FILE#SELECTOR`; `None` if the text holds no `#`.
pub fn split(text: &str) -> Option<(&str, &str)> {
    text.split_once('#')
}

impl Selector {
    /// Parses `FILE#/pointer/*`, with `~1` for `/` and `~0` for `~` as RFC 6901 says.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn parse(text: &str) -> Result<Selector, String> {
        let (file, pointer) = split(text).ok_or("it has no `#`")?;
        if file.is_empty() {
            return Err("it names no file before `#`".to_owned());
        }
        if pointer.is_empty() {
            return Ok(Selector { file: file.to_owned(), steps: Vec::new() });
        }
        let Some(steps) = pointer.strip_prefix('/') else {
            return Err(format!("`#{pointer}` is no pointer: it starts with `/`, as in `{file}#/entities/*`"));
        };
        let step = |text: &str| match text {
            "*" => Step::Each,
            text => Step::Key(text.replace("~1", "/").replace("~0", "~")),
        };
        Ok(Selector { file: file.to_owned(), steps: steps.split('/').map(step).collect() })
    }

    /// Whether it holds a `*`, and so is a list of parts and not one.
    pub fn is_each(&self) -> bool {
        self.steps.contains(&Step::Each)
    }

    /// What people call one part: the selector with its stars filled in.
    pub fn label(&self, file: &RelPath, keys: &[String]) -> String {
        let mut keys = keys.iter();
        let mut label = format!("{file}#");
        for step in &self.steps {
            let step = match step {
                Step::Key(key) => key.as_str(),
                Step::Each => keys.next().map_or("*", String::as_str),
            };
            label.push('/');
            label.push_str(&step.replace('~', "~0").replace('/', "~1"));
        }
        label
    }

    /// The parts of `root`, in the file's own order.
    ///
    /// # Errors
    /// Where a named step finds nothing, or `*` meets a scalar: what, in words.
    pub fn select(&self, root: &Value) -> Result<Vec<Part>, String> {
        let mut found = Vec::new();
        walk(root, &self.steps, String::new(), &mut Vec::new(), &mut found)?;
        if let [only] = &mut found[..]
            && only.keys.is_empty()
            && let Some(Step::Key(last)) = self.steps.last()
        {
            only.keys.push(last.clone());
        }
        Ok(found)
    }
}

fn walk(
    value: &Value,
    steps: &[Step],
    at: String,
    keys: &mut Vec<String>,
    found: &mut Vec<Part>,
) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        found.push(Part { keys: keys.clone(), value: value.clone() });
        return Ok(());
    };
    let here = if at.is_empty() { "/" } else { &at };
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => {
            let next = map.get(key).ok_or_else(|| format!("`{here}` has no `{key}`; it has {}", names(map.keys())))?;
            walk(next, rest, format!("{at}/{key}"), keys, found)
        }
        (Step::Key(key), Value::Array(list)) => {
            let next = key.parse::<usize>().ok().and_then(|i| list.get(i));
            let next = next.ok_or_else(|| format!("`{here}` is a list of {} and has no `{key}`", list.len()))?;
            walk(next, rest, format!("{at}/{key}"), keys, found)
        }
        (Step::Each, Value::Object(map)) => map.iter().try_for_each(|(key, next)| {
            keys.push(key.clone());
            walk(next, rest, format!("{at}/{key}"), keys, found)?;
            keys.pop();
            Ok(())
        }),
        (Step::Each, Value::Array(list)) => list.iter().enumerate().try_for_each(|(i, next)| {
            keys.push(i.to_string());
            walk(next, rest, format!("{at}/{i}"), keys, found)?;
            keys.pop();
            Ok(())
        }),
        (Step::Each, Value::Null) => Ok(()),
        (step, _) => {
            let wanted = if *step == Step::Each { "`*` wants a map or a list there" } else { "nothing lies below it" };
            Err(format!("`{here}` is neither a map nor a list, {wanted}"))
        }
    }
}

fn names<'a>(keys: impl ExactSizeIterator<Item = &'a String>) -> String {
    const SHOWN: usize = 8;
    let count = keys.len();
    let shown: Vec<String> = keys.take(SHOWN).map(|key| format!("`{key}`")).collect();
    match count {
        0 => "no keys".to_owned(),
        n if n > SHOWN => format!("{} and {} more", shown.join(", "), n - SHOWN),
        _ => shown.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn select(pointer: &str, root: &Value) -> Result<Vec<(String, Value)>, String> {
        let parts = Selector::parse(&format!("f.yaml#{pointer}"))?.select(root)?;
        Ok(parts.into_iter().map(|p| (p.keys.join("+"), p.value)).collect())
    }

    #[test]
    fn pointers_find_parts_in_file_order() {
        let root = json!({"b": {"x": 1, "a": 2}, "l": ["p", "q"], "s/l": {"~": 3}, "n": null});
        assert_eq!(select("/b/*", &root).unwrap(), [("x".into(), json!(1)), ("a".into(), json!(2))]);
        assert_eq!(select("/l/*", &root).unwrap(), [("0".into(), json!("p")), ("1".into(), json!("q"))]);
        assert_eq!(select("/l/1", &root).unwrap(), [("1".into(), json!("q"))]);
        assert_eq!(select("/s~1l/~0", &root).unwrap(), [("~".into(), json!(3))]);
        assert_eq!(select("/n/*", &root).unwrap(), []);
        let root = json!({"m": {"a": {"f": {"x": 1}}, "b": {"f": {"y": 2, "z": 3}}}});
        let keys: Vec<String> = select("/m/*/f/*", &root).unwrap().into_iter().map(|p| p.0).collect();
        assert_eq!(keys, ["a+x", "b+y", "b+z"]);
    }

    #[test]
    fn a_part_has_a_name() {
        let file = RelPath::new("f.yaml").unwrap();
        let label = |pointer: &str, keys: &[&str]| {
            let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
            Selector::parse(&format!("f.yaml#{pointer}")).unwrap().label(&file, &keys)
        };
        assert_eq!(label("/m/*/f/*", &["a/b", "c"]), "f.yaml#/m/a~1b/f/c");
        assert_eq!(label("/m/x", &["x"]), "f.yaml#/m/x");
    }

    #[test]
    fn what_is_not_there_is_said() {
        let root = json!({"entities": {"a": 1}});
        assert_eq!(select("/entites/*", &root).unwrap_err(), "`/` has no `entites`; it has `entities`");
        assert!(select("/entities/a/*", &root).unwrap_err().contains("`/entities/a` is neither"));
        assert!(Selector::parse("f.yaml#entities").unwrap_err().contains("no pointer"));
        assert!(Selector::parse("#/x").is_err());
    }
}
