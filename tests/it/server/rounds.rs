//! Batch APIs: what is handed in, asked about and fetched, at OpenAI's and at Anthropic's addresses.
//!
//! A round has its answers as soon as it is there; it says so after as many questions as a test wants
//! ([`Server::rounds_take`]). Of its requests those that an [`Act::Status`] is for failed, and those that an [`Act::Reset`] is for
//! were not come to.

use super::*;

/// A round that was handed in.
pub struct Round {
    id: String,
    format: Format,
    /// What whoever handed it in calls it, where the format has a place for that.
    name: Value,
    /// The names of its requests.
    pub requests: Vec<String>,
    /// The lines of its results: good ones, others.
    results: [Vec<Value>; 2],
    /// How often it was asked about.
    asked: usize,
    is_cancelled: bool,
}

/// What the server knows of rounds.
#[derive(Default)]
pub struct Rounds {
    pub all: Vec<Round>,
    /// Files that went up, by number.
    files: Vec<String>,
    /// How many questions find a round under way.
    pub takes: usize,
    /// How many calls came.
    pub calls: usize,
    /// The call whose answer is held, once it has been done, and what holds it.
    pub held: Option<(usize, Gate)>,
    /// The call that is held before it is done, and what holds it.
    pub put_off: Option<(usize, Gate)>,
    /// The rounds that were to be cancelled, whosever they are.
    pub cancelled: Vec<String>,
    /// Whether results hold an error for each request, too.
    pub repeats: bool,
    /// Whether what rounds brought is not there any more.
    pub has_no_results: bool,
    /// Rounds that somebody else handed in: their ids, and how many requests they have.
    pub strangers: Vec<(String, usize)>,
}

impl Server {
    /// A round says that it has ended after it was asked about so often.
    pub fn rounds_take(&self, questions: usize) -> &Self {
        self.shared.lock().rounds.takes = questions;
        self
    }

    /// Results are asked for too late.
    pub fn forgets_results(&self) -> &Self {
        self.shared.lock().rounds.has_no_results = true;
        self
    }

    /// The names of the requests of each round that was handed in.
    pub fn handed_in(&self) -> Vec<Vec<String>> {
        self.shared.lock().rounds.all.iter().map(|round| round.requests.clone()).collect()
    }

    /// How many calls of batch APIs came.
    pub fn calls(&self) -> usize {
        self.shared.lock().rounds.calls
    }

    /// Holds the answer to a call, from 1, after it has been done; without a number, to none.
    pub fn hold_call(&self, call: Option<usize>, gate: &Gate) -> &Self {
        let mut state = self.shared.lock();
        let before = state.rounds.calls;
        state.rounds.held = call.map(|call| (before + call, gate.clone()));
        self
    }

    /// Does a call, from 1, only once this gate is open, whether somebody still waits for its answer or not.
    pub fn put_off_call(&self, call: usize, gate: &Gate) -> &Self {
        self.shared.lock().rounds.put_off = Some((call, gate.clone()));
        self
    }

    /// The rounds that somebody asked to cancel.
    pub fn cancelled(&self) -> Vec<String> {
        self.shared.lock().rounds.cancelled.clone()
    }

    /// From now on results end with an error for each request beside what it brought.
    pub fn repeats_results(&self) -> &Self {
        self.shared.lock().rounds.repeats = true;
        self
    }

    /// Waits until so many calls of batch APIs have come in all.
    pub fn wait_for_call(&self, calls: usize) -> bool {
        let state = self.shared.lock();
        let waits = |state: &mut State| state.rounds.calls < calls;
        let (state, _) = self.shared.arrived.wait_timeout_while(state, PATIENCE, waits).expect("no thread panics");
        state.rounds.calls >= calls
    }

    /// Somebody else has handed in a round of so many requests.
    pub fn has_stranger(&self, id: &str, requests: usize) -> &Self {
        self.shared.lock().rounds.strangers.push((id.to_owned(), requests));
        self
    }
}

