//! A provider on this machine: a small HTTP server that speaks OpenAI's chat
//! completions, for tests and benchmarks.
//!
//! It answers well until it is told to misbehave ([`Act`]), and it keeps every
//! request that it was sent ([`Recorded`]). The same request always gets the
//! same answer. It knows how a batch looks on the wire: a schema with slots
//! under `files`; a first line of the user's message that says which slot is
//! which path ([`Recorded::slot_path`]); and below it each task's own text
//! ([`Recorded::slot_text`]).
//!
//! It does not know genmake's code or the rest of its wording, and it does
//! not know streams, TLS, chunked request bodies, `Expect` or `$ref` in schemas.
//! It needs std and `serde_json` only, so that a program outside this folder can
//! include the file.
//!
//! Threads: one accepts, one serves each connection. Dropping the [`Server`]
//! closes every connection and joins every thread.

#![allow(dead_code, reason = "no program that includes the file uses all of it")]
#![allow(clippy::expect_used, clippy::panic, reason = "a test's tool fails by panic")]

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};

/// How long [`Server::wait_for`] waits before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. It stops when this is dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<Outcome>>,
}

impl Server {
    /// Starts on a free port of 127.0.0.1.
    pub fn start() -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        let address = listener.local_addr().expect("a bound port has an address");
        let shared = Arc::new(Shared::default());
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Server { address, shared, acceptor: Some(acceptor) }
    }

    /// Starts deaf: the port is taken, but every connection is closed without an answer
    /// until [`Server::hear`], as if nobody were there yet.
    pub fn start_deaf() -> Server {
        let server = Server::start();
        server.shared.lock().deaf = true;
        server
    }

    /// Ends deafness.
    pub fn hear(&self) -> &Self {
        self.shared.lock().deaf = false;
        self
    }

    /// What a Genfile names as `base_url`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    // What it does. Of several instructions for one request, the script goes
    // first, then the first rule that matches, then `always`.

    /// The next requests meet these acts, in order, one each.
    pub fn script(&self, acts: impl IntoIterator<Item = Act>) -> &Self {
        self.shared.lock().script.extend(acts);
        self
    }

    /// Every request that `matches` meets this act.
    pub fn on(&self, matches: impl Fn(&Recorded) -> bool + Send + Sync + 'static, act: Act) -> &Self {
        self.shared.lock().rules.push((Arc::new(matches), act));
        self
    }

    /// Every request that neither script nor rule speaks of meets this act.
    pub fn always(&self, act: Act) -> &Self {
        self.shared.lock().always = act;
        self
    }

    /// What good answers say: the text of a slot, or of a single request (`None`).
    ///
    /// Where the schema wants an object or a list, the text may be that JSON; any
    /// other text becomes every string of a value made after the schema.
    pub fn reply(&self, text: impl Fn(&Recorded, Option<&str>) -> String + Send + Sync + 'static) -> &Self {
        self.shared.lock().reply = Arc::new(text);
        self
    }

    /// Delays the answer to every chat request.
    pub fn latency(&self, millis: u64) -> &Self {
        self.shared.lock().latency = Duration::from_millis(millis);
        self
    }

    // What it saw. Only chat requests count; a probe by GET is answered and forgotten.

    /// The requests in the order of their arrival, also those still unanswered.
    pub fn requests(&self) -> Vec<Arc<Recorded>> {
        self.shared.lock().requests.clone()
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.shared.lock().requests.len()
    }

    /// How many connections were opened, by probes too.
    pub fn connections(&self) -> usize {
        self.shared.lock().connections
    }

    /// The most requests that waited for an answer at one time.
    pub fn max_in_flight(&self) -> usize {
        self.shared.lock().max_in_flight
    }

    /// Blocks until `n` requests have arrived since the start.
    #[track_caller]
    pub fn wait_for(&self, n: usize) {
        let waiting = |state: &mut State| state.requests.len() < n;
        let (state, _) = self
            .shared
            .arrived
            .wait_timeout_while(self.shared.lock(), PATIENCE, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        let count = state.requests.len();
        drop(state);
        assert!(count >= n, "{count} of {n} requests came within {PATIENCE:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop();
        // The acceptor looks up only when a connection comes. Where none can be
        // made, others are queued before it, and those wake the acceptor too.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        let acceptor = self.acceptor.take().expect("dropped once");
        let outcome = acceptor.join().unwrap_or(Outcome::Panicked);
        if outcome == Outcome::Panicked && !thread::panicking() {
            panic!("a thread of the test server panicked: its message is above");
        }
    }
}

/// What the server does with one request.
///
/// The acts about slots answer a single request well.
#[derive(Clone, Debug, Default)]
pub enum Act {
    /// A good answer.
    #[default]
    Default,
    /// This status, these further headers, this JSON body. See [`Act::error`].
    Status { code: u16, headers: Vec<(String, String)>, body: String },
    /// Half of the body that was announced, then the end of the connection.
    Cut,
    /// The end of the connection before any byte of an answer.
    Reset,
    /// Status 200 and a web page, as a captive portal would.
    Html,
    /// Status 200 and half of the JSON, announced as if that were all.
    HalfJson,
    /// The good content inside a Markdown code fence.
    Fenced,
    /// A friendly sentence and nothing that was asked for.
    Prose,
    /// All slots but this one.
    MissingSlot(&'static str),
    /// All slots, and this one too.
    ExtraSlot(&'static str),
    /// All slots, this one with an empty string.
    EmptySlot(&'static str),
    /// All results, under their paths instead of their slots.
    WrongSlotNames,
    /// Exactly this content.
    Content(String),
    /// Out of tokens: the first `keep` slots whole, the next cut in its middle.
    /// A single request's text is cut in its middle.
    Truncate { keep: usize },
    /// Out of tokens before the first one of an answer.
    LengthEmpty,
    /// A refusal, as OpenAI sends it: no content, and `stop`.
    Refusal,
    /// A good answer after a while.
    Slow { millis: u64 },
    /// A good answer once the gate is open.
    Hold(Gate),
    /// A good answer whose body comes in pieces of so many bytes, with a pause
    /// before each.
    Drip { chunk: usize, millis: u64 },
}

impl Act {
    /// An error in OpenAI's form; `kind` is its `type`.
    pub fn error(status: u16, kind: &str, code: &str, message: &str) -> Act {
        Act::Status { code: status, headers: Vec::new(), body: error_body(kind, code, message).to_string() }
    }

    /// 400, the prompt is longer than the model's context window.
    pub fn context_exceeded() -> Act {
        Act::error(
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "This model's maximum context length is 8192 tokens.",
        )
    }

    /// 401, a wrong key.
    pub fn unauthorized() -> Act {
        Act::error(401, "invalid_request_error", "invalid_api_key", "Incorrect API key provided.")
    }

    /// 404, no such model.
    pub fn not_found() -> Act {
        Act::error(
            404,
            "invalid_request_error",
            "model_not_found",
            "The model does not exist or you do not have access to it.",
        )
    }

    /// 429 that ends by itself after so many seconds.
    pub fn rate_limited(retry_after: u64) -> Act {
        Act::error(429, "requests", "rate_limit_exceeded", "Rate limit reached for requests.")
            .header("retry-after", &retry_after.to_string())
    }

    /// 429 that no wait will end: the account is out of credit.
    pub fn out_of_quota() -> Act {
        Act::error(429, "insufficient_quota", "insufficient_quota", "You exceeded your current quota.")
    }

    /// 500.
    pub fn server_error() -> Act {
        Act::error(500, "server_error", "server_error", "The server had an error while processing your request.")
    }

    /// 529.
    pub fn overloaded() -> Act {
        Act::error(529, "overloaded_error", "overloaded", "Overloaded.")
    }

    /// The same with a header more. Only [`Act::Status`] takes any.
    pub fn header(mut self, name: &str, value: &str) -> Act {
        match &mut self {
            Act::Status { headers, .. } => headers.push((name.to_owned(), value.to_owned())),
            _ => panic!("only `Act::Status` takes headers"),
        }
        self
    }
}

fn error_body(kind: &str, code: &str, message: &str) -> Value {
    json!({"error": {"message": message, "type": kind, "param": null, "code": code}})
}

/// Holds answers back until a test opens it. Once open, it stays open.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A closed gate.
    pub fn new() -> Gate {
        Gate::default()
    }

    /// Lets all pass who wait, and all who come.
    pub fn open(&self) {
        let (is_open, opened) = &*self.0;
        *is_open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        opened.notify_all();
    }

    fn pass(&self) {
        let (is_open, opened) = &*self.0;
        let guard = is_open.lock().unwrap_or_else(PoisonError::into_inner);
        let _open = opened.wait_while(guard, |is_open| !*is_open).unwrap_or_else(PoisonError::into_inner);
    }
}

/// A chat request as it arrived.
pub struct Recorded {
    /// The body; `null` if it was no JSON.
    pub body: Value,
    /// The headers in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Which connection it came on; the first is 0.
    pub connection: usize,
}

impl Recorded {
    /// The slots that a batch asks for, in the schema's order (which serde_json keeps
    /// with its feature `preserve_order` only); none for a single request.
    pub fn slots(&self) -> Vec<String> {
        let files = self.schema().and_then(|schema| schema["properties"]["files"]["properties"].as_object());
        files.into_iter().flat_map(|files| files.keys().cloned()).collect()
    }

    /// The path that a slot of a batch stands for; for a task with several outputs, its
    /// list of them (`header = a.h, code = a.c`).
    ///
    /// From the first line of the user's message, which reads `Do these 2 tasks. The results
    /// go to f1 is docs/a.md; f2 is docs/b.md. Answer with a JSON object: …`. A path may hold
    /// dots and spaces: it ends where the next slot or the next sentence starts.
    pub fn slot_path(&self, slot: &str) -> Option<String> {
        let text = self.user_text();
        let (_, list) = text.lines().next()?.split_once("The results go to ")?;
        let (list, _) = list.rsplit_once(". Answer with a JSON object")?;
        let list = format!("; {list}");
        let (_, rest) = list.split_once(&format!("; {slot} is "))?;
        let end = self.slot_after(slot).and_then(|next| rest.find(&format!("; {next} is ")));
        Some(rest[..end.unwrap_or(rest.len())].to_owned())
    }

    /// What a batch's user message says for one slot: what follows its line `SLOT:`.
    pub fn slot_text(&self, slot: &str) -> Option<String> {
        let text = self.user_text();
        let (_, rest) = text.split_once(&format!("\n\n{slot}:\n"))?;
        let end = self.slot_after(slot).and_then(|next| rest.find(&format!("\n\n{next}:\n")));
        Some(rest[..end.unwrap_or(rest.len())].trim_end().to_owned())
    }

    fn slot_after(&self, slot: &str) -> Option<String> {
        self.slots().into_iter().skip_while(|s| s != slot).nth(1)
    }

    /// The paths that a batch asks for, in the order of its slots.
    pub fn paths(&self) -> Vec<String> {
        let slots = self.slots();
        slots.iter().filter_map(|s| self.slot_path(s)).collect()
    }

    /// What the user messages say.
    pub fn user_text(&self) -> String {
        self.text_of(&["user"])
    }

    /// What the system messages say.
    pub fn system_text(&self) -> String {
        self.text_of(&["system", "developer"])
    }

    /// A header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        find_header(&self.headers, name)
    }

    /// The schema that the answer must keep to.
    pub fn schema(&self) -> Option<&Value> {
        self.body.pointer("/response_format/json_schema/schema")
    }

    fn text_of(&self, roles: &[&str]) -> String {
        let messages = self.body["messages"].as_array().into_iter().flatten();
        let spoken = messages.filter(|m| roles.iter().any(|role| m["role"] == *role));
        let texts: Vec<String> = spoken.map(|m| content_text(&m["content"])).collect();
        texts.join("\n")
    }

    fn prompt_tokens(&self) -> usize {
        let messages = self.body["messages"].as_array().into_iter().flatten();
        tokens(messages.map(|m| content_text(&m["content"]).chars().count()).sum())
    }
}

/// Content is a string or a list of parts, of which those with text count.
fn content_text(content: &Value) -> String {
    match content {
        Value::Array(parts) => parts.iter().filter_map(|p| p["text"].as_str()).collect(),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

fn tokens(chars: usize) -> usize {
    chars / 4
}

// ---- what the threads share ----

type Predicate = Arc<dyn Fn(&Recorded) -> bool + Send + Sync>;
type Reply = Arc<dyn Fn(&Recorded, Option<&str>) -> String + Send + Sync>;

/// Closures of a test never run under the lock: they may ask the server things.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Told of each request.
    arrived: Condvar,
    /// Told of the end; its own, so that no request wakes those who sleep.
    stopped: Condvar,
}

struct State {
    stopping: bool,
    /// Closes every connection unheard.
    deaf: bool,
    connections: usize,
    /// The connections that must be closed at the end.
    open: BTreeMap<usize, TcpStream>,
    /// The gates that someone may be waiting at.
    held: Vec<Gate>,

    requests: Vec<Arc<Recorded>>,
    in_flight: usize,
    max_in_flight: usize,

    script: VecDeque<Act>,
    rules: Vec<(Predicate, Act)>,
    always: Act,
    reply: Reply,
    latency: Duration,
}

impl Default for State {
    fn default() -> State {
        State {
            stopping: false,
            deaf: false,
            connections: 0,
            open: BTreeMap::new(),
            held: Vec::new(),
            requests: Vec::new(),
            in_flight: 0,
            max_in_flight: 0,
            script: VecDeque::new(),
            rules: Vec::new(),
            always: Act::Default,
            reply: Arc::new(default_reply),
            latency: Duration::ZERO,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_deaf(&self) -> bool {
        let state = self.lock();
        state.deaf && !state.stopping
    }

    /// Wakes whoever waits and ends whoever reads or writes.
    fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        for gate in state.held.drain(..) {
            gate.open();
        }
        for stream in state.open.values() {
            let _ = stream.shutdown(Shutdown::Both); // closed by the client: as good
        }
        self.stopped.notify_all();
    }

    /// Enters a connection, unless it is too late.
    fn connect(self: &Arc<Self>, stream: TcpStream) -> Option<Connection> {
        let mut state = self.lock();
        if state.stopping {
            return None;
        }
        let number = state.connections;
        state.connections += 1;
        let closer = stream.try_clone().expect("a socket's handle can be copied");
        state.open.insert(number, closer);
        Some(Connection { number, reader: BufReader::new(stream), shared: Arc::clone(self) })
    }

    /// Enters a request and finds what is to be done with it.
    fn admit(&self, request: Recorded) -> Job<'_> {
        let request = Arc::new(request);
        let mut state = self.lock();
        state.requests.push(Arc::clone(&request));
        state.in_flight += 1;
        state.max_in_flight = state.max_in_flight.max(state.in_flight);
        let flight = InFlight(self);
        let number = state.requests.len();
        let scripted = state.script.pop_front();
        let rules = state.rules.clone();
        let always = state.always.clone();
        let reply = Arc::clone(&state.reply);
        let latency = state.latency;
        drop(state);
        self.arrived.notify_all();

        let ruled = || {
            let rule = rules.iter().find(|(matches, _)| matches(&request));
            rule.map(|(_, act)| act.clone())
        };
        let act = scripted.or_else(ruled).unwrap_or(always);
        Job { number, request, act, reply, latency, flight }
    }

    /// Sleeps; false if the server stops.
    fn pause(&self, time: Duration) -> bool {
        let (state, _) = self
            .stopped
            .wait_timeout_while(self.lock(), time, |state| !state.stopping)
            .unwrap_or_else(PoisonError::into_inner);
        !state.stopping
    }

    /// Waits at a gate; false if the server stops.
    fn hold(&self, gate: &Gate) -> bool {
        let mut state = self.lock();
        if state.stopping {
            return false;
        }
        state.held.push(gate.clone());
        drop(state);
        gate.pass();
        !self.lock().stopping
    }
}

/// A request and what is to be done with it.
struct Job<'a> {
    /// Counts requests from 1.
    number: usize,
    request: Arc<Recorded>,
    act: Act,
    reply: Reply,
    latency: Duration,
    flight: InFlight<'a>,
}

/// Counts a request as unanswered for as long as it lives.
struct InFlight<'a>(&'a Shared);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

// ---- connections ----

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Fine,
    Panicked,
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) -> Outcome {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut outcome = Outcome::Fine;
    let mut join = |thread: JoinHandle<()>| {
        if thread.join().is_err() {
            outcome = Outcome::Panicked;
        }
    };
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue }; // the client left while it waited
        if shared.is_deaf() {
            continue;
        }
        let Some(mut connection) = shared.connect(stream) else {
            break;
        };
        threads.extract_if(.., |thread| thread.is_finished()).for_each(&mut join);
        threads.push(thread::spawn(move || {
            let _ = connection.serve(); // the client left: its right
        }));
    }
    threads.into_iter().for_each(&mut join);
    outcome
}

