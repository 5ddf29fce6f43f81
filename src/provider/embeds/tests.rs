//! Vectors by servers, by commands and from recordings.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::cancel::Cancel;
use crate::llm::Usage;
use crate::provider::{FailureKind, Notice, Provider};
use crate::shell::Shell;
use server::embeddings::TooLong;
use server::{Act, Server};

#[path = "../../../tests/it/server/mod.rs"]
mod server;

#[test]
fn a_vector_in_each_spelling() {
    let floats = [0.5_f32, -0.25, 1e-7];
    let text = packed(&floats);
    assert_eq!(text, "AAAAPwAAgL6Vv9Yz");
    assert_eq!(vector(&json!(text)), Some(floats.to_vec()));
    assert_eq!(vector(&json!([0.5, -0.25, 1e-7])), Some(floats.to_vec()));
    let four = packed(&[0.1, 0.2, 0.3, 0.4]);
    assert!(four.ends_with("=="));
    assert_eq!(vector(&json!(four.trim_end_matches('='))), Some(vec![0.1, 0.2, 0.3, 0.4]));
    for (what, wrong) in [
        ("nothing", json!([])),
        ("nothing in base64", json!("")),
        ("no number", json!([0.5, null])),
        ("a list of lists", json!([[0.5]])),
        ("more than a float holds", json!([0.5, 1e39])),
        ("no base64", json!("%%%%")),
        ("half a float", json!("AAAAPwAA")),
        ("not finite", json!(packed(&[f32::NAN]))),
        ("endless", json!(packed(&[f32::NEG_INFINITY]))),
        ("no vector", json!(null)),
        ("an object", json!({"values": [0.5]})),
    ] {
        assert_eq!(vector(&wrong), None, "{what}");
    }
    assert_eq!(of_length_one(vec![3.0, 4.0]), [0.6, 0.8]);
    assert_eq!(of_length_one(vec![0.0, 0.0]), [0.0, 0.0]);
}

/// A provider as a Genfile declares it.
fn declared(keys: &str) -> manifest::Provider {
    let text = format!("version: 1\nproviders: {{p: {{model: m, {keys}}}}}\nrules: {{}}\n");
    let (manifest, found) = manifest::load("Genfile", &text, &std::collections::HashMap::new()).unwrap();
    assert_eq!(found, [], "{keys}");
    manifest.providers["p"].clone()
}

#[test]
fn how_much_a_request_may_have() {
    let limits = |keys: &str, model: &str| {
        embed_limits(&declared(keys), model).map(|limits| (limits.texts, limits.tokens, limits.each))
    };
    let at = |host: &str, model: &str| limits(&format!("api: openai, base_url: \"https://{host}/v1\""), model);
    let openai = Some((2048, Some(300_000), Some(8192)));
    assert_eq!(limits("api: openai", "text-embedding-3-small"), openai);
    assert_eq!(limits("api: openai-responses", "text-embedding-3-small"), openai);
    for (model, tokens) in
        [("voyage-4-lite", 1_000_000), ("voyage-4", 320_000), ("voyage-4-large", 120_000), ("voyage-code-3", 120_000)]
    {
        assert_eq!(at("api.voyageai.com", model), Some((1000, Some(tokens), Some(32_000))), "{model}");
    }
    assert_eq!(at("api.voyageai.com", "voyage-law-2"), Some((1000, Some(120_000), None)));
    assert_eq!(at("api.cohere.ai", "embed-v4.0"), Some((96, None, None)));
    assert_eq!(at("openrouter.ai/api", "m"), Some((32, None, None)));
    assert_eq!(limits("api: openai, base_url: \"http://127.0.0.1:8080/v1\"", "m"), Some((32, None, None)));
    assert_eq!(limits("api: gemini", "gemini-embedding-001"), Some((100, None, Some(2048))));
    assert_eq!(limits("api: gemini", "models/gemini-embedding-2-preview"), Some((100, None, Some(8192))));
    assert_eq!(limits("api: gemini", "tunedModels/mine"), Some((100, None, None)));
    assert_eq!(limits("api: command, command: x", "m"), Some((256, None, None)));
    assert_eq!(limits("api: replay, dir: recordings", "m"), Some((2048, None, None)));
    assert_eq!(limits("api: anthropic", "m"), None);
}