/// The parts of a path below a batch API's, if it is one.
fn parts(path: &str) -> Option<(Format, Vec<&str>)> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let rest = path.strip_prefix("/v1/")?;
    let parts: Vec<&str> = rest.split(['/', ':']).collect();
    match parts.as_slice() {
        ["models", _, "batchGenerateContent"] => Some((Format::Gemini, vec!["batches"])),
        ["batches"] if query.contains("pageSize") => Some((Format::Gemini, parts)),
        ["messages", "batches", rest @ ..] => Some((Format::Messages, [&["batches"], rest].concat())),
        ["files" | "batches", ..] => Some((Format::Chat, parts)),
        _ => None,
    }
}

pub fn is_call(path: &str) -> bool {
    parts(path).is_some()
}

impl Connection {
    pub fn call(&self, request: &HttpRequest) -> io::Result<Then> {
        let put_off = {
            let mut state = self.shared.lock();
            let is_it = state.rounds.put_off.as_ref().is_some_and(|(call, _)| *call == state.rounds.calls + 1);
            let gate = if is_it { state.rounds.put_off.take().map(|(_, gate)| gate) } else { None };
            state.rounds.calls += usize::from(gate.is_some());
            gate
        };
        if let Some(gate) = put_off {
            self.shared.arrived.notify_all();
            if !self.shared.hold(&gate) {
                return Ok(Then::Close);
            }
            let response = self.called(request);
            return self.send(&response);
        }
        let response = self.called(request);
        let held = {
            let mut state = self.shared.lock();
            state.rounds.calls += 1;
            let calls = state.rounds.calls;
            state.rounds.held.as_ref().filter(|(call, _)| *call == calls).map(|(_, gate)| gate.clone())
        };
        self.shared.arrived.notify_all();
        match held {
            Some(gate) if !self.shared.hold(&gate) => Ok(Then::Close),
            _ => self.send(&response),
        }
    }

