//! From a reply to results: what is complete, what is missing, and why. Slots are matched by name, never by position.
//!
//! Nothing is repaired: a text counts when its string was closed, so a cut reply gives the results before the cut.

use serde::de::IgnoredAny;
use serde_json::Value;

use super::Usage;
use super::neighbour::Names;
use super::request::{Ask, RESULT, slot};
use super::slots::Slots;
use crate::selector::write_data;

/// What a provider answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub stop: Stop,
    /// What it took.
    pub usage: Usage,
    /// The provider's name for the request.
    pub request_id: Option<String>,
}

/// Why an answer ended. Read before the text is looked at: truncated is not malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The model was done.
    End,
    /// The limit of output tokens was reached.
    Length,
    /// The model or the provider declined: what was said.
    Refused(String),
    /// The body was not an answer of this provider's form: what it was.
    Garbled(String),
    /// It broke off on its way: how. What came before counts.
    Broken(String),
}

/// Why results are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortfall {
    /// The answer was cut at the limit of output tokens.
    Truncated,
    /// The answer is not of the form asked for: how.
    Malformed(String),
    /// The model or the provider declined: what was said.
    Refused(String),
    /// The answer broke off on its way: how.
    Broken(String),
}

/// What one answer gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// For each task its texts in the order of its outputs, or `None` where they are missing.
    pub results: Vec<Option<Vec<String>>>,
    /// Which of these are missing because what came for them is nearer to another task, and to which.
    pub strays: Vec<(usize, usize)>,
    /// Why others are missing; `None` if none are.
    pub why: Option<Shortfall>,
}

/// The result of a single task.
///
/// # Errors
/// Why there is none.
pub fn single(ask: &Ask, answer: &Answer) -> Result<Vec<String>, Shortfall> {
    match &answer.stop {
        Stop::Length => return Err(Shortfall::Truncated),
        Stop::Refused(what) => return Err(Shortfall::Refused(what.clone())),
        Stop::Garbled(what) => return Err(Shortfall::Malformed(what.clone())),
        Stop::Broken(what) => return Err(Shortfall::Broken(what.clone())),
        Stop::End => {}
    }
    if answer.text.trim().is_empty() {
        return Err(Shortfall::Malformed("the answer is empty".to_owned()));
    }
    if ask.schema.is_none() && ask.outputs.iter().all(|output| output.name.is_none()) {
        return Ok(vec![unfenced(&answer.text).to_owned()]);
    }
    let mut value: Value = serde_json::from_str(json_part(&answer.text))
        .map_err(|e| Shortfall::Malformed(format!("the answer is not JSON: {e}")))?;
    // A server that does not hold to schemas may have left out what the value stands below.
    if let (true, Value::Object(map)) = (ask.is_wrapped(), &mut value)
        && map.len() == 1
        && let Some(inner) = map.remove(RESULT)
    {
        value = inner;
    }
    texts(ask, value).ok_or_else(|| Shortfall::Malformed("the answer lacks an output".to_owned()))
}

/// A batch's answer on its way to its results. Each is taken as soon as it is whole.
pub struct Splitting<'a> {
    asks: &'a [&'a Ask],
    names: Names,
    slots: Slots,
    results: Vec<Option<Vec<String>>>,
    strays: Vec<(usize, usize)>,
}

impl<'a> Splitting<'a> {
    /// Nothing of the answer has come.
    pub fn new(asks: &'a [&'a Ask]) -> Splitting<'a> {
        let names = Names::new(asks);
        Splitting { asks, names, slots: Slots::default(), results: vec![None; asks.len()], strays: Vec::new() }
    }

    /// Takes the next piece of the text in; `whole` gets each result that is whole by then, and whose it is.
    pub fn feed(&mut self, text: &str, whole: &mut dyn FnMut(usize, &[String])) {
        let Splitting { asks, names, slots, results, strays } = self;
        slots.feed(text, &mut |slot, value| take(asks, names, results, strays, slot, value, whole));
    }

    /// What came in all, of an answer that ended so; `whole` gets what its end made whole.
    pub fn end(mut self, answer: &Answer, whole: &mut dyn FnMut(usize, &[String])) -> Split {
        let Splitting { asks, names, slots, results, strays } = &mut self;
        slots.end(&mut |slot, value| take(asks, names, results, strays, slot, value, whole));
        let is_stray = |task: usize| self.strays.iter().any(|(stray, _)| *stray == task);
        let missing: Vec<String> =
            (0..self.asks.len()).filter(|task| self.results[*task].is_none() && !is_stray(*task)).map(slot).collect();
        let why = match &answer.stop {
            _ if missing.is_empty() => None,
            // Why it ended says more than what it looks like.
            Stop::Length => Some(Shortfall::Truncated),
            Stop::Refused(what) => Some(Shortfall::Refused(what.clone())),
            Stop::Garbled(what) => Some(Shortfall::Malformed(what.clone())),
            Stop::Broken(what) => Some(Shortfall::Broken(what.clone())),
            Stop::End => {
                Some(Shortfall::Malformed(match serde_json::from_str::<IgnoredAny>(json_part(&answer.text)) {
                    Err(e) => format!("the answer is not JSON: {e}"),
                    Ok(_) => format!("the answer has nothing for {}", missing.join(", ")),
                }))
            }
        };
        Split { results: self.results, strays: self.strays, why }
    }
}

