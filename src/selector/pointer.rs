//! Pointers into data, as RFC 6901 has them, with `*` for each entry.

use serde_json::{Map, Value};

use super::Part;

/// One step of a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "run", derive(serde::Serialize, serde::Deserialize))]
pub enum Step {
    /// A key of a map, or an index of a list.
    Key(String),
    /// `*`: each entry.
    Each,
}

/// The parts of `root`, in the file's own order.
///
/// # Errors
/// Where a named step finds nothing, or `*` meets a scalar: what, in words.
pub(super) fn select(root: &Value, steps: &[Step]) -> Result<Vec<Part>, String> {
    let mut found = Vec::new();
    walk(root, steps, String::new(), &mut Vec::new(), &mut found)?;
    if let [only] = &mut found[..]
        && only.keys.is_empty()
        && let Some(Step::Key(last)) = steps.last()
    {
        only.keys.push(last.clone());
    }
    Ok(found)
}

fn walk(
    value: &Value,
    steps: &[Step],
    at: String,
    keys: &mut Vec<String>,
    found: &mut Vec<Part>,
) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        found.push(Part { keys: keys.clone(), value: value.clone(), passage: None });
        return Ok(());
    };
    let here = if at.is_empty() { "/" } else { &at };
    match (step, value) {
        (Step::Key(key), Value::Object(map)) => {
            let next = map.get(key).ok_or_else(|| format!("`{here}` has no `{key}`; it has {}", names(map)))?;
            walk(next, rest, format!("{at}/{key}"), keys, found)
        }
        (Step::Key(key), Value::Array(list)) => {
            // RFC 6901 knows no other way to write an index, such as `01` or `+1`.
            let index = key.parse::<usize>().ok().filter(|index| index.to_string() == *key);
            let next = index.and_then(|index| list.get(index));
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

fn names(map: &Map<String, Value>) -> String {
    if map.is_empty() { "no keys".to_owned() } else { super::some(map.keys().map(String::as_str)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selector::{Selector, What};
    use serde_json::json;

    fn select(pointer: &str, root: &Value) -> Result<Vec<(String, Value)>, String> {
        let What::Pointer(steps) = Selector::parse(&format!("f.yaml#{pointer}"))?.what else { panic!("no pointer") };
        let parts = super::select(root, &steps)?;
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
    fn what_is_not_there_is_said() {
        let root = json!({"entities": {"a": 1}});
        assert_eq!(select("/entites/*", &root).unwrap_err(), "`/` has no `entites`; it has `entities`");
        let list = json!([1, 2]);
        assert!(select("/1", &list).is_ok());
        assert_eq!(select("/01", &list).unwrap_err(), "`/` is a list of 2 and has no `01`");
        assert_eq!(select("/+1", &list).unwrap_err(), "`/` is a list of 2 and has no `+1`");
        assert!(select("/entities/a/*", &root).unwrap_err().contains("`/entities/a` is neither"));
    }
}