/// One client's connection, closed when this is dropped.
struct Connection {
    number: usize,
    reader: BufReader<TcpStream>,
    shared: Arc<Shared>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.lock().open.remove(&self.number);
    }
}

/// Whether a connection serves another request.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    GoOn,
    Close,
}

impl Connection {
    fn serve(&mut self) -> io::Result<()> {
        self.reader.get_ref().set_nodelay(true)?;
        while let Some(request) = HttpRequest::read(&mut self.reader)? {
            let is_last =
                find_header(&request.headers, "connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let is_chat = request.path.ends_with("/chat/completions");
            let then = match request.method.as_str() {
                "POST" if is_chat => self.chat(request)?,
                "GET" => {
                    let nothing = json!({"object": "list", "data": []});
                    self.send(&Response::json(200, &nothing))?
                }
                method => {
                    let message = format!("Unknown request URL: {method} {}.", request.path);
                    let error = error_body("invalid_request_error", "unknown_url", &message);
                    self.send(&Response::json(404, &error))?
                }
            };
            if is_last || then == Then::Close {
                break;
            }
        }
        Ok(())
    }

    fn chat(&self, request: HttpRequest) -> io::Result<Then> {
        let Job { number, request, act, reply, latency, flight } = self.shared.admit(Recorded {
            body: serde_json::from_slice(&request.body).unwrap_or(Value::Null),
            headers: request.headers,
            connection: self.number,
        });
        let act = if request.body.is_object() {
            act
        } else {
            Act::error(400, "invalid_request_error", "bad_json", "No JSON object.")
        };

        let goes_on = match &act {
            Act::Slow { millis } => self.shared.pause(latency + Duration::from_millis(*millis)),
            Act::Hold(gate) => self.shared.pause(latency) && self.shared.hold(gate),
            _ => self.shared.pause(latency),
        };
        if !goes_on || matches!(act, Act::Reset) {
            return Ok(Then::Close);
        }

        let mut response = Response::to(&act, || completion(&act, number, &request, &reply));
        response.header("x-request-id", &format!("req-{number}"));
        match act {
            Act::Cut => {
                drop(flight);
                self.write(&response.head())?;
                self.write(&response.body[..response.body.len() / 2])?;
                Ok(Then::Close)
            }
            Act::Drip { chunk, millis } => self.drip(&response, chunk, Duration::from_millis(millis), flight),
            _ => {
                drop(flight); // first: the client may be faster than this thread
                self.send(&response)
            }
        }
    }

    fn send(&self, response: &Response) -> io::Result<Then> {
        let mut bytes = response.head();
        bytes.extend(&response.body);
        self.write(&bytes)?;
        Ok(Then::GoOn)
    }

    fn drip(&self, response: &Response, chunk: usize, pause: Duration, flight: InFlight<'_>) -> io::Result<Then> {
        self.write(&response.head())?;
        let mut flight = Some(flight);
        let mut pieces = response.body.chunks(chunk.max(1)).peekable();
        while let Some(piece) = pieces.next() {
            if !self.shared.pause(pause) {
                return Ok(Then::Close);
            }
            if pieces.peek().is_none() {
                flight.take();
            }
            self.write(piece)?;
        }
        Ok(Then::GoOn)
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_ref().write_all(bytes)
    }
}

// ---- HTTP ----

struct HttpRequest {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl HttpRequest {
    /// The next request; none if the client has closed the connection.
    fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<HttpRequest>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace().map(str::to_owned);
        let method = words.next().unwrap_or_default();
        let path = words.next().unwrap_or_default();

        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            let Some((name, value)) = line.split_once(':') else {
                break; // the empty line
            };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }

        let length = find_header(&headers, "content-length").and_then(|value| value.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body)?;
        Ok(Some(HttpRequest { method, path, headers, body }))
    }
}

fn find_header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let header = headers.iter().find(|(n, _)| n == name)?;
    Some(&header.1)
}

struct Response {
    code: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn new(code: u16, kind: &str, body: &str) -> Response {
        Response { code, headers: vec![("content-type".to_owned(), kind.to_owned())], body: body.as_bytes().to_vec() }
    }

    fn json(code: u16, body: &Value) -> Response {
        Response::new(code, "application/json", &body.to_string())
    }

    /// The bytes that an act sends; `completion` is asked for if it sends one.
    fn to(act: &Act, completion: impl FnOnce() -> Value) -> Response {
        match act {
            Act::Status { code, headers, body } => {
                let mut response = Response::new(*code, "application/json", body);
                response.headers.extend_from_slice(headers);
                response
            }
            Act::Html => {
                let page = "<!DOCTYPE html><html><body>Please sign in.</body></html>\n";
                Response::new(200, "text/html", page)
            }
            Act::HalfJson => {
                let mut response = Response::json(200, &completion());
                response.body.truncate(response.body.len() / 2);
                response
            }
            _ => Response::json(200, &completion()),
        }
    }

    fn header(&mut self, name: &str, value: &str) {
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn head(&self) -> Vec<u8> {
        let phrase = if self.code < 400 { "OK" } else { "Error" };
        let mut head = format!("HTTP/1.1 {} {phrase}\r\n", self.code);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("content-length: {}\r\n\r\n", self.body.len());
        head.into_bytes()
    }
}

// ---- answers ----

/// The text that the server gives unless a test sets another.
fn default_reply(request: &Recorded, slot: Option<&str>) -> String {
    match slot {
        Some(slot) => {
            let path = request.slot_path(slot);
            format!("# {}\n", path.as_deref().unwrap_or(slot))
        }
        None => {
            let hash = format!("{:016x}", fnv1a(request.user_text().as_bytes()));
            format!("# single {}\n", &hash[..12])
        }
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The body of a chat completion.
fn completion(act: &Act, number: usize, request: &Recorded, reply: &Reply) -> Value {
    let Said { content, refusal, finish_reason } = say(act, request, reply);
    let prompt_tokens = request.prompt_tokens();
    let completion_tokens = tokens(content.as_deref().unwrap_or_default().chars().count());
    json!({
        "id": format!("chatcmpl-{number}"),
        "object": "chat.completion",
        "created": 0,
        "model": request.body["model"],
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": content, "refusal": refusal},
            "finish_reason": finish_reason,
        }],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    })
}

/// The model's part of an answer.
struct Said {
    content: Option<String>,
    refusal: Option<&'static str>,
    finish_reason: &'static str,
}

impl Said {
    fn whole(content: String) -> Said {
        Said { content: Some(content), refusal: None, finish_reason: "stop" }
    }