/// A value that came for a slot. The first that is one counts.
fn take(
    asks: &[&Ask],
    names: &Names,
    results: &mut [Option<Vec<String>>],
    strays: &mut Vec<(usize, usize)>,
    slot: usize,
    value: Value,
    whole: &mut dyn FnMut(usize, &[String]),
) {
    let Some(ask) = asks.get(slot) else { return };
    if results[slot].is_some() || strays.iter().any(|(stray, _)| *stray == slot) {
        return;
    }
    let Some(texts) = texts(ask, value) else { return };
    match names.stray(slot, &texts) {
        Some(other) => strays.push((slot, other)),
        None => whole(slot, results[slot].insert(texts)),
    }
}

/// The texts of one task's outputs; an empty one is a missing one.
fn texts(ask: &Ask, value: Value) -> Option<Vec<String>> {
    if ask.schema.is_some() && ask.piece.is_some() {
        return Some(vec![value.to_string()]);
    }
    if ask.schema.is_some() {
        return Some(ask.outputs.iter().map(|output| write_data(&output.path, &value)).collect());
    }
    let text = |value: Value| match value {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    };
    let texts: Option<Vec<String>> = match value {
        Value::Object(mut map) => {
            let named = ask.outputs.iter().map(|output| map.remove(output.name.as_ref()?).and_then(text));
            named.collect()
        }
        value if ask.outputs.iter().all(|output| output.name.is_none()) => text(value).map(|text| vec![text]),
        _ => None,
    };
    texts
}

/// A text without the code fence that models like to put around a whole answer. A text that only begins and ends with code
/// of its own is left as it is.
fn unfenced(text: &str) -> &str {
    let inside = || -> Option<&str> {
        let trimmed = text.trim();
        let (first, rest) = trimmed.split_once('\n')?;
        let info = first.strip_prefix("```")?;
        let body = rest.strip_suffix("```")?;
        let closes_itself =
            body.lines().find(|line| line.starts_with("```")).is_some_and(|line| line.trim_end() == "```");
        let whole = (body.is_empty() || body.ends_with('\n')) && !info.contains('`') && !closes_itself;
        whole.then_some(body)
    };
    inside().unwrap_or(text)
}

