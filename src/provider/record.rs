//! Recordings: a request and the answer that came, as a file that people can read and that is the same whenever it is written.
//!
//! Its name is the digest of the request. Pure: who writes it, and where, is another matter.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Recording;
use super::exchange::{self, Said, Text};
use crate::digest::Digest;
use crate::llm::{Answer, Request};

/// The version of the form.
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    genmake_recording: u64,
    request: Value,
    answer: Said,
}

/// The name of a request's recording.
pub(super) fn name(request: &Request) -> String {
    format!("{}.json", Digest::of(exchange::request(request).to_string()))
}

/// What is to be written of a request and its answer.
pub(super) fn recording(request: &Request, answer: &Answer) -> Option<Recording> {
    let mut asked = exchange::request(request);
    each_text(&mut asked, |text| serde_json::to_value(Text::by_line(text.as_str()?)).ok());
    let form = Form { genmake_recording: VERSION, request: asked, answer: Said::from(answer) };
    let text = serde_json::to_string_pretty(&form).ok()? + "\n";
    Some(Recording { name: name(request), text })
}

/// The answer that the file of this name holds.
///
/// # Errors
/// What is wrong with it.
pub(super) fn answer(name: &str, bytes: &[u8]) -> Result<Answer, String> {
    let mut form: Form = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if form.genmake_recording != VERSION {
        return Err(format!("it is of version {}, and this genmake reads {VERSION}", form.genmake_recording));
    }
    each_text(&mut form.request, |text| Text::deserialize(text).ok().map(|text| text.whole().into()));
    match format!("{}.json", Digest::of(form.request.to_string())) == name {
        true => Ok(form.answer.into()),
        false => Err("its name is that of another request".to_owned()),
    }
}

/// Puts something else in the place of what messages say.
fn each_text(request: &mut Value, other: impl Fn(&Value) -> Option<Value>) {
    for message in request.get_mut("messages").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(content) = message.get_mut("content")
            && let Some(other) = other(content)
        {
            *content = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::llm::{Stop, Usage};
    use crate::prompt::Role;
    use crate::provider::exchange::tests::saying;
    use expect_test::expect;
    use serde_json::json;

    fn recorded() -> (Request, Answer) {
        let mut request = saying(&[(Role::System, "Be brief."), (Role::User, "Write\nabout é.")]);
        request.schema = Some(json!({"type": "object", "required": ["b", "a"]}));
        let usage = Usage { input: 12, output: 5, ..Usage::default() };
        let answer =
            Answer { text: "# é\n\nIt is.\n".into(), stop: Stop::End, usage, request_id: Some("req-1".into()) };
        (request, answer)
    }

    #[test]
    fn a_recording_is_for_people_and_always_the_same() {
        let (request, answer) = recorded();
        let Recording { name, text } = recording(&request, &answer).unwrap();
        expect!["6bdcd749636dbfa6136e330edd7d8c20189c5a1888e89efd108862941634fa61.json"].assert_eq(&name);
        expect![[r##"
            {
              "genmake_recording": 1,
              "request": {
                "model": "m",
                "params": {
                  "seed": 7,
                  "top_p": 1
                },
                "max_output_tokens": 100,
                "messages": [
                  {
                    "role": "system",
                    "content": "Be brief."
                  },
                  {
                    "role": "user",
                    "content": [
                      "Write",
                      "about é."
                    ]
                  }
                ],
                "schema": {
                  "type": "object",
                  "required": [
                    "b",
                    "a"
                  ]
                }
              },
              "answer": {
                "text": [
                  "# é",
                  "",
                  "It is.",
                  ""
                ],
                "stop": "end",
                "usage": {
                  "input_tokens": 12,
                  "output_tokens": 5
                }
              }
            }
        "##]]
        .assert_eq(&text);
        let read = super::answer(&name, text.as_bytes()).unwrap();
        assert_eq!(read, Answer { request_id: None, ..answer });
    }

    #[test]
    fn what_is_no_recording_is_said() {
        let (request, answer) = recorded();
        let Recording { name, text } = recording(&request, &answer).unwrap();
        let wrong = |text: &str| super::answer(&name, text.as_bytes()).unwrap_err();
        assert!(wrong(&text[..text.len() / 2]).starts_with("EOF while parsing"));
        assert!(wrong("[]").starts_with("invalid length 0"), "{}", wrong("[]"));
        assert_eq!(wrong(&text.replace("brief", "short")), "its name is that of another request");
        assert!(wrong(&text.replace("ing\": 1", "ing\": 2")).contains("version 2"));
        assert!(wrong(&text.replace("\"stop\": \"end\"", "\"stop\": \"done\"")).contains("unknown variant `done`"));
        assert!(wrong(&text.replace("\"usage\"", "\"use\"")).contains("unknown field `use`"));
    }
}