/// The provider, for files below `root`.
fn provider(keys: &str, root: &Path, cancel: &Cancel) -> Provider {
    let shell = Shell::new(root.to_path_buf(), Vec::new(), "t".to_owned());
    let env = |name: &str| (name == "K").then(|| "sk-canary".to_owned());
    Provider::new(&declared(keys), root, &env, &[], &shell, cancel.clone()).unwrap()
}

/// The provider that is at a server.
fn at(server: &Server, api: &str) -> Provider {
    let keys = format!("api: {api}, key_env: K, base_url: \"{}\"", server.base_url());
    provider(&keys, Path::new("."), &Cancel::default())
}

fn asking(texts: &[&str]) -> EmbedRequest {
    EmbedRequest {
        model: "m".to_owned(),
        texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        dimensions: None,
        task: None,
        params: serde_json::Map::new(),
    }
}

fn silent(notice: Notice) {
    drop(notice);
}

/// The vectors, of which there is one for each text.
#[track_caller]
fn all(embedded: Embedded) -> Vec<Vec<f32>> {
    embedded.vectors.into_iter().map(|vector| vector.expect("a vector")).collect()
}

fn nearness(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

const BOOKS: &[&str] = &["a title in our catalog", "the catalog has a title", "who ships parcels abroad", "é"];

#[test]
fn texts_become_vectors_in_their_order() {
    for api in ["openai", "openai-responses", "gemini"] {
        let server = Server::start();
        let provider = at(&server, api);
        let embedded = provider.embed(&asking(BOOKS), &silent).unwrap();
        assert_eq!(embedded.usage, Usage { input: 5 + 5 + 6 + 1, ..Usage::default() }, "{api}");
        assert_eq!(embedded.request_id.as_deref(), Some("req-1"));
        let vectors = all(embedded);
        assert!(nearness(&vectors[0], &vectors[1]) > 2.0 * nearness(&vectors[0], &vectors[2]), "{api}");
        let wanted: Vec<Vec<f32>> = BOOKS.iter().map(|text| server::embeddings::vector(text, None, true)).collect();
        assert_eq!(vectors, wanted, "{api}");
        assert_eq!(server.requests()[0].texts(), BOOKS);
        // Alone they are the same.
        let alone = all(provider.embed(&asking(&BOOKS[2..3]), &silent).unwrap());
        assert_eq!(alone[..], wanted[2..3], "{api}");
        assert_eq!((server.count(), server.told().input, server.told().output), (2, 17 + 6, 0), "{api}");
        assert_eq!(server.asked_twice(), [BOOKS[2]], "{api}");
    }
}

#[test]
fn vectors_are_found_by_their_index_in_whichever_form() {
    let server = Server::start();
    let provider = at(&server, "openai");
    let wanted = all(provider.embed(&asking(BOOKS), &silent).unwrap());
    server.script([Act::Shuffled, Act::Numbers]);
    for what in ["in another order", "as numbers"] {
        assert_eq!(all(provider.embed(&asking(BOOKS), &silent).unwrap()), wanted, "{what}");
    }
    server.script([Act::MissingVector(1), Act::EmptyVector(2), Act::NoIndex, Act::NoIndex]);
    for (what, lost) in [("missing", [1].as_slice()), ("empty", &[2]), ("whose, nobody says", &[0, 1, 2, 3])] {
        let found = provider.embed(&asking(BOOKS), &silent).unwrap().vectors;
        let wanted = wanted.iter().enumerate().map(|(at, vector)| (!lost.contains(&at)).then(|| vector.clone()));
        assert_eq!(found, wanted.collect::<Vec<_>>(), "{what}");
    }
    // Of one text there is no doubt.
    assert_eq!(all(provider.embed(&asking(&BOOKS[..1]), &silent).unwrap()), wanted[..1]);
}

#[test]
fn as_many_numbers_as_were_asked_for() {
    let server = Server::start();
    let request = EmbedRequest { dimensions: Some(12), ..asking(BOOKS) };
    for api in ["openai", "gemini"] {
        for vector in all(at(&server, api).embed(&request, &silent).unwrap()) {
            let length = nearness(&vector, &vector);
            assert!(vector.len() == 12 && (length - 1.0).abs() < 1e-5, "{api}: {vector:?}");
        }
    }
    // Whoever makes more than that is not corrected.
    server.ignores_dimensions();
    assert_eq!(all(at(&server, "openai").embed(&request, &silent).unwrap())[0].len(), 64);
}

#[test]
fn google_is_asked_for_each_text_with_what_it_is_for() {
    let server = Server::start();
    let params = json!({"title": "t", "model": "other"}).as_object().unwrap().clone();
    let task = Some("RETRIEVAL_DOCUMENT".to_owned());
    let request = EmbedRequest { dimensions: Some(8), task, params, ..asking(&["a", "b"]) };
    at(&server, "gemini").embed(&request, &silent).unwrap();
    let sent = &server.requests()[0];
    assert_eq!(
        (sent.path.as_str(), sent.header("x-goog-api-key")),
        ("/v1/models/m:batchEmbedContents", Some("sk-canary"))
    );
    let one = |text: &str| {
        json!({"model": "models/m", "content": {"parts": [{"text": text}]}, "taskType": "RETRIEVAL_DOCUMENT",
            "outputDimensionality": 8, "title": "t"})
    };
    assert_eq!(sent.body, json!({"requests": [one("a"), one("b")]}));
}

#[test]
fn what_passes_is_asked_for_again() {
    for (api, acts) in [("openai", [Act::rate_limited(0), Act::Reset]), ("gemini", [Act::server_error(), Act::Cut])] {
        let server = Server::start();
        let retries = Mutex::new(0);
        let count = |notice| {
            if let Notice::Retry(..) = notice {
                *retries.lock().unwrap() += 1;
            }
        };
        server.script(acts);
        all(at(&server, api).embed(&asking(BOOKS), &count).unwrap());
        assert_eq!(*retries.lock().unwrap(), 2, "{api}");
        // Nothing was asked for after it had come.
        assert_eq!((server.count(), server.asked_twice().len()), (3, 0), "{api}");
    }
}

#[test]
fn what_a_server_refuses_it_is_asked_without() {
    let server = Server::start();
    let provider = at(&server, "openai");
    let literal =
        r#"{"detail": [{"loc": ["body", "encoding_format"], "msg": "Input should be 'float'", "input": "base64"}]}"#;
    let status = |body: &str| Act::Status { code: 422, headers: Vec::new(), body: body.to_owned() };
    server.on(|sent| sent.body["encoding_format"].is_string(), status(literal));
    let fixed = Act::error(400, "invalid_request_error", "", "This model does not support specifying dimensions.");
    server.on(|sent| sent.body["dimensions"].is_u64(), fixed);
    let request = EmbedRequest { dimensions: Some(12), ..asking(BOOKS) };
    assert_eq!(all(provider.embed(&request, &silent).unwrap())[0].len(), 64);
    assert_eq!(server.count(), 3);
    provider.embed(&request, &silent).unwrap();
    assert_eq!(server.count(), 4);
    let parts = ["dimensions", "encoding_format"].map(str::to_owned);
    assert_eq!(provider.refused(), [("m".to_owned(), parts.into(), None)]);
    // In the next run it is known.
    let later = at(&server, "openai");
    later.learn("m", ["dimensions", "encoding_format"].map(str::to_owned), None);
    later.embed(&request, &silent).unwrap();
    assert_eq!(server.count(), 5);

    let server = Server::start();
    let unknown =
        "Invalid JSON payload received. Unknown name \"outputDimensionality\" at 'requests[0]': Cannot find field.";
    server.on(|sent| sent.body.pointer("/requests/0/outputDimensionality").is_some(), Act::error(400, "", "", unknown));
    assert_eq!(all(at(&server, "gemini").embed(&request, &silent).unwrap())[0].len(), 64);
    assert_eq!(server.count(), 2);
}

#[test]
fn what_is_too_much_is_not_sent_again() {
    let much: Vec<String> = (0..2049).map(|number| number.to_string()).collect();
    for (api, most, words) in [("openai", 2048, "maximum length 2048"), ("gemini", 100, "at most 100 requests")] {
        let server = Server::start();
        let provider = at(&server, api);
        let of = |texts: &[String]| EmbedRequest { texts: texts.to_vec(), ..asking(&[]) };
        let failure = provider.embed(&of(&much[..=most]), &silent).unwrap_err();
        assert!(failure.kind == FailureKind::Rejected && failure.message.contains(words), "{failure:?}");
        assert_eq!(all(provider.embed(&of(&much[..most]), &silent).unwrap()).len(), most);
        assert_eq!(server.count(), 2);
    }
    let long = "long ".repeat(100);
    for (words, status, says) in [
        (TooLong::Batch, 500, "input (125 tokens) is too large to process"),
        (TooLong::Window, 400, "request (125 tokens) exceeds the available context size (99 tokens)"),
        (TooLong::OpenAi, 400, "Invalid 'input[1]': maximum input length is 99 tokens."),
    ] {
        let server = Server::start();
        server.takes_texts_of(99, words);
        let failure = at(&server, "openai").embed(&asking(&["short", &long]), &silent).unwrap_err();
        assert_eq!((failure.kind, failure.status), (FailureKind::Rejected, Some(status)), "{words:?}");
        assert!(failure.message.starts_with(says), "{}", failure.message);
        assert_eq!(server.count(), 1, "{words:?}");
    }
}

#[test]
fn a_key_is_in_no_failure_and_a_bad_one_ends_it_all() {
    let server = Server::start();
    let quoting = "Incorrect API key provided: sk-canary.";
    server.always(Act::error(401, "invalid_request_error", "invalid_api_key", quoting));
    for api in ["openai", "gemini"] {
        let provider = at(&server, api);
        let failure = provider.embed(&asking(&["a"]), &silent).unwrap_err();
        assert!(failure.is_final() && failure.message.contains("provided: ***."), "{failure:?}");
        assert_eq!(provider.embed(&asking(&["b"]), &silent).unwrap_err(), failure);
    }
    assert_eq!(server.count(), 2);
}

#[test]
fn those_without_embeddings_are_not_asked() {
    let server = Server::start();
    let failure = at(&server, "anthropic").embed(&asking(&["a"]), &silent).unwrap_err();
    assert_eq!((failure.kind, failure.is_final(), server.count()), (FailureKind::Failed, false, 0));
}

#[test]
fn requests_for_vectors_stand_in_the_same_line_as_others() {
    let server = Server::start();
    let keys = format!("api: openai, requests_per_minute: 150, base_url: \"{}\"", server.base_url());
    let cancel = Cancel::default();
    let provider = provider(&keys, Path::new("."), &cancel);
    let begin = Instant::now();
    for text in ["a", "b"] {
        provider.embed(&asking(&[text]), &silent).unwrap();
    }
    assert!(begin.elapsed() >= Duration::from_millis(390), "{:?}", begin.elapsed());
    cancel.cancel();
    assert_eq!(provider.embed(&asking(&["c"]), &silent).unwrap_err().kind, FailureKind::Cancelled);
    assert_eq!(server.count(), 2);
}

#[cfg(unix)]
#[test]
fn a_command_makes_vectors() {
    let dir = tempfile::tempdir().unwrap();
    let answers = |printed: &str, stdin: &str| {
        fs_err::write(dir.path().join("out.json"), printed).unwrap();
        let keys = format!("api: command, command: \"cat > in.json; cat out.json\", stdin: {stdin}");
        let request = EmbedRequest { dimensions: Some(2), task: Some("query".to_owned()), ..asking(&["a\nb", "c"]) };
        provider(&keys, dir.path(), &Cancel::default()).embed(&request, &silent)
    };
    let good = r#"{"genmake": 1, "vectors": [[1, 0.5], null], "usage": {"input_tokens": 3}, "id": "r"}"#;
    for stdin in ["json", "text"] {
        let embedded = answers(good, stdin).unwrap();
        assert_eq!(embedded.vectors, [Some(vec![1.0, 0.5]), None]);
        assert_eq!((embedded.usage.input, embedded.request_id.as_deref()), (3, Some("r")));
        let given = fs_err::read_to_string(dir.path().join("in.json")).unwrap();
        let want =
            r#"{"genmake":1,"embed":{"model":"m","params":{},"dimensions":2,"task":"query","texts":["a\nb","c"]}}"#;
        assert_eq!(given, format!("{want}\n"));
    }
    let same = format!("{{\"genmake\": 1, \"vectors\": [\"{}\", []]}}", packed(&[1.0, 0.5]));
    assert_eq!(answers(&same, "json").unwrap().vectors, [Some(vec![1.0, 0.5]), None]);
    for (printed, why) in [
        (r#"{"genmake": 1, "vectors": [[1]]}"#, "`vectors` has 1 for 2 texts"),
        (r#"{"vectors": [[1], [2]]}"#, "`genmake` is 1, not null"),
        (r#"{"genmake": 1, "vectors": [[1], [2]], "text": ""}"#, "unknown field `text`"),
        (r#"{"genmake": 1}"#, "missing field `vectors`"),
        ("", "EOF while parsing"),
    ] {
        let failure = answers(printed, "json").unwrap_err();
        assert!(failure.kind == FailureKind::Failed && failure.message.contains(why), "{}", failure.message);
    }
}

#[test]
fn vectors_come_back_from_recordings_in_any_company() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start();
    let live = at(&server, "openai");
    let request = EmbedRequest { task: Some("query".to_owned()), ..asking(BOOKS) };
    let embedded = live.embed(&request, &silent).unwrap();
    let recording = live.embed_recording(&request, &embedded).unwrap();
    fs_err::create_dir(dir.path().join("recordings")).unwrap();
    let path = dir.path().join("recordings").join(&recording.name);
    fs_err::write(&path, &recording.text).unwrap();
    fs_err::write(dir.path().join("recordings/other.json"), "{}").unwrap();
    let replay = || provider("api: replay, dir: recordings", dir.path(), &Cancel::default());
    let ask = |texts: &[&str]| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        replay().embed(&EmbedRequest { texts, ..request.clone() }, &silent)
    };

    assert_eq!(ask(BOOKS).unwrap(), Embedded { request_id: None, ..embedded.clone() });
    let two = ask(&[BOOKS[3], BOOKS[1]]).unwrap();
    assert_eq!(two.vectors, [embedded.vectors[3].clone(), embedded.vectors[1].clone()]);
    let tokens: u64 = BOOKS.iter().map(|text| ask(&[text]).unwrap().usage.input).sum();
    assert_eq!(tokens, embedded.usage.input);

    let failure = ask(&["new", BOOKS[0]]).unwrap_err();
    assert!(failure.message.starts_with("nothing is recorded for 1 of 2 texts: `recordings/"), "{}", failure.message);
    let other = replay().embed(&asking(BOOKS), &silent).unwrap_err();
    assert_eq!(other.kind, FailureKind::Failed, "for another task");
    fs_err::write(&path, recording.text.replace("catalog", "catalogue")).unwrap();
    let failure = ask(BOOKS).unwrap_err();
    assert!(failure.message.ends_with("is no recording: its name is that of another request"), "{}", failure.message);
    // What holds the key is not written down.
    assert_eq!(live.embed_recording(&asking(&["it is sk-canary"]), &embedded), None);
}