    fn called(&self, request: &HttpRequest) -> Response {
        let Some((format, parts)) = parts(&request.path) else { return unknown() };
        let body = || serde_json::from_slice::<Value>(&request.body).unwrap_or_default();
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["files", _, "content"] | ["batches", _, "results"])
                if self.shared.lock().rounds.has_no_results =>
            {
                unknown()
            }
            ("POST", ["files"]) => {
                let mut state = self.shared.lock();
                state.rounds.files.push(uploaded(&request.body));
                Response::json(200, &json!({"id": format!("file-{}", state.rounds.files.len()), "object": "file"}))
            }
            ("GET", ["files", file, "content"]) => {
                let state = self.shared.lock();
                let of = |round: &Round| Some((round.id.clone(), file.strip_prefix(&round.id)?.to_owned()));
                let Some((id, which)) = state.rounds.all.iter().find_map(of) else { return unknown() };
                let round = state.rounds.all.iter().find(|round| round.id == id).expect("it was found");
                Response::new(200, "application/jsonl", &text(&round.results[usize::from(which == "-errors")]))
            }
            ("POST", ["batches"]) => self.handed_in(request, format, &body()),
            ("GET", ["batches"]) => {
                let state = self.shared.lock();
                let of_format = state.rounds.all.iter().rev().filter(|round| round.format == format);
                let mut data: Vec<Value> = of_format.map(|round| round.says(0)).collect();
                if format == Format::Gemini {
                    return Response::json(200, &json!({"operations": data}));
                }
                let stranger = |(id, requests): &(String, usize)| json!({"id": id, "created_at": now(), "request_counts": {"processing": requests}});
                data.splice(0..0, state.rounds.strangers.iter().map(stranger));
                Response::json(200, &json!({"object": "list", "data": data, "has_more": false}))
            }
            (_, ["batches", id, rest @ ..]) => self.about(id, rest),
            _ => unknown(),
        }
    }

    fn about(&self, id: &str, rest: &[&str]) -> Response {
        let mut state = self.shared.lock();
        let (takes, repeats) = (state.rounds.takes, state.rounds.repeats);
        if rest == ["cancel"] {
            state.rounds.cancelled.push(id.to_owned());
        }
        let is_strange = state.rounds.strangers.iter().any(|(stranger, _)| stranger == id);
        let Some(round) = state.rounds.all.iter_mut().find(|round| round.id == id) else {
            return match rest {
                [] if is_strange => Response::json(200, &json!({"processing_status": "ended", "results_url": "x"})),
                ["results"] if is_strange => Response::new(200, "application/x-jsonl", "{\"custom_id\": \"theirs\"}\n"),
                _ => unknown(),
            };
        };
        match rest {
            [] => {
                round.asked += 1;
                Response::json(200, &round.says(takes))
            }
            ["results"] => {
                let error = json!({"type": "errored", "error": {"type": "error", "error": {"type": "api_error", "message": "again"}}});
                let again = |name: &String| json!({"custom_id": name, "result": error});
                let again = if repeats { round.requests.iter().map(again).collect() } else { Vec::new() };
                let lines = [round.results.concat(), again].concat();
                Response::new(200, "application/x-jsonl", &(text(&lines) + "no JSON\n"))
            }
            ["cancel"] => {
                round.is_cancelled = true;
                Response::json(200, &round.says(takes))
            }
            _ => unknown(),
        }
    }

    /// Takes a round in and answers each of its requests.
    fn handed_in(&self, request: &HttpRequest, format: Format, body: &Value) -> Response {
        let lines: Vec<Value> = match format {
            Format::Messages => body["requests"].as_array().cloned().unwrap_or_default(),
            Format::Gemini => {
                body["batch"]["inputConfig"]["requests"]["requests"].as_array().cloned().unwrap_or_default()
            }
            _ => {
                let state = self.shared.lock();
                let number =
                    body["input_file_id"].as_str().and_then(|id| id.strip_prefix("file-")?.parse::<usize>().ok());
                let file = number.and_then(|number| state.rounds.files.get(number - 1)).cloned().unwrap_or_default();
                file.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
            }
        };
        let mut results = [Vec::new(), Vec::new()];
        let mut names = Vec::new();
        for line in &lines {
            let name =
                line["custom_id"].as_str().or_else(|| line["metadata"]["key"].as_str()).unwrap_or_default().to_owned();
            let (result, is_good) = self.result(request, format, line);
            results[usize::from(!is_good)].push(with_name(&name, result, format));
            names.push(name);
        }
        let mut state = self.shared.lock();
        let at = state.rounds.all.len() + 1;
        let id = match format {
            Format::Messages => format!("msgbatch_{at}"),
            Format::Gemini => format!("gemini-{at}"),
            _ => format!("batch_{at}"),
        };
        let names_of_ours = [&body["metadata"]["genmake"], &body["batch"]["displayName"]];
        let name = names_of_ours.into_iter().find(|name| name.is_string()).cloned().unwrap_or_default();
        // In an order of their own, as providers say.
        results.iter_mut().for_each(|lines| lines.reverse());
        let round = Round { id, format, name, requests: names, results, asked: 0, is_cancelled: false };
        let said = round.says(usize::MAX);
        state.rounds.all.push(round);
        Response::json(200, &said)
    }

    /// What becomes of one request of a round, and whether that is good.
    fn result(&self, http: &HttpRequest, format: Format, line: &Value) -> (Value, bool) {
        let (is_messages, is_gemini) = (format == Format::Messages, format == Format::Gemini);
        let bodies = [&line["params"], &line["request"], &line["body"]];
        let body = bodies.into_iter().find(|body| body.is_object()).cloned().unwrap_or_default();
        let format = line["url"].as_str().and_then(Format::of).unwrap_or(format);
        let recorded = Recorded {
            at: Instant::now(),
            body,
            path: line["url"].as_str().unwrap_or_default().to_owned(),
            headers: http.headers.clone(),
            connection: self.number,
            format,
        };
        let Job { number, request, act, reply, flight, .. } = self.shared.admit(recorded);
        drop(flight);
        let failed = match request.format.error(&act) {
            Act::Status { code, body, .. } => Some((code, serde_json::from_str(&body).unwrap_or(Value::Null))),
            _ => None,
        };
        match (failed, &act) {
            (Some((_, error)), _) if is_gemini => (json!({"error": error["error"]}), false),
            (None, Act::Reset) if is_gemini => (json!({"error": {"code": 8, "message": "not in time"}}), false),
            (Some((_, error)), _) if is_messages => (json!({"result": {"type": "errored", "error": error}}), false),
            (Some((code, error)), _) => (json!({"response": {"status_code": code, "body": error}}), false),
            (None, Act::Reset) if is_messages => (json!({"result": {"type": "expired"}}), false),
            (None, Act::Reset) => (json!({"error": {"code": "batch_expired", "message": "not in time"}}), false),
            _ => {
                let answer = Completion::new(&act, number, &request, &reply, cache::Kept::default());
                let whole = answer.whole(&request);
                self.shared.note(&answer, &request, &whole.to_string(), false);
                match is_messages {
                    _ if is_gemini => (json!({"response": whole}), true),
                    true => (json!({"result": {"type": "succeeded", "message": whole}}), true),
                    false => (json!({"response": {"status_code": 200, "body": whole}, "error": null}), true),
                }
            }
        }
    }
}

