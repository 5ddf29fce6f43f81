//! Recordings: a request and the answer that came, in text or in vectors, as a file that people can read and that is the same whenever it is written.
//!
//! Its name is the digest of the request. Pure: who writes it, and where, is another matter.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Recording;
use super::exchange::{self, Said, Text, Vectors};
use crate::digest::Digest;
use crate::llm::{Answer, EmbedRequest, Embedded, Request};

/// The version of the form.
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form<A> {
    genmake_recording: u64,
    request: Value,
    answer: A,
}

/// The name of a request's recording.
pub(super) fn name(request: &Request) -> String {
    name_of(&exchange::request(request))
}

/// The same of texts that are to become vectors.
pub(super) fn embed_name(request: &EmbedRequest) -> String {
    name_of(&exchange::embed_request(request))
}

/// The name of the recording of what is asked.
fn name_of(asked: &Value) -> String {
    format!("{}.json", Digest::of(asked.to_string()))
}

/// What is to be written of a request and its answer.
pub(super) fn recording(request: &Request, answer: &Answer) -> Option<Recording> {
    recording_of(exchange::request(request), Said::from(answer))
}

/// The same of texts and their vectors.
pub(super) fn embed_recording(request: &EmbedRequest, embedded: &Embedded) -> Option<Recording> {
    recording_of(exchange::embed_request(request), Vectors::from(embedded))
}

fn recording_of(mut asked: Value, answer: impl Serialize) -> Option<Recording> {
    let name = name_of(&asked);
    each_text(&mut asked, |text| serde_json::to_value(Text::by_line(text.as_str()?)).ok());
    let form = Form { genmake_recording: VERSION, request: asked, answer };
    let text = serde_json::to_string_pretty(&form).ok()? + "\n";
    Some(Recording { name, text })
}

/// The answer that the file of this name holds.
///
/// # Errors
/// What is wrong with it.
pub(super) fn answer(name: &str, bytes: &[u8]) -> Result<Answer, String> {
    read::<Said>(name, bytes).map(|(_, said)| said.into())
}

/// The vectors that the file of this name holds.
///
/// # Errors
/// What is wrong with it.
pub(super) fn embedded(name: &str, bytes: &[u8]) -> Result<Embedded, String> {
    let (asked, said) = read::<Vectors>(name, bytes)?;
    said.of(texts(&asked).len())
}

/// What is recorded of a text: the name that a recording of it alone would have, its vector, and its share of the tokens.
pub(super) type OfText = (String, Option<Vec<f32>>, u64);

/// What the file of this name holds of each text. The shares of all are what all took.
///
/// # Errors
/// What is wrong with it; also that it is the recording of something else.
pub(super) fn each_embedded(name: &str, bytes: &[u8]) -> Result<Vec<OfText>, String> {
    let (asked, said) = read::<Vectors>(name, bytes)?;
    let texts = texts(&asked);
    let Embedded { vectors, usage, .. } = said.of(texts.len())?;
    let upto = |count: usize| (u128::from(usage.input) * count as u128 / texts.len().max(1) as u128) as u64;
    let each = texts.iter().zip(vectors).enumerate().map(|(at, (text, vector))| {
        let mut alone = asked.clone();
        alone["texts"] = json!([text]);
        (name_of(&alone), vector, upto(at + 1) - upto(at))
    });
    Ok(each.collect())
}

/// The texts that were to become vectors.
fn texts(asked: &Value) -> &[Value] {
    asked.get("texts").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// What the file of this name says was asked and answered.
fn read<A: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<(Value, A), String> {
    let mut form: Form<A> = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    if form.genmake_recording != VERSION {
        return Err(format!("it is of version {}, and this genmake reads {VERSION}", form.genmake_recording));
    }
    each_text(&mut form.request, |text| Text::deserialize(text).ok().map(|text| text.whole().into()));
    match name_of(&form.request) == name {
        true => Ok((form.request, form.answer)),
        false => Err("its name is that of another request".to_owned()),
    }
}

/// Puts something else in the place of what messages say, and of texts.
fn each_text(request: &mut Value, other: impl Fn(&Value) -> Option<Value>) {
    let Value::Object(request) = request else { return };
    for (key, list) in request.iter_mut() {
        for item in list.as_array_mut().into_iter().flatten() {
            let text = match key.as_str() {
                "texts" => Some(item),
                "messages" => item.get_mut("content"),
                _ => None,
            };
            if let Some(text) = text
                && let Some(other) = other(text)
            {
                *text = other;
            }
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

    #[test]
    fn vectors_are_recorded_bit_by_bit_and_their_texts_line_by_line() {
        let request = EmbedRequest {
            model: "m".to_owned(),
            texts: vec!["one".to_owned(), "two\nlines".to_owned(), "three".to_owned()],
            dimensions: Some(2),
            task: None,
            params: serde_json::Map::new(),
        };
        let vectors = vec![Some(vec![0.1, -0.2]), None, Some(vec![1e-30, 1.0])];
        let usage = Usage { input: 8, ..Usage::default() };
        let embedded = Embedded { vectors, usage, request_id: Some("req-1".into()) };
        let Recording { name, text } = embed_recording(&request, &embedded).unwrap();
        expect![[r#"
            {
              "genmake_recording": 1,
              "request": {
                "model": "m",
                "params": {},
                "dimensions": 2,
                "task": null,
                "texts": [
                  "one",
                  [
                    "two",
                    "lines"
                  ],
                  "three"
                ]
              },
              "answer": {
                "vectors": [
                  "zczMPc3MTL4=",
                  null,
                  "YEKiDQAAgD8="
                ],
                "usage": {
                  "input_tokens": 8,
                  "output_tokens": 0
                }
              }
            }
        "#]]
        .assert_eq(&text);
        assert_eq!(name, embed_name(&request));
        assert_eq!(super::embedded(&name, text.as_bytes()), Ok(Embedded { request_id: None, ..embedded.clone() }));
        let each = each_embedded(&name, text.as_bytes()).unwrap();
        let alone = |at: usize| embed_name(&EmbedRequest { texts: vec![request.texts[at].clone()], ..request.clone() });
        let want = [2, 3, 3].into_iter().enumerate();
        assert_eq!(
            each,
            want.map(|(at, tokens)| (alone(at), embedded.vectors[at].clone(), tokens)).collect::<Vec<_>>()
        );
        // Neither is the other.
        assert!(super::answer(&name, text.as_bytes()).unwrap_err().starts_with("unknown field `vectors`"));
        let (request, answer) = recorded();
        let Recording { name, text } = recording(&request, &answer).unwrap();
        assert!(super::embedded(&name, text.as_bytes()).unwrap_err().contains("unknown field `text`"));
    }
}