/// The JSON of an answer: all of it, or what stands in its first fence, closed or cut.
fn json_part(text: &str) -> &str {
    let text = text.trim();
    if text.starts_with(['{', '[']) {
        return text;
    }
    let Some((_, fenced)) = text.split_once("```") else { return text };
    let body = fenced.split_once('\n').map_or(fenced, |(_, body)| body);
    body.rfind("\n```").map_or(body, |end| &body[..end])
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::ask;
    use super::*;
    use proptest::prelude::*;

    fn answer(text: &str, stop: Stop) -> Answer {
        Answer { text: text.to_owned(), stop, usage: Usage::default(), request_id: None }
    }

    fn split(asks: &[&Ask], answer: &Answer) -> Split {
        let mut splitting = Splitting::new(asks);
        splitting.feed(&answer.text, &mut |_, _| {});
        splitting.end(answer, &mut |_, _| {})
    }

    fn results(text: &str, stop: Stop) -> (Vec<Option<String>>, Option<Shortfall>) {
        let (a, b, c) = (ask("a", ""), ask("b", ""), ask("c", ""));
        let split = split(&[&a, &b, &c], &answer(text, stop));
        (split.results.into_iter().map(|texts| texts.map(|texts| texts.concat())).collect(), split.why)
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn complete_results_survive_whatever_follows() {
        let whole = r#"{"files": {"f1": "A", "f2": "B", "f3": "C"}}"#;
        let all = vec![some("A"), some("B"), some("C")];
        assert_eq!(results(whole, Stop::End), (all.clone(), None));
        assert_eq!(results(&format!("```json\n{whole}\n```"), Stop::End), (all.clone(), None));
        assert_eq!(results(&format!("Here you are:\n```\n{whole}\n```\nBye"), Stop::End), (all.clone(), None));
        assert_eq!(results(r#"{"f1": "A", "f3": "C", "f2": "B"}"#, Stop::End), (all.clone(), None));
        assert_eq!(results(&whole.replace("\"f3\"", "\"f9\": \"X\", \"f3\""), Stop::End), (all, None));

        let cut = r#"{"files": {"f1": "A", "f2": "B", "f3": "C is not fin"#;
        let two = vec![some("A"), some("B"), None];
        assert_eq!(results(cut, Stop::Length), (two.clone(), Some(Shortfall::Truncated)));
        let (found, why) = results(cut, Stop::End);
        assert_eq!(found, two);
        assert!(matches!(why, Some(Shortfall::Malformed(what)) if what.contains("EOF")));
    }

    #[test]
    fn what_is_missing_is_named() {
        let malformed = |what: &str| Some(Shortfall::Malformed(what.to_owned()));
        let (found, why) = results(r#"{"files": {"f1": "A", "f3": ""}}"#, Stop::End);
        assert_eq!((found, why), (vec![some("A"), None, None], malformed("the answer has nothing for f2, f3")));
        assert_eq!(results("", Stop::Length).1, Some(Shortfall::Truncated));
        assert!(matches!(results("Sorry, no.", Stop::End).1, Some(Shortfall::Malformed(_))));
        assert_eq!(results("", Stop::Refused("no".into())).1, Some(Shortfall::Refused("no".into())));
        assert!(results(r#"{"files": {"a": "A"}}"#, Stop::End).0.iter().all(Option::is_none));
    }

    #[test]
    fn a_single_is_its_text_without_a_fence_around_it() {
        let ask = ask("a.md", "");
        let one = |text: &str| single(&ask, &answer(text, Stop::End)).map(|texts| texts.concat());
        assert_eq!(one("plain\n").unwrap(), "plain\n");
        assert_eq!(one("```go\npackage a\n```\n").unwrap(), "package a\n");
        assert_eq!(one("```md\n# A\n```sh\nls\n```\n```").unwrap(), "# A\n```sh\nls\n```\n");
        let own = "```sh\nls\n```\ntext\n```sh\nls\n```";
        assert_eq!(one(own).unwrap(), own);
        assert!(matches!(one(" \n"), Err(Shortfall::Malformed(_))));
        assert_eq!(single(&ask, &answer("half", Stop::Length)), Err(Shortfall::Truncated));
    }

    #[test]
    #[cfg(feature = "schema")]
    fn data_is_written_in_the_form_of_its_output() {
        use super::super::request::tests::ask_for;
        let one = |path: &str, kind: &str, text: &str| {
            single(&ask_for(path, serde_json::json!({"type": kind})), &answer(text, Stop::End))
                .map(|texts| texts.concat())
        };
        assert_eq!(one("a.json", "object", "```json\n{\"count\": 1}\n```").unwrap(), "{\n  \"count\": 1\n}\n");
        assert_eq!(one("a.yaml", "object", "{\"count\": 1}").unwrap(), "count: 1\n");
        assert_eq!(one("a.toml", "object", "{\"count\": 1}").unwrap(), "count = 1\n");
        assert_eq!(one("a.txt", "array", "{\"result\": [1]}").unwrap(), "[\n  1\n]\n");
        assert_eq!(one("a.json", "array", "[1]").unwrap(), "[\n  1\n]\n");
        assert!(matches!(one("a.json", "object", "Sorry"), Err(Shortfall::Malformed(_))));
        let ask = ask_for("a.json", serde_json::json!({"type": "object"}));
        let split = split(&[&ask, &ask], &answer(r#"{"files": {"f2": {"count": 2}, "f1": {"count": 1}}}"#, Stop::End));
        assert_eq!(split.results[1].as_ref().unwrap().concat(), "{\n  \"count\": 2\n}\n");
    }

    proptest! {
        /// Cut anywhere, a reply gives the results whose strings were closed before the cut, and nothing else.
        #[test]
        fn a_cut_reply_gives_whole_results_only(
            texts in proptest::collection::vec("[a-z\"\\\\{}\n é`]{1,12}[a-z]", 3),
            at in 0usize..400,
        ) {
            let files: serde_json::Map<String, Value> =
                texts.iter().enumerate().map(|(i, text)| (slot(i), text.clone().into())).collect();
            let whole = serde_json::json!({ "files": files }).to_string();
            let cut = &whole[..whole.floor_char_boundary(at.min(whole.len()))];
            let (found, why) = results(cut, Stop::Length);
            for (i, result) in found.iter().enumerate() {
                if let Some(result) = result {
                    prop_assert_eq!(result, &texts[i]);
                }
            }
            let complete = found.iter().flatten().count();
            let closed = (0..3).filter(|i| {
                let mut end = whole.find(&format!("\"{}\":", slot(*i))).unwrap_or(whole.len());
                end += slot(*i).len() + 3 + Value::from(texts[*i].as_str()).to_string().len();
                end <= cut.len()
            }).count();
            prop_assert_eq!(complete, closed);
            prop_assert_eq!(why.is_none(), complete == 3);
        }
    }
}