    fn out_of_tokens(content: String) -> Said {
        Said { finish_reason: "length", ..Said::whole(content) }
    }
}

fn say(act: &Act, request: &Recorded, reply: &Reply) -> Said {
    match act {
        Act::Content(content) => return Said::whole(content.clone()),
        Act::Prose => return Said::whole("Sure, I can help you with these files!".to_owned()),
        Act::LengthEmpty => return Said::out_of_tokens(String::new()),
        Act::Refusal => {
            return Said { content: None, refusal: Some("I'm sorry, I can't help with that."), finish_reason: "stop" };
        }
        _ => {}
    }

    let mut files = results(request, reply);
    if files.is_empty() {
        let text = single(request, reply);
        return match act {
            Act::Truncate { .. } => Said::out_of_tokens(first_half(&text).to_owned()),
            Act::Fenced if request.schema().is_none() => Said::whole(format!("```\n{text}```\n")),
            Act::Fenced => Said::whole(fenced(&text)),
            _ => Said::whole(text),
        };
    }
    match act {
        Act::MissingSlot(slot) => files.retain(|(name, _)| name != slot),
        Act::ExtraSlot(slot) => files.push(((*slot).to_owned(), Value::from("surplus\n"))),
        Act::EmptySlot(slot) => {
            for (_, value) in files.iter_mut().filter(|(name, _)| name == slot) {
                *value = Value::from("");
            }
        }
        Act::WrongSlotNames => {
            for (name, _) in &mut files {
                *name = request.slot_path(name).unwrap_or_else(|| format!("not-{name}"));
            }
        }
        Act::Truncate { keep } => return Said::out_of_tokens(truncated(&files, *keep)),
        Act::Fenced => return Said::whole(fenced(&batch(&files))),
        _ => {}
    }
    Said::whole(batch(&files))
}

/// Each slot's good result, in order; nothing for a single request.
fn results(request: &Recorded, reply: &Reply) -> Vec<(String, Value)> {
    let result = |slot: String| {
        let schema = request.schema().map(|schema| {
            let slots = &schema["properties"]["files"]["properties"];
            &slots[&slot]
        });
        let value = shaped(schema.unwrap_or(&Value::Null), reply(request, Some(&slot)));
        (slot, value)
    };
    request.slots().into_iter().map(result).collect()
}

/// The good content for a single request.
fn single(request: &Recorded, reply: &Reply) -> String {
    let text = reply(request, None);
    match request.schema() {
        Some(schema) => shaped(schema, text).to_string(),
        None => text,
    }
}

/// A value that fits a schema: the text itself if it is the object or list that
/// is wanted, otherwise one made up, with the text for every string.
fn shaped(schema: &Value, text: String) -> Value {
    let wants_more = matches!(type_of(schema), "object" | "array");
    match serde_json::from_str::<Value>(&text) {
        Ok(value) if wants_more && (value.is_object() || value.is_array()) => value,
        _ => made_up(schema, &text),
    }
}

fn made_up(schema: &Value, text: &str) -> Value {
    if let Some(first) = schema.pointer("/enum/0").or_else(|| schema.get("const")) {
        return first.clone();
    }
    if let Some(first) = schema.pointer("/anyOf/0") {
        return made_up(first, text);
    }
    match type_of(schema) {
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            properties.map(|(name, schema)| (name.clone(), made_up(schema, text))).collect()
        }
        "array" => json!([made_up(&schema["items"], text)]),
        "number" | "integer" => json!(1),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => Value::from(text),
    }
}