impl Round {
    /// As its format says it, to the question after which it has ended if it takes `takes` of them.
    fn says(&self, takes: usize) -> Value {
        let has_ended = self.asked > takes || self.is_cancelled;
        let count = |which: usize| if has_ended { self.results[which].len() } else { 0 };
        let open = self.requests.len() - count(0) - count(1);
        if self.format == Format::Messages {
            return json!({
                "id": self.id, "type": "message_batch", "created_at": now(),
                "processing_status": if has_ended { "ended" } else { "in_progress" },
                "results_url": if has_ended { json!("http://elsewhere.invalid/results") } else { Value::Null },
                "request_counts": {"processing": open, "succeeded": count(0), "errored": count(1), "canceled": 0, "expired": 0},
            });
        }
        if self.format == Format::Gemini {
            let name = format!("batches/{}", self.id);
            let state = if !has_ended {
                "BATCH_STATE_RUNNING"
            } else if self.is_cancelled {
                "BATCH_STATE_CANCELLED"
            } else {
                "BATCH_STATE_SUCCEEDED"
            };
            let stats = json!({"requestCount": self.requests.len().to_string(), "successfulRequestCount": count(0).to_string()});
            let metadata = json!({"displayName": self.name, "state": state, "batchStats": stats});
            if !has_ended {
                return json!({"name": name, "metadata": metadata});
            }
            let responses = json!({"inlinedResponses": {"inlinedResponses": self.results.concat()}});
            return json!({"name": name, "metadata": metadata, "done": true, "response": responses});
        }
        let file = |which: usize, name: &str| match has_ended && !self.results[which].is_empty() {
            true => json!(format!("{}{name}", self.id)),
            false => Value::Null,
        };
        let ended = if self.is_cancelled { "cancelled" } else { "completed" };
        json!({
            "id": self.id, "object": "batch", "created_at": 4_000_000_000_u64, "metadata": {"genmake": self.name},
            "status": if has_ended { ended } else { "in_progress" },
            "output_file_id": file(0, "-output"), "error_file_id": file(1, "-errors"),
            "request_counts": {"total": self.requests.len(), "completed": count(0), "failed": count(1)},
        })
    }
}

/// A time that is no past.
fn now() -> &'static str {
    "2096-10-02T07:06:40.123456Z"
}

fn with_name(name: &str, mut result: Value, format: Format) -> Value {
    match format {
        Format::Gemini => result["metadata"] = json!({"key": name}),
        _ => result["custom_id"] = json!(name),
    }
    result
}

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// The file of a form.
fn uploaded(form: &[u8]) -> String {
    let form = String::from_utf8_lossy(form);
    let file = form.split("filename=").nth(1).and_then(|part| part.split_once("\r\n\r\n")).map(|(_, rest)| rest);
    let end = form.split("\r\n").next().map(|boundary| format!("\r\n{boundary}")).unwrap_or_default();
    file.and_then(|file| file.split(&end).next()).unwrap_or_default().to_owned()
}

fn unknown() -> Response {
    Response::json(404, &error_body("invalid_request_error", "unknown_url", "There is no such thing."))
}