/// The type that a schema names, the first of several.
fn type_of(schema: &Value) -> &str {
    let kind = &schema["type"];
    kind.as_str().or(kind[0].as_str()).unwrap_or_default()
}

// A batch's JSON is written by hand: the order of slots is the answer's own.

fn batch(files: &[(String, Value)]) -> String {
    format!("{}}}}}", batch_start(files))
}

/// The first `keep` slots, and the next up to its middle.
fn truncated(files: &[(String, Value)], keep: usize) -> String {
    let keep = keep.min(files.len());
    let mut text = batch_start(&files[..keep]);
    if let Some((name, value)) = files.get(keep) {
        let comma = if keep > 0 { "," } else { "" };
        let value = value.to_string();
        text += &format!("{comma}{}:{}", Value::from(name.as_str()), first_half(&value));
    }
    text
}

/// A batch without the braces at its end.
fn batch_start(files: &[(String, Value)]) -> String {
    let pair = |(name, value): &(String, Value)| format!("{}:{value}", Value::from(name.as_str()));
    let pairs: Vec<String> = files.iter().map(pair).collect();
    format!("{{\"files\":{{{}", pairs.join(","))
}

fn fenced(json: &str) -> String {
    format!("Here you go:\n\n```json\n{json}\n```\n")
}

fn first_half(text: &str) -> &str {
    let is_middle = |at: &usize| *at >= text.len() / 2 && text.is_char_boundary(*at);
    &text[..(0..=text.len()).find(is_middle).unwrap_or(0)]
}
